// Command local-cluster runs a real one-machine Kubernetes in process, mount
// and network namespaces of its own. Killing the first process of the process
// namespace ends everything in it, so a crash leaves nothing running.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

const usage = `usage: local-cluster VERB [--dir DIR] ...

  up                start the cluster; nothing to do when it runs
  down              stop it and remove all that it made
  status            is it running; exit code 3 when not
  exec -- CMD...    run CMD inside the cluster's namespaces, with KUBECONFIG and PATH set
  shell             an interactive shell inside
  load IMAGE.tar... import images (docker or OCI archives); no pod pulls from a registry

  --dir DIR         the cluster's folder (default ` + defaultDir + `)
`

var verbs = map[string]func(layout, []string) error{
	"up":          up,
	"down":        down,
	"status":      status,
	"exec":        execute,
	"shell":       shell,
	"load":        load,
	superviseVerb: superviseCommand,
}

// The main thread changes its namespaces ("exec") and is the parent whose end
// ends a half-started cluster ("up"), so main must stay on it.
func init() { runtime.LockOSThread() }

func main() {
	err := run(os.Args[1:])
	var exit exitCode
	switch {
	case err == nil:
	case errors.As(err, &exit):
		os.Exit(int(exit))
	default:
		fmt.Fprintln(os.Stderr, "local-cluster:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return exitCode(2)
	}
	verb, known := verbs[args[0]]
	if !known {
		fmt.Fprint(os.Stderr, usage)
		return exitCode(2)
	}
	dir, rest, err := parseArguments(args[0], args[1:])
	if err != nil {
		return err
	}
	return verb(newLayout(dir), rest)
}

// exitCode is an error that needs no message: what went wrong has been said.
type exitCode int

func (code exitCode) Error() string { return fmt.Sprintf("exit status %d", int(code)) }
