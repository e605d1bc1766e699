package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	superviseVerb  = "supervise" // internal: the first process in the namespaces
	supervisorName = "supervisor"
	eventsFD       = 3
)

// startSupervisor starts this program as the first process of new namespaces
// and returns the stream of its events. Until the cluster is up, the end of
// this process is the end of that one.
func startSupervisor(l layout, s *state) (*os.File, error) {
	events, send, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer send.Close()
	log, err := os.Create(l.log(supervisorName))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe", superviseVerb, "--dir", l.dir)
	cmd.Args[0] = l.program("local-cluster")
	cmd.Dir, cmd.Env = "/", daemonEnvironment(l)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{send}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID,
		Setsid:     true,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		events.Close()
		return nil, explainNamespaces(err)
	}
	return events, recordSupervisor(l, s, cmd.Process.Pid)
}

func recordSupervisor(l layout, s *state, pid int) error {
	started, _, err := processStart(pid)
	if err != nil {
		return fmt.Errorf("the supervisor: %w", err)
	}
	s.PID, s.Started = pid, started
	return writeState(l, *s)
}

func explainNamespaces(err error) error {
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("this machine lets nobody make mount, network and process namespaces (%w); a container needs --privileged", err)
	}
	return err
}

func daemonEnvironment(l layout) []string {
	return []string{"PATH=" + l.bin + ":" + daemonPath, "HOME=/root", "LANG=C.UTF-8"}
}
