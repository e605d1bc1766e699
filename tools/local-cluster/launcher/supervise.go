package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// superviseCommand is the first process of the cluster's namespaces: it starts
// everything, then only reaps. Its end is the end of all of them.
func superviseCommand(l layout, _ []string) error {
	if os.Getpid() != 1 {
		return errors.New("supervise is what up runs in namespaces of its own; run up")
	}
	s := &supervisor{layout: l, reaper: newReaper(), events: json.NewEncoder(os.NewFile(eventsFD, "events"))}
	if err := s.bringUp(); err != nil {
		s.tellFailure(err)
		return err
	}
	// From here on the cluster outlives the command that started it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0); err != nil {
		return err
	}
	s.tell(event{Up: true})
	unix.Close(eventsFD)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	return nil
}

type supervisor struct {
	layout  layout
	reaper  *reaper
	daemons []*daemon
	events  *json.Encoder
}

func (s *supervisor) tell(e event) {
	if err := s.events.Encode(e); err != nil {
		fmt.Fprintln(os.Stderr, "tell:", err)
	}
}

func (s *supervisor) step(name string) { s.tell(event{Step: name}) }

func (s *supervisor) tellFailure(err error) {
	failure := event{Failed: err.Error(), Component: supervisorName}
	if failed, ok := err.(*startError); ok {
		failure.Component = failed.component
	}
	s.tell(failure)
}

func (s *supervisor) bringUp() error {
	if err := setUpMounts(s.layout); err != nil {
		return fmt.Errorf("mounts: %w", err)
	}
	go s.reaper.loop()
	if err := s.setUpNetwork(); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	s.step("namespaces, mounts and network made")
	for _, phase := range []func() error{s.startStores, s.startAPI, s.startNode, s.waitUsable} {
		if err := phase(); err != nil {
			return err
		}
	}
	return nil
}

// startStores starts the two that need nobody else.
func (s *supervisor) startStores() error {
	if err := s.startAll(containerd(s.layout), etcd(s.layout)); err != nil {
		return err
	}
	if err := s.await("etcd", etcdHealthy); err != nil {
		return err
	}
	s.step("etcd healthy")
	return nil
}

func (s *supervisor) startAPI() error {
	if err := s.startAll(apiServer(s.layout)); err != nil {
		return err
	}
	if err := s.await("containerd", containerdAnswers); err != nil {
		return err
	}
	if err := s.importPause(); err != nil {
		return &startError{"containerd", fmt.Sprintf("cannot load the pause image: %v", err)}
	}
	s.step("containerd ready")
	api, err := newAPI(s.layout)
	if err != nil {
		return err
	}
	if err := s.await("kube-apiserver", api.ready); err != nil {
		return err
	}
	s.step(stepAPI)
	return s.await("kube-apiserver", api.allowDNS)
}

func (s *supervisor) startNode() error {
	if err := s.startAll(afterAPI(s.layout)...); err != nil {
		return err
	}
	api, err := newAPI(s.layout)
	if err != nil {
		return err
	}
	if err := s.await("kubelet", api.nodeReady); err != nil {
		return err
	}
	s.step(stepNode)
	return nil
}

// waitUsable waits until a pod made now would be scheduled at once, could
// mount its token, find a name and reach a Service.
func (s *supervisor) waitUsable() error {
	api, err := newAPI(s.layout)
	if err != nil {
		return err
	}
	for _, wait := range []struct {
		step, component string
		done            func() error
	}{
		{"DNS answers", "coredns", dnsReady},
		{"Services answer", "kube-proxy", serviceReachable},
		{"pods get tokens", "kube-controller-manager", api.defaultServiceAccount},
		{"pods are scheduled", "kube-controller-manager", api.nodeUntainted},
	} {
		if err := s.await(wait.component, wait.done); err != nil {
			return err
		}
		s.step(wait.step)
	}
	return nil
}

// startLimit is for one wait, on a machine that is busy with other things.
const startLimit = 2 * time.Minute

// await waits for a condition, but not past the end of a daemon.
func (s *supervisor) await(component string, done func() error) error {
	ended := false
	err := retry(startLimit, func() error {
		if failed := s.firstEnded(); failed != nil {
			ended = true
			return nil
		}
		return done()
	})
	if ended {
		return s.firstEnded()
	}
	if err != nil {
		return &startError{component, fmt.Sprintf("%s is not ready after %s: %v", component, startLimit, err)}
	}
	return nil
}

// firstEnded returns nil while all daemons run.
func (s *supervisor) firstEnded() error {
	for _, d := range s.daemons {
		if status, ended := d.ended(); ended {
			return &startError{d.name, fmt.Sprintf("%s ended (%s)", d.name, describe(status))}
		}
	}
	return nil
}
