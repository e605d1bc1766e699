package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const tailLines = 25

// explain shows the end of the failing component's log and keeps all logs, for
// the folder that they are in is about to go.
func explain(l layout, err error) {
	var failed *startError
	if !errors.As(err, &failed) || failed.component == "" {
		return
	}
	text, readErr := os.ReadFile(l.log(failed.component))
	if readErr == nil {
		fmt.Fprintf(os.Stderr, "--- end of the log of %s\n%s\n---\n", failed.component, tail(string(text), tailLines))
	}
	if kept, err := keepLogs(l); err == nil {
		fmt.Fprintln(os.Stderr, "all logs are kept in", kept)
	}
}

func tail(text string, count int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}

func keepLogs(l layout) (string, error) {
	kept, err := os.MkdirTemp("", "local-cluster-logs-")
	if err != nil {
		return "", err
	}
	return kept, os.CopyFS(kept, os.DirFS(filepath.Join(l.dir, "logs")))
}
