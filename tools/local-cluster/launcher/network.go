package main

import "os"

// setUpNetwork gives the namespace loopback and an address for the node. The
// address is on a bridge, for not every kernel has dummy links. Without a
// default route a ClusterIP would be "Network is unreachable" from the node.
func (s *supervisor) setUpNetwork() error {
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", nodeLink, "type", "bridge"},
		{"address", "add", nodeIP + "/24", "dev", nodeLink},
		{"link", "set", nodeLink, "up"},
		{"route", "add", "default", "dev", nodeLink},
	} {
		if err := s.runTool("ip", args...); err != nil {
			return err
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
}
