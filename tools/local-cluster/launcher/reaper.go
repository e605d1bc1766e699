package main

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// reaper waits for all children of the first process: those that it started,
// and those whose parents are gone, which fall to it. The standard library's
// os/exec cannot share that with anyone, so it is not used here.
type reaper struct {
	mu      sync.Mutex
	waiting map[int]chan syscall.WaitStatus
}

func newReaper() *reaper {
	return &reaper{waiting: map[int]chan syscall.WaitStatus{}}
}

func (r *reaper) loop() {
	child := make(chan os.Signal, 1)
	signal.Notify(child, syscall.SIGCHLD)
	for {
		r.reapAll()
		<-child
	}
}

func (r *reaper) reapAll() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		r.deliver(pid, status)
	}
}

func (r *reaper) deliver(pid int, status syscall.WaitStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if waiter, ours := r.waiting[pid]; ours {
		waiter <- status
		delete(r.waiting, pid)
	}
}

// start runs a program with nothing on stdin and all that it prints in a file.
// The lock is held so that a child that ends at once is not missed.
func (r *reaper) start(log *os.File, env []string, program string, args ...string) (<-chan syscall.WaitStatus, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(program, append([]string{program}, args...), &syscall.ProcAttr{
		Dir: "/", Env: env, Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	// Room for one, so that delivering never waits.
	waiter := make(chan syscall.WaitStatus, 1)
	r.waiting[pid] = waiter
	return waiter, nil
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "signal: " + status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}
