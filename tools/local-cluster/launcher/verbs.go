package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

func execute(l layout, argv []string) error { return runInside(l, argv) }

func shell(l layout, _ []string) error {
	program := os.Getenv("SHELL")
	if program == "" {
		program = "/bin/sh"
	}
	fmt.Fprintln(os.Stderr, "inside the cluster: kubectl, helm and ctr are on PATH; leave with exit")
	err := runInside(l, []string{program})
	if _, ended := err.(exitCode); ended {
		return nil // the code of the last command typed is nobody's error
	}
	return err
}

// load imports image archives one after the other.
func load(l layout, archives []string) error {
	if _, err := running(l); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, archive := range archives {
		if err := loadOne(l, self, archive); err != nil {
			return err
		}
	}
	return nil
}

// loadOne starts this program anew, for a thread enters the namespaces once.
func loadOne(l layout, self, archive string) error {
	began := time.Now()
	path, err := filepath.Abs(archive)
	if err != nil {
		return err
	}
	if info, err := os.Stat(path); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no file: load takes a docker or OCI archive (buildah push IMAGE docker-archive:FILE:NAME:TAG)", archive)
	}
	fmt.Println("loading", archive)
	argv := append([]string{self, "exec", "--dir", l.dir, "--", "ctr"}, importArguments(l, path)...)
	folder, err := os.Getwd()
	if err != nil {
		return err
	}
	if err := runCommand(folder, os.Environ(), argv); err != nil {
		return fmt.Errorf("load %s: %w", archive, err)
	}
	fmt.Printf("loaded %s in %.1f s\n", archive, time.Since(began).Seconds())
	return nil
}
