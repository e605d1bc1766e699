package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// enter moves the main thread into the cluster's namespaces; what it starts
// from then on lives there.
func enter(s state) error {
	fd, err := unix.PidfdOpen(s.PID, 0)
	if err != nil {
		return fmt.Errorf("process %d: %w", s.PID, err)
	}
	defer unix.Close(fd)
	// A thread that shares its working folder with others may not change its mounts.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNS|unix.CLONE_NEWNET|unix.CLONE_NEWPID); err != nil {
		return fmt.Errorf("enter the namespaces of process %d: %w", s.PID, err)
	}
	return nil
}

// runInside runs a command in the cluster's namespaces, in this working
// folder and with this terminal, and returns its exit code as an error.
func runInside(l layout, argv []string) error {
	if os.Getuid() != 0 {
		return errors.New("this needs root: run it with sudo")
	}
	s, err := running(l)
	if err != nil {
		return err
	}
	folder, err := os.Getwd()
	if err != nil {
		return err
	}
	if err := enter(s); err != nil {
		return err
	}
	return runCommand(folder, clientEnvironment(l, os.Environ()), argv)
}

func runCommand(folder string, env, argv []string) error {
	os.Setenv("PATH", valueOf(env, "PATH"))
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	cmd := exec.Command(program, argv[1:]...)
	cmd.Args[0] = argv[0]
	cmd.Dir, cmd.Env = folder, env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	go passSignals(cmd.Process)
	return exitOf(cmd.Wait())
}

// passSignals hands signals on. A terminal sends an interrupt to both by
// itself, so that one is only kept from ending this process.
func passSignals(process *os.Process) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	for received := range signals {
		if received != syscall.SIGINT {
			_ = process.Signal(received)
		}
	}
}

func exitOf(err error) error {
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		return err
	}
	if status := ended.Sys().(syscall.WaitStatus); status.Signaled() {
		return exitCode(128 + int(status.Signal()))
	}
	return exitCode(ended.ExitCode())
}
