package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// event is what the supervisor tells the command that started it, one JSON
// object a line, until the cluster is up or has failed.
type event struct {
	// Step that is done.
	Step string `json:"step,omitempty"`
	// Failed says what went wrong; Component's log tells more when it is set.
	Failed    string `json:"failed,omitempty"`
	Component string `json:"component,omitempty"`
	// Up ends the start.
	Up bool `json:"up,omitempty"`
}

// Steps whose times are part of the closing line.
const (
	stepAPI  = "API server ready"
	stepNode = "node Ready"
)

// clock measures the start of a cluster, step by step.
type clock struct {
	began time.Time
	times map[string]time.Duration
	out   io.Writer
}

func newClock(out io.Writer) *clock {
	return &clock{began: time.Now(), times: map[string]time.Duration{}, out: out}
}

func (c *clock) step(name string) {
	c.times[name] = time.Since(c.began)
	fmt.Fprintf(c.out, "  %5.2f s  %s\n", c.times[name].Seconds(), name)
}

func (c *clock) summary(kind string) string {
	return fmt.Sprintf("%s start: API ready %.1f s, node Ready %.1f s",
		kind, c.times[stepAPI].Seconds(), c.times[stepNode].Seconds())
}

// follow prints the steps that come in and returns nil once the cluster is up.
func (c *clock) follow(events io.Reader) error {
	lines := bufio.NewScanner(events)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("the supervisor sent %q: %w", lines.Text(), err)
		}
		switch {
		case e.Up:
			return nil
		case e.Failed != "":
			return &startError{component: e.Component, message: e.Failed}
		}
		c.step(e.Step)
	}
	return &startError{component: supervisorName, message: "the supervisor ended"}
}

// startError is a start that failed and the component whose log tells more.
type startError struct {
	component, message string
}

func (e *startError) Error() string { return e.message }
