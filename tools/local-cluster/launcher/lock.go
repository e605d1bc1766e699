package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockCluster keeps two runs from starting or stopping the same cluster at
// once. The lock is on the folder above, so it leaves no file behind, and goes
// with the process.
func lockCluster(l layout) error {
	parent := filepath.Dir(l.dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	fd, err := unix.Open(parent, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", parent, err)
	}
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
		return nil
	}
	fmt.Fprintln(os.Stderr, "waiting for another local-cluster command")
	return unix.Flock(fd, unix.LOCK_EX)
}
