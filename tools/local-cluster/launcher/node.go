package main

import (
	"errors"
	"fmt"
	"net/http"
)

// node is what the start needs of a Node.
type node struct {
	Spec struct {
		Taints []struct{ Key string }
	}
	Status struct {
		Conditions []struct{ Type, Status, Message string }
	}
}

func (a *api) node() (node, error) {
	var n node
	return n, a.call(http.MethodGet, "/api/v1/nodes/"+nodeName, nil, &n)
}

func (a *api) nodeReady() error {
	n, err := a.node()
	if err != nil {
		return err
	}
	return n.ready()
}

func (n node) ready() error {
	for _, condition := range n.Status.Conditions {
		if condition.Type != "Ready" {
			continue
		}
		if condition.Status == "True" {
			return nil
		}
		return errors.New(condition.Message)
	}
	return errors.New("the node has no condition Ready yet")
}

// nodeUntainted: a node is born with a taint that keeps pods away.
func (a *api) nodeUntainted() error {
	n, err := a.node()
	if err == nil && len(n.Spec.Taints) > 0 {
		return fmt.Errorf("the node has the taint %s", n.Spec.Taints[0].Key)
	}
	return err
}
