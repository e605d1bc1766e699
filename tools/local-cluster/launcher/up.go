package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
)

func up(l layout, _ []string) error {
	if err := preflight(l); err != nil {
		return err
	}
	if err := lockCluster(l); err != nil {
		return err
	}
	if s, err := running(l); err == nil {
		fmt.Printf("the cluster already runs in %s (pid %d)\n", l.dir, s.PID)
		return nil
	}
	if err := clearLeftovers(l); err != nil {
		return err
	}
	return startOrTearDown(l)
}

// clearLeftovers removes what a crashed run left, and refuses a folder that
// holds somebody's files.
func clearLeftovers(l layout) error {
	_, err := os.Stat(l.state())
	if err == nil {
		fmt.Println("clearing up after an earlier run that did not end well")
		return tearDown(l)
	}
	entries, err := os.ReadDir(l.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s holds files that are not a cluster's: give --dir a new or empty folder", l.dir)
	}
	return nil
}

func startOrTearDown(l layout) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	began := newClock(os.Stdout)
	kind := startKind(l)
	if err := start(ctx, l, began); err != nil {
		explain(l, err)
		return errors.Join(err, tearDown(l))
	}
	fmt.Println(began.summary(kind))
	return nil
}

func start(ctx context.Context, l layout, began *clock) error {
	s := state{}
	if err := os.MkdirAll(l.dir, 0o711); err != nil {
		return err
	}
	if err := writeState(l, s); err != nil {
		return err
	}
	if err := prepare(l, &s); err != nil {
		return err
	}
	began.step("certificates and configuration written")
	events, err := startSupervisor(l, &s)
	if err != nil {
		return err
	}
	defer events.Close()
	// An interrupt closes the pipe, which ends the wait.
	defer context.AfterFunc(ctx, func() { events.Close() })()
	err = began.follow(events)
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return err
}

// prepare writes all files and makes all folders outside the namespaces.
func prepare(l layout, s *state) error {
	if err := l.makeFolders(); err != nil {
		return err
	}
	plugins, err := cniPlugins()
	if err != nil {
		return err
	}
	if err := writePKI(l); err != nil {
		return err
	}
	if err := writeConfigs(l, newSettings(l, plugins)); err != nil {
		return err
	}
	s.Mountpoints = missingMountpoints()
	if err := writeState(l, *s); err != nil {
		return err
	}
	return errors.Join(makeMountpoints(), makeCgroups(l))
}
