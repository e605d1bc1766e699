package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestABrokenDeviceIsTold(t *testing.T) {
	file := faultsFile(filepath.Join(t.TempDir(), "faults"))
	p := plugin{devices: []string{"a", "b"}, file: file}
	ended, told := errors.New("ended"), 0
	err := file.watch(context.Background(), never, func(broken faults) error {
		told++
		list := p.list(broken)
		switch told {
		case 1:
			if list.Devices[1].Health != "Healthy" {
				t.Errorf("without a file all is well, not %v", list.Devices)
			}
			return os.WriteFile(string(file), []byte("b too hot\n"), 0o644)
		default:
			if list.Devices[0].Health != "Healthy" || list.Devices[1].Health != "Unhealthy" || broken["b"] != "too hot" {
				t.Errorf("b is broken, not %v of %v", broken, list.Devices)
			}
			return ended
		}
	})
	if err != ended || told != 2 {
		t.Errorf("%v after %d", err, told)
	}
}

func TestADeviceHasAProductAndMemory(t *testing.T) {
	devices, err := parseDevices([]string{"gpu-0,FAKE-80GB,80Gi"})
	if err != nil || devices[0].product != "FAKE-80GB" || devices[0].memory.Value() != 80<<30 {
		t.Errorf("%v %v", devices, err)
	}
	if _, err := parseDevices([]string{"gpu-0,FAKE-80GB"}); err == nil {
		t.Error("memory is missing")
	}
}
