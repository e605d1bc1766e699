package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// plugin is a device plugin: what it says of its devices the kubelet counts as
// an extended resource of the node.
type plugin struct {
	api.UnimplementedDevicePluginServer
	devices []string
	file    faultsFile
}

// runPlugin serves until ctx ends.
func runPlugin(ctx context.Context, resource string, devices []string, file faultsFile) error {
	socket := filepath.Join(api.DevicePluginPath, strings.ReplaceAll(resource, "/", "_")+".sock")
	if err := os.RemoveAll(socket); err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	api.RegisterDevicePluginServer(server, &plugin{devices: devices, file: file})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	if err := register(ctx, resource, filepath.Base(socket)); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		server.Stop()
		return nil
	case err := <-served:
		return err
	}
}

func register(ctx context.Context, resource, socket string) error {
	kubelet, err := grpc.NewClient("unix://"+api.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer kubelet.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request := api.RegisterRequest{Version: api.Version, Endpoint: socket, ResourceName: resource}
	_, err = api.NewRegistrationClient(kubelet).Register(ctx, &request)
	return err
}

func (p *plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

// never is longer than any cluster of the tests lives.
const never = 1000 * time.Hour

func (p *plugin) ListAndWatch(_ *api.Empty, stream grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	return p.file.watch(stream.Context(), never, func(broken faults) error { return stream.Send(p.list(broken)) })
}

func (p *plugin) list(broken faults) *api.ListAndWatchResponse {
	var list api.ListAndWatchResponse
	for _, id := range p.devices {
		health := api.Healthy
		if _, bad := broken[id]; bad {
			health = api.Unhealthy
		}
		list.Devices = append(list.Devices, &api.Device{ID: id, Health: health})
	}
	return &list
}

// Allocate names the devices to the container as NVIDIA's plugin does.
func (p *plugin) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	var answer api.AllocateResponse
	for _, container := range request.ContainerRequests {
		answer.ContainerResponses = append(answer.ContainerResponses, &api.ContainerAllocateResponse{
			Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": strings.Join(container.DevicesIds, ",")},
		})
	}
	return &answer, nil
}
