// Command fake-devices offers devices that are not there, as a device plugin
// or as a driver for dynamic resource allocation does it. It is told which of
// them are broken through a file, and ends when its standard input does.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

const usage = `usage: fake-devices plugin --resource NAME --faults FILE DEVICE...
       fake-devices driver --name DRIVER --node NODE --faults FILE DEVICE,PRODUCT,MEMORY...
A line of FILE is a device that is broken and, after a space, what is wrong with it.`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fake-devices:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 0 {
		return fmt.Errorf("no verb\n%s", usage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	verb, rest := arguments[0], arguments[1:]
	flags := flag.NewFlagSet(verb, flag.ContinueOnError)
	broken := flags.String("faults", "", "the file that says which devices are broken")
	name, node := flags.String("name", "", "the driver"), flags.String("node", "", "the node")
	resource := flags.String("resource", "", "the extended resource")
	if err := flags.Parse(rest); err != nil {
		return err
	}
	switch {
	case *broken == "" || flags.NArg() == 0:
		return fmt.Errorf("no --faults or no device\n%s", usage)
	case verb == "plugin" && *resource != "":
		return runPlugin(ctx, *resource, flags.Args(), faultsFile(*broken))
	case verb == "driver" && *name != "" && *node != "":
		devices, err := parseDevices(flags.Args())
		if err != nil {
			return err
		}
		return runDriver(ctx, *name, *node, devices, faultsFile(*broken))
	}
	return fmt.Errorf("cannot do %q\n%s", strings.Join(arguments, " "), usage)
}
