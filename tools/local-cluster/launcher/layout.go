package main

import (
	"os"
	"path/filepath"
)

const defaultDir = "/var/lib/inference-operator/local-cluster"

// Addresses inside the cluster's network namespace. They clash with nothing,
// for nothing outside can reach them.
const (
	nodeName      = "node-1"
	nodeIP        = "10.89.0.1"
	nodeLink      = "node0"
	podCIDR       = "10.244.0.0/24"
	serviceCIDR   = "10.96.0.0/16"
	apiServiceIP  = "10.96.0.1"
	apiURL        = "https://" + nodeIP + ":6443"
	clusterDomain = "cluster.local"
	serviceIssuer = "https://kubernetes.default.svc." + clusterDomain
	etcdAddress   = "127.0.0.1:2379"
	dnsReadyURL   = "http://" + nodeIP + ":8181/ready"
)

// containerd's own defaults; its folders there are the cluster's private ones.
const (
	containerdSocket = "/run/containerd/containerd.sock"
	pauseImage       = "registry.k8s.io/pause:3.10"
)

// layout says where a cluster's files are.
type layout struct {
	dir string // the cluster's folder; all that it writes is below
	bin string // the programs: the folder that this one runs from
}

func newLayout(dir string) layout {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	return layout{dir: dir, bin: filepath.Dir(self)}
}

func (l layout) pki(file string) string        { return filepath.Join(l.dir, "pki", file) }
func (l layout) config(file string) string     { return filepath.Join(l.dir, "config", file) }
func (l layout) data(name string) string       { return filepath.Join(l.dir, "data", name) }
func (l layout) kubeconfig(user string) string { return filepath.Join(l.dir, user+".kubeconfig") }
func (l layout) log(component string) string   { return filepath.Join(l.dir, "logs", component+".log") }
func (l layout) state() string                 { return filepath.Join(l.dir, "state.json") }
func (l layout) program(name string) string    { return filepath.Join(l.bin, name) }

// privateFolder is a folder of the machine that the cluster sees one of its
// own instead of.
type privateFolder struct {
	name, over string
}

var privateFolders = []privateFolder{
	{"containerd", "/var/lib/containerd"},
	{"containerd-state", "/run/containerd"},
	{"netns", "/run/netns"},
	{"cni", "/var/lib/cni"},
	{"kubelet", "/var/lib/kubelet"},
	{"pod-logs", "/var/log/pods"},
	{"container-logs", "/var/log/containers"},
}

func (l layout) makeFolders() error {
	folders := []string{l.pki(""), l.config("cni"), filepath.Join(l.dir, "logs"), l.data("etcd"), l.data("kubelet-plugins")}
	for _, private := range privateFolders {
		folders = append(folders, l.data(private.name))
	}
	for _, folder := range folders {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	return os.Chmod(l.dir, 0o711)
}
