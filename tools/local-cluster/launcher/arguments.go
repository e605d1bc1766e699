package main

import (
	"flag"
	"fmt"
	"path/filepath"
)

// parseArguments takes --dir out of a verb's arguments and checks that the
// verb gets others only where it can use them.
func parseArguments(verb string, args []string) (dir string, rest []string, err error) {
	flags := flag.NewFlagSet(verb, flag.ContinueOnError)
	flags.StringVar(&dir, "dir", defaultDir, "the cluster's folder")
	if err := flags.Parse(args); err != nil {
		return "", nil, exitCode(2)
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", nil, err
	}
	return dir, flags.Args(), checkArguments(verb, flags.Args())
}

func checkArguments(verb string, rest []string) error {
	switch wants := verb == "exec" || verb == "load"; {
	case wants && len(rest) == 0:
		return fmt.Errorf("%s needs arguments, for example: %s", verb, map[string]string{
			"exec": "local-cluster exec -- kubectl get pods -A",
			"load": "local-cluster load image.tar",
		}[verb])
	case !wants && len(rest) > 0:
		return fmt.Errorf("%s takes no arguments, but got %q", verb, rest)
	}
	return nil
}
