package main

import (
	"slices"
	"strings"
)

// clientEnvironment adds to an environment what kubectl, helm, ctr and any
// client need. A proxy of the machine is out of reach in the namespace.
func clientEnvironment(l layout, env []string) []string {
	local := strings.Join([]string{"localhost", "127.0.0.1", nodeIP, serviceCIDR, podCIDR, ".svc", "." + clusterDomain}, ",")
	return setAll(env, map[string]string{
		"PATH":                  l.bin + ":" + valueOf(env, "PATH") + ":" + daemonPath,
		"KUBECONFIG":            l.kubeconfig("admin"),
		"CONTAINERD_NAMESPACE":  "k8s.io",
		"LOCAL_CLUSTER_NODE_IP": nodeIP,
		"NO_PROXY":              joined(valueOf(env, "NO_PROXY"), local),
		"no_proxy":              joined(valueOf(env, "no_proxy"), local),
	})
}

func joined(before, more string) string {
	if before == "" {
		return more
	}
	return before + "," + more
}

func valueOf(env []string, name string) string {
	for _, entry := range env {
		if value, found := strings.CutPrefix(entry, name+"="); found {
			return value
		}
	}
	return ""
}

func setAll(env []string, values map[string]string) []string {
	kept := slices.DeleteFunc(slices.Clone(env), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		_, replaced := values[name]
		return replaced
	})
	for name, value := range values {
		kept = append(kept, name+"="+value)
	}
	return kept
}
