package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

func down(l layout, _ []string) error {
	if err := lockCluster(l); err != nil {
		return err
	}
	began := time.Now()
	if _, err := os.Stat(l.state()); errors.Is(err, fs.ErrNotExist) {
		fmt.Println("no cluster in", l.dir)
		return nil
	}
	if err := tearDown(l); err != nil {
		return err
	}
	fmt.Printf("stopped and removed in %.1f s\n", time.Since(began).Seconds())
	return nil
}

// tearDown works on a running cluster, on one that crashed at any point of its
// start, and on half of a tear-down. The state file goes last.
func tearDown(l layout) error {
	s, err := readState(l)
	if err != nil {
		return err
	}
	if here, _ := s.process(); here {
		if err := kill(s.PID); err != nil {
			return err
		}
	}
	if err := removeCgroups(l); err != nil {
		return err
	}
	if err := removeMountpoints(s.Mountpoints); err != nil {
		return err
	}
	return removeFolder(l)
}

const killLimit = 30 * time.Second

// kill ends the first process of the namespaces. The kernel ends all others
// before it reports that one's end, and then drops mounts, links and rules.
func kill(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return awaitEnd(fd, pid)
}

func awaitEnd(fd, pid int) error {
	waiting := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(killLimit); time.Now().Before(deadline); {
		ready, err := unix.Poll(waiting, int(time.Until(deadline).Milliseconds())+1)
		if ready > 0 {
			return nil
		}
		if err != nil && err != unix.EINTR {
			return err
		}
	}
	return fmt.Errorf("process %d has not ended %s after SIGKILL", pid, killLimit)
}

func removeFolder(l layout) error {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if path := l.dir + "/" + entry.Name(); path != l.state() {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return os.RemoveAll(l.dir)
}
