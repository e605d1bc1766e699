package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
)

// daemon is a component that was started.
type daemon struct {
	name   string
	mu     sync.Mutex
	status *syscall.WaitStatus
}

func (d *daemon) ended() (syscall.WaitStatus, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.status == nil {
		return 0, false
	}
	return *d.status, true
}

// watch notes the daemon's end, also in the file that "status" shows.
func (d *daemon) watch(l layout, done <-chan syscall.WaitStatus) {
	status := <-done
	d.mu.Lock()
	d.status = &status
	d.mu.Unlock()
	note := fmt.Sprintf("%s ended (%s), see %s\n", d.name, describe(status), l.log(d.name))
	if err := appendTo(l.endings(), note); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func (l layout) endings() string { return filepath.Join(l.dir, "ended-components") }

func appendTo(file, text string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

func (s *supervisor) startAll(components ...component) error {
	for _, c := range components {
		if err := s.startDaemon(c); err != nil {
			return err
		}
	}
	return nil
}

func (s *supervisor) startDaemon(c component) error {
	log, err := os.Create(s.layout.log(c.name))
	if err != nil {
		return err
	}
	defer log.Close()
	done, err := s.reaper.start(log, daemonEnvironment(s.layout), s.layout.program(c.name), c.args...)
	if err != nil {
		return &startError{supervisorName, err.Error()}
	}
	d := &daemon{name: c.name}
	s.daemons = append(s.daemons, d)
	go d.watch(s.layout, done)
	return nil
}

// runTool runs a short command to its end; what it prints is in the
// supervisor's log.
func (s *supervisor) runTool(name string, args ...string) error {
	program, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("%w; %s", err, installHint)
	}
	done, err := s.reaper.start(os.Stderr, daemonEnvironment(s.layout), program, args...)
	if err != nil {
		return err
	}
	if status := <-done; status != 0 {
		return fmt.Errorf("%s %q: %s", name, args, describe(status))
	}
	return nil
}

func (s *supervisor) importPause() error {
	return s.runTool("ctr", importArguments(s.layout, s.layout.program("pause.tar"))...)
}

// importArguments are ctr's for an image that the kubelet shall find.
func importArguments(l layout, archive string) []string {
	return []string{"--namespace", "k8s.io", "images", "import", "--local", "--snapshotter", l.snapshotter(), archive}
}
