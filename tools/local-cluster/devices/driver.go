package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
	"k8s.io/dynamic-resource-allocation/resourceslice"
)

// device is one that the driver offers.
type device struct {
	name, product string
	memory        resource.Quantity
}

func parseDevices(arguments []string) ([]device, error) {
	var devices []device
	for _, argument := range arguments {
		words := strings.Split(argument, ",")
		if len(words) != 3 {
			return nil, fmt.Errorf("%q is no DEVICE,PRODUCT,MEMORY", argument)
		}
		memory, err := resource.ParseQuantity(words[2])
		if err != nil {
			return nil, fmt.Errorf("memory of %q: %w", argument, err)
		}
		devices = append(devices, device{words[0], words[1], memory})
	}
	return devices, nil
}

// driver gives claims the devices that the scheduler chose for them.
type driver struct {
	name, node string
	devices    []device
	file       faultsFile
}

// runDriver serves until ctx ends. The kubelet takes its ResourceSlices away some
// time after that.
func runDriver(ctx context.Context, name, node string, devices []device, file faultsFile) error {
	d := &driver{name, node, devices, file}
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	data := filepath.Join(kubeletplugin.KubeletPluginsDir, name)
	if err := os.MkdirAll(data, 0o750); err != nil {
		return err
	}
	if err := d.writeCDI(); err != nil {
		return err
	}
	defer os.Remove(d.cdiFile())
	helper, err := kubeletplugin.Start(ctx, d,
		kubeletplugin.DriverName(name), kubeletplugin.NodeName(node), kubeletplugin.KubeClient(client),
		kubeletplugin.PluginDataDirectoryPath(data))
	if err != nil {
		return err
	}
	defer helper.Stop()
	if err := helper.PublishResources(ctx, d.slices()); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func (d *driver) slices() resourceslice.DriverResources {
	var slice resourceslice.Slice
	for _, device := range d.devices {
		slice.Devices = append(slice.Devices, v1.Device{
			Name:       device.name,
			Attributes: map[v1.QualifiedName]v1.DeviceAttribute{"productName": {StringValue: &device.product}},
			Capacity:   map[v1.QualifiedName]v1.DeviceCapacity{"memory": {Value: device.memory}},
		})
	}
	pool := resourceslice.Pool{Slices: []resourceslice.Slice{slice}}
	return resourceslice.DriverResources{Pools: map[string]resourceslice.Pool{d.node: pool}}
}

func (d *driver) PrepareResourceClaims(_ context.Context, claims []*v1.ResourceClaim) (map[types.UID]kubeletplugin.PrepareResult, error) {
	prepared := map[types.UID]kubeletplugin.PrepareResult{}
	for _, claim := range claims {
		var result kubeletplugin.PrepareResult
		for _, given := range claim.Status.Allocation.Devices.Results {
			if given.Driver != d.name {
				continue
			}
			result.Devices = append(result.Devices, kubeletplugin.Device{
				Requests: []string{given.Request}, PoolName: given.Pool, DeviceName: given.Device,
				CDIDeviceIDs: []string{d.cdiKind() + "=" + given.Device},
			})
		}
		prepared[claim.UID] = result
	}
	return prepared, nil
}

func (d *driver) UnprepareResourceClaims(_ context.Context, claims []kubeletplugin.NamespacedObject) (map[types.UID]error, error) {
	done := map[types.UID]error{}
	for _, claim := range claims {
		done[claim.UID] = nil
	}
	return done, nil
}

func (d *driver) HandleError(_ context.Context, err error, message string) {
	fmt.Fprintf(os.Stderr, "fake-devices: %s: %v\n", message, err)
}

// refresh keeps the kubelet, which takes silence of 30 s for ignorance, informed.
const refresh = 10 * time.Second

func (d *driver) WatchHealthStatus(ctx context.Context, reports chan<- kubeletplugin.DeviceHealthReport) error {
	return d.file.watch(ctx, refresh, func(broken faults) error {
		select {
		case <-ctx.Done():
		case reports <- d.health(broken):
		}
		return nil
	})
}

func (d *driver) health(broken faults) kubeletplugin.DeviceHealthReport {
	var report kubeletplugin.DeviceHealthReport
	for _, device := range d.devices {
		health := kubeletplugin.HealthStatusHealthy
		why, bad := broken[device.name]
		if bad {
			health = kubeletplugin.HealthStatusUnhealthy
		}
		report.Devices = append(report.Devices, kubeletplugin.DeviceHealth{
			PoolName: d.node, DeviceName: device.name, Health: health, Message: why, LastUpdated: time.Now(),
		})
	}
	return report
}
