package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// missingMountpoints are the folders that must be made to mount something
// there, parents first.
func missingMountpoints() []string {
	var missing []string
	for _, private := range privateFolders {
		missing = append(missing, missingParents(private.over)...)
	}
	return slices.Compact(missing)
}

func missingParents(folder string) []string {
	if _, err := os.Stat(folder); err == nil || folder == "/" {
		return nil
	}
	return append(missingParents(filepath.Dir(folder)), folder)
}

func makeMountpoints() error {
	for _, private := range privateFolders {
		if err := os.MkdirAll(private.over, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// removeMountpoints removes those that the cluster made, children first,
// except where something is mounted on one in any namespace: to remove a
// folder unmounts it there, and another cluster may need it.
func removeMountpoints(made []string) error {
	if len(made) == 0 {
		return nil
	}
	used, err := mountedAnywhere()
	if err != nil {
		return err
	}
	for _, folder := range slices.Backward(made) {
		if !used[folder] {
			// One that somebody put something into is theirs now.
			_ = os.Remove(folder)
		}
	}
	return nil
}

// mountedAnywhere has all mount points that any process sees.
func mountedAnywhere() (map[string]bool, error) {
	files, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the process has ended
		}
		for line := range strings.Lines(string(text)) {
			if fields := strings.Fields(line); len(fields) > 4 {
				used[fields[4]] = true
			}
		}
	}
	return used, nil
}
