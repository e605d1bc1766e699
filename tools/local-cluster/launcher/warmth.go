package main

import "golang.org/x/sys/unix"

// ranSinceBoot is an attribute of the program's file, so that it goes with the
// file from one cache folder to the next.
const ranSinceBoot = "user.local-cluster.ran-since-boot"

// startKind is "warm" when the programs have run since the machine booted, so
// that the kernel has them in memory, and else "cold".
func startKind(l layout) string {
	boot, err := bootID()
	if err != nil {
		return "cold"
	}
	last := make([]byte, len(boot))
	size, err := unix.Getxattr(l.program("kubernetes"), ranSinceBoot, last)
	if err == nil && string(last[:size]) == boot {
		return "warm"
	}
	// Where a file can have no attributes, every start is called cold.
	_ = unix.Setxattr(l.program("kubernetes"), ranSinceBoot, []byte(boot), 0)
	return "cold"
}
