package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// state is what a cluster's folder says about who runs it. A folder with no
// state file is not ours, and nothing in it is touched.
type state struct {
	// PID of the supervisor as this machine sees it; 0 when it has not come to be.
	PID int `json:"pid"`
	// Started tells this process from a later one with the same PID.
	Started string `json:"started"`
	// Mountpoints are folders outside the cluster's own that it had to make.
	Mountpoints []string `json:"mountpoints"`
}

// readState returns fs.ErrNotExist where there is no cluster.
func readState(l layout) (state, error) {
	var s state
	text, err := os.ReadFile(l.state())
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("%s is damaged (%w): remove %s by hand", l.state(), err, l.dir)
	}
	return s, nil
}

func writeState(l layout, s state) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	fresh := l.state() + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, l.state())
}

// alive says whether the supervisor of this state still runs.
func (s state) alive() bool {
	here, zombie := s.process()
	return here && !zombie
}

// process says whether the supervisor's process is there, and whether it is
// one that has ended. Its first thread is a zombie before the others, and so
// before the namespaces are gone.
func (s state) process() (here, zombie bool) {
	if s.PID == 0 {
		return false, false
	}
	started, zombie, err := processStart(s.PID)
	return err == nil && started == s.Started, zombie
}

// running returns the state of a running cluster.
func running(l layout) (state, error) {
	s, err := readState(l)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !s.alive() {
		return s, fmt.Errorf("no cluster runs in %s; start one with: local-cluster up", l.dir)
	}
	return s, err
}

// processStart identifies a process for as long as the disk lives, by the
// boot's id and the tick in which the process started.
func processStart(pid int) (started string, zombie bool, err error) {
	boot, err := bootID()
	if err != nil {
		return "", false, err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", false, err
	}
	tick, zombie, err := parseStat(string(text))
	return boot + " " + tick, zombie, err
}

func bootID() (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(boot)), err
}

// parseStat takes the start tick (field 22) and the state (field 3) out of a
// line of /proc/PID/stat, whose second field may hold blanks and parentheses.
func parseStat(line string) (tick string, zombie bool, err error) {
	_, rest, found := cutLast(line, ")")
	fields := strings.Fields(rest)
	if !found || len(fields) < 20 {
		return "", false, fmt.Errorf("unknown form of /proc/PID/stat: %q", line)
	}
	return fields[19], fields[0] == "Z" || fields[0] == "X", nil
}

func cutLast(text, separator string) (before, after string, found bool) {
	at := strings.LastIndex(text, separator)
	if at < 0 {
		return text, "", false
	}
	return text[:at], text[at+len(separator):], true
}
