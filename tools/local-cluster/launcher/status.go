package main

import (
	"fmt"
	"os"
	"time"
)

func status(l layout, _ []string) error {
	s, err := running(l)
	if err != nil {
		fmt.Println(err)
		return exitCode(3)
	}
	if info, err := os.Stat(fmt.Sprintf("/proc/%d", s.PID)); err == nil {
		fmt.Printf("running in %s, pid %d, for %s\n", l.dir, s.PID, time.Since(info.ModTime()).Round(time.Second))
	}
	if ended, err := os.ReadFile(l.endings()); err == nil {
		fmt.Printf("but these components have ended:\n%s", ended)
	}
	return runInside(l, []string{"kubectl", "get", "nodes,pods", "--all-namespaces", "--request-timeout=5s"})
}
