package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// daemonPath is where the daemons look for runc, nft, iptables, ip and mount.
const daemonPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const installHint = "on Debian or Ubuntu run scripts/install-deps"

// preflight says in one message all that the machine lacks.
func preflight(l layout) error {
	if os.Getuid() != 0 {
		return errors.New("this needs root, because it makes namespaces, mounts and cgroups: run it with sudo")
	}
	if missing := missingTools(); len(missing) > 0 {
		return fmt.Errorf("missing: %s; %s", strings.Join(missing, ", "), installHint)
	}
	if !holdsAll(l.bin, "kubernetes", "containerd", "containerd-shim-runc-v2", "ctr", "pause.tar") {
		return fmt.Errorf("%s does not hold all programs of the cluster: run the local-cluster of the folder that scripts/build-cluster prints", l.bin)
	}
	return nil
}

func missingTools() []string {
	var missing []string
	os.Setenv("PATH", os.Getenv("PATH")+":"+daemonPath)
	for _, tool := range []string{"runc", "ip", "nft", "iptables", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool)
		}
	}
	if _, err := cniPlugins(); err != nil {
		missing = append(missing, err.Error())
	}
	return missing
}

// cniPlugins finds the folder of the CNI plugins: Debian's or everyone else's.
func cniPlugins() (string, error) {
	for _, folder := range []string{"/usr/lib/cni", "/opt/cni/bin"} {
		if holdsAll(folder, "ptp", "host-local", "portmap") {
			return folder, nil
		}
	}
	return "", errors.New("the CNI plugins (package containernetworking-plugins)")
}

func holdsAll(folder string, names ...string) bool {
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			return false
		}
	}
	return true
}

// snapshotter is how containerd stacks image layers. Overlay does not stack on
// overlay, which is what a container's own file system is.
func (l layout) snapshotter() string {
	var fs unix.Statfs_t
	if err := unix.Statfs(l.dir, &fs); err == nil && fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return "native"
	}
	return "overlayfs"
}
