package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// cgroupName is the path, below the root of every hierarchy, of the cgroup
// that all pods of this cluster are in.
func (l layout) cgroupName() string {
	sum := sha256.Sum256([]byte(l.dir))
	return fmt.Sprintf("/local-cluster-%x", sum[:4])
}

// cgroupMount is one mounted hierarchy.
type cgroupMount struct {
	path    string
	unified bool
}

// cgroupMounts reads the text of /proc/self/mounts.
func cgroupMounts(mounts string) []cgroupMount {
	var found []cgroupMount
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) > 2 && (fields[2] == "cgroup" || fields[2] == "cgroup2") {
			found = append(found, cgroupMount{path: fields[1], unified: fields[2] == "cgroup2"})
		}
	}
	return found
}

func currentCgroupMounts() ([]cgroupMount, error) {
	text, err := os.ReadFile("/proc/self/mounts")
	return cgroupMounts(string(text)), err
}

// makeCgroups makes the cluster's cgroup in every hierarchy, so that nothing
// of it lands in the root.
func makeCgroups(l layout) error {
	mounts, err := currentCgroupMounts()
	if err != nil {
		return err
	}
	if len(mounts) == 0 {
		return errors.New("no cgroup hierarchy is mounted, but the kubelet needs one (mount cgroup2 at /sys/fs/cgroup)")
	}
	for _, mount := range mounts {
		if mount.unified {
			if err := delegateControllers(mount.path); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(filepath.Join(mount.path, l.cgroupName()), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// delegateControllers lets the children of a cgroup v2 root have controllers.
// Beside cgroup v1 hierarchies it has none of those that matter.
func delegateControllers(root string) error {
	available, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, controller := range []string{"cpuset", "cpu", "io", "memory", "pids"} {
		if !slices.Contains(strings.Fields(string(available)), controller) {
			continue
		}
		file := filepath.Join(root, "cgroup.subtree_control")
		if err := os.WriteFile(file, []byte("+"+controller), 0o644); err != nil {
			return fmt.Errorf("cannot give the cgroup controller %s to the cluster: %w", controller, err)
		}
	}
	return nil
}

// removeCgroups removes the cluster's cgroups. The kernel lets go of the last
// ones a moment after their processes are gone.
func removeCgroups(l layout) error {
	mounts, err := currentCgroupMounts()
	if err != nil {
		return err
	}
	for _, mount := range mounts {
		top := filepath.Join(mount.path, l.cgroupName())
		if err := retry(10*time.Second, func() error { return removeTree(top) }); err != nil {
			return fmt.Errorf("cannot remove the cgroup %s: %w", top, err)
		}
	}
	return nil
}

// removeTree removes folders, deepest first. A cgroup's files go with it.
func removeTree(top string) error {
	var folders []string
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && entry.IsDir() {
			folders = append(folders, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, folder := range slices.Backward(folders) {
		if err := os.Remove(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
