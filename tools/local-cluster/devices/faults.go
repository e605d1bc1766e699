package main

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"strings"
	"time"
)

// look is how often the file is read.
const look = 100 * time.Millisecond

// faults are the broken devices and what is wrong with each.
type faults map[string]string

type faultsFile string

// read takes a file that is not there for one without lines.
func (f faultsFile) read() (faults, error) {
	text, err := os.ReadFile(string(f))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return parseFaults(string(text)), nil
}

func parseFaults(text string) faults {
	broken := faults{}
	for line := range strings.Lines(text) {
		device, why, _ := strings.Cut(strings.TrimSpace(line), " ")
		if device != "" {
			broken[device] = why
		}
	}
	return broken
}

// watch tells at once and whenever the file changes, and again after so long
// without a change, until ctx ends or tell fails.
func (f faultsFile) watch(ctx context.Context, again time.Duration, tell func(faults) error) error {
	ticks := time.NewTicker(look)
	defer ticks.Stop()
	var told faults
	var at time.Time
	for {
		now, err := f.read()
		if err != nil {
			return err
		}
		if told == nil || !maps.Equal(told, now) || time.Since(at) > again {
			if err := tell(now); err != nil {
				return err
			}
			told, at = now, time.Now()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
	}
}
