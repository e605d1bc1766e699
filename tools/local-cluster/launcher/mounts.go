package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// kernelTunables are files of /proc/sys that the kubelet wants to hold these
// values. It gets to see them, and the machine's own stay as they are.
var kernelTunables = map[string]string{
	"/proc/sys/vm/overcommit_memory": "1\n",
	"/proc/sys/kernel/panic":         "10\n",
	"/proc/sys/kernel/panic_on_oops": "1\n",
}

// setUpMounts runs in the new mount namespace.
func setUpMounts(l layout) error {
	// What is mounted here stays here; what the machine unmounts goes here too.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, private := range privateFolders {
		if err := bind(l.data(private.name), private.over); err != nil {
			return err
		}
		// Containers' mounts must reach the kubelet and back.
		if err := unix.Mount("", private.over, "", unix.MS_SHARED, ""); err != nil {
			return err
		}
	}
	if err := bindResolver(l); err != nil {
		return err
	}
	return bindTunables(l)
}

// bindResolver makes the names of Services known to what runs on the node. A
// machine without the file has nothing to put it over, and goes without.
func bindResolver(l layout) error {
	const file = "/etc/resolv.conf"
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return bind(l.config("resolv.conf"), file)
}

func bindTunables(l layout) error {
	for file, value := range kernelTunables {
		ours := l.data(filepath.Base(file))
		if err := os.WriteFile(ours, []byte(value), 0o644); err != nil {
			return err
		}
		if err := bind(ours, file); err != nil {
			return err
		}
	}
	return nil
}

func bind(from, over string) error {
	if err := unix.Mount(from, over, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s over %s: %w", from, over, err)
	}
	return nil
}
