package main

import "time"

const retryPause = 20 * time.Millisecond

// retry calls try until it succeeds or the time is over, and returns its last
// error.
func retry(limit time.Duration, try func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(retryPause)
	}
}
