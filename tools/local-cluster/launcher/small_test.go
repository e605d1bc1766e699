package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestArgumentsEndAtTheCommand(t *testing.T) {
	dir, rest, err := parseArguments("exec", []string{"--dir", "/x", "--", "kubectl", "get", "--dir", "pods"})
	if err != nil || dir != "/x" || !slices.Equal(rest, []string{"kubectl", "get", "--dir", "pods"}) {
		t.Errorf("got %q %q %v", dir, rest, err)
	}
}

func TestArgumentsThatDoNothingAreRefused(t *testing.T) {
	for verb, args := range map[string][]string{"up": {"now"}, "exec": {"--"}, "load": nil, "status": {"--nope"}} {
		if _, _, err := parseArguments(verb, args); err == nil {
			t.Errorf("%s %q was taken", verb, args)
		}
	}
}

func TestEnvironmentReplacesAndKeeps(t *testing.T) {
	l := layout{dir: "/d", bin: "/b"}
	env := clientEnvironment(l, []string{"PATH=/mine", "KUBECONFIG=/other", "A=1", "NO_PROXY=corp"})
	if valueOf(env, "KUBECONFIG") != "/d/admin.kubeconfig" || valueOf(env, "A") != "1" {
		t.Errorf("got %q", env)
	}
	if !strings.HasPrefix(valueOf(env, "PATH"), "/b:/mine:") || !strings.HasPrefix(valueOf(env, "NO_PROXY"), "corp,") {
		t.Errorf("got %q", env)
	}
	if count := strings.Count(strings.Join(env, "\n"), "KUBECONFIG="); count != 1 {
		t.Errorf("KUBECONFIG is there %d times", count)
	}
}

func TestCgroupMounts(t *testing.T) {
	text := "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ntmpfs /run tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
	want := []cgroupMount{{"/sys/fs/cgroup/cpu", false}, {"/sys/fs/cgroup/unified", true}}
	if got := cgroupMounts(text); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestRemoveTreeTakesFoldersOnly(t *testing.T) {
	top := filepath.Join(t.TempDir(), "top")
	if err := os.MkdirAll(filepath.Join(top, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := removeTree(top); err != nil {
		t.Fatal(err)
	}
	if err := removeTree(top); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

func TestFollowPrintsStepsAndEnds(t *testing.T) {
	var out bytes.Buffer
	c := newClock(&out)
	err := c.follow(strings.NewReader(`{"step":"API server ready"}` + "\n" + `{"step":"node Ready"}` + "\n" + `{"up":true}` + "\n"))
	if err != nil || !strings.Contains(out.String(), stepAPI) {
		t.Errorf("got %q, %v", out.String(), err)
	}
	c.times = map[string]time.Duration{stepAPI: 2800 * time.Millisecond, stepNode: 4300 * time.Millisecond}
	if got := c.summary("warm"); got != "warm start: API ready 2.8 s, node Ready 4.3 s" {
		t.Errorf("got %q", got)
	}
}

func TestFollowNamesTheComponentThatFailed(t *testing.T) {
	for input, component := range map[string]string{
		`{"failed":"etcd ended","component":"etcd"}` + "\n": "etcd",
		"": supervisorName,
	} {
		err := newClock(&bytes.Buffer{}).follow(strings.NewReader(input))
		var failed *startError
		if !errors.As(err, &failed) || failed.component != component {
			t.Errorf("%q: got %v", input, err)
		}
	}
}

func TestNodeReady(t *testing.T) {
	var n node
	if n.ready() == nil {
		t.Error("a node without conditions is ready")
	}
	n.Status.Conditions = []struct{ Type, Status, Message string }{{"Ready", "False", "no network"}}
	if err := n.ready(); err == nil || err.Error() != "no network" {
		t.Errorf("got %v", err)
	}
	n.Status.Conditions[0].Status = "True"
	if err := n.ready(); err != nil {
		t.Error(err)
	}
}

func TestMissingParentsAreOutsideIn(t *testing.T) {
	base := t.TempDir()
	got := missingParents(filepath.Join(base, "a", "b"))
	if want := []string{filepath.Join(base, "a"), filepath.Join(base, "a", "b")}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestTail(t *testing.T) {
	if got := tail("a\nb\nc\n", 2); got != "b\nc" {
		t.Errorf("got %q", got)
	}
}

func TestFolderWithFilesOfOthersIsRefused(t *testing.T) {
	l := layout{dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(l.dir, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := clearLeftovers(l); err == nil {
		t.Error("it was taken")
	}
	if err := clearLeftovers(layout{dir: filepath.Join(l.dir, "new")}); err != nil {
		t.Error(err)
	}
}
