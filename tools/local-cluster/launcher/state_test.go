package main

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

func TestParseStatWithAHostileName(t *testing.T) {
	line := "12 (a) b (c) S 1 12 12 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 4711 1000 10"
	tick, zombie, err := parseStat(line)
	if err != nil || zombie || tick != "4711" {
		t.Errorf("got %q, %v, %v", tick, zombie, err)
	}
}

func TestParseStatRefusesNonsense(t *testing.T) {
	for _, line := range []string{"", "12 (a", "12 (a) S 1"} {
		if _, _, err := parseStat(line); err == nil {
			t.Errorf("%q was taken", line)
		}
	}
}

func TestAProcessIsItselfOnly(t *testing.T) {
	started, zombie, err := processStart(os.Getpid())
	if err != nil || zombie {
		t.Fatal(zombie, err)
	}
	if !(state{PID: os.Getpid(), Started: started}).alive() {
		t.Error("this process is not alive")
	}
	if (state{PID: os.Getpid(), Started: "another boot 1"}).alive() {
		t.Error("another process with the same PID is taken for it")
	}
	if (state{}).alive() {
		t.Error("no process is alive")
	}
}

func TestStateRoundTrip(t *testing.T) {
	l := layout{dir: t.TempDir()}
	if _, err := readState(l); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no state: %v", err)
	}
	wrote := state{PID: 7, Started: "x 1", Mountpoints: []string{"/run/netns"}}
	if err := writeState(l, wrote); err != nil {
		t.Fatal(err)
	}
	read, err := readState(l)
	if err != nil || read.PID != 7 || read.Started != "x 1" || len(read.Mountpoints) != 1 {
		t.Errorf("got %+v, %v", read, err)
	}
}

func TestDamagedStateNamesTheFile(t *testing.T) {
	l := layout{dir: t.TempDir()}
	if err := os.WriteFile(l.state(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readState(l); err == nil {
		t.Error("a damaged state was taken")
	}
}
