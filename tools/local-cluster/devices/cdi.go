package main

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// cdiFolder is where this cluster's containerd looks for what a device brings
// into a container.
const cdiFolder = "/var/lib/kubelet/cdi"

func (d *driver) cdiKind() string { return d.name + "/gpu" }

func (d *driver) cdiFile() string { return filepath.Join(cdiFolder, d.name+".json") }

// writeCDI describes the devices to the container runtime: each is a variable of
// the environment, for there is nothing else of it.
func (d *driver) writeCDI() error {
	type edits struct {
		Env []string `json:"env"`
	}
	type entry struct {
		Name  string `json:"name"`
		Edits edits  `json:"containerEdits"`
	}
	var devices []entry
	for _, device := range d.devices {
		devices = append(devices, entry{device.name, edits{[]string{"FAKE_DEVICE=" + device.name}}})
	}
	text, err := json.Marshal(map[string]any{"cdiVersion": "0.6.0", "kind": d.cdiKind(), "devices": devices})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cdiFolder, 0o755); err != nil {
		return err
	}
	return os.WriteFile(d.cdiFile(), text, 0o644)
}
