// Command kubernetes is every program of a one-machine Kubernetes in one
// binary. Like busybox it looks at the name it was called by: symlinks named
// etcd, kube-apiserver, kubectl and so on choose the program.
package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	name := filepath.Base(os.Args[0])
	run, known := programs[name]
	if !known {
		names := slices.Sorted(maps.Keys(programs))
		fmt.Fprintf(os.Stderr, "%s: call this binary by one of these names (symlinks): %s\n", name, strings.Join(names, " "))
		os.Exit(2)
	}
	os.Exit(run())
}
