package main

import (
	"embed"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed config/*.tmpl
var templates embed.FS

// settings is what the templates of the folder config may use.
type settings struct {
	NodeName, NodeIP, PodCIDR, ServiceCIDR, ClusterDomain string
	PauseImage, Snapshotter, ContainerdSocket             string
	CNIPlugins, CNIConfig, Resolv, CgroupRoot             string
	VolumePlugins                                         string
	Pki                                                   string
	Kubeconfigs                                           map[string]string
}

func newSettings(l layout, cniPlugins string) settings {
	kubeconfigs := map[string]string{}
	for _, user := range users {
		kubeconfigs[user.file] = l.kubeconfig(user.file)
	}
	return settings{
		NodeName: nodeName, NodeIP: nodeIP, PodCIDR: podCIDR, ServiceCIDR: serviceCIDR, ClusterDomain: clusterDomain,
		PauseImage: pauseImage, Snapshotter: l.snapshotter(), ContainerdSocket: containerdSocket,
		CNIPlugins: cniPlugins, CNIConfig: l.config("cni"), Resolv: l.config("resolv.conf"), CgroupRoot: l.cgroupName(),
		VolumePlugins: l.data("kubelet-plugins"), Pki: l.pki(""), Kubeconfigs: kubeconfigs,
	}
}

// configFiles maps a template to the file that it becomes.
func configFiles(l layout) map[string]string {
	return map[string]string{
		"containerd.toml": l.config("containerd.toml"),
		"kubelet.yaml":    l.config("kubelet.yaml"),
		"proxy.yaml":      l.config("proxy.yaml"),
		"Corefile":        l.config("Corefile"),
		"resolv.conf":     l.config("resolv.conf"),
		"pods.conflist":   filepath.Join(l.config("cni"), "10-pods.conflist"),
	}
}

func writeConfigs(l layout, values settings) error {
	parsed, err := template.New("").Option("missingkey=error").ParseFS(templates, "config/*.tmpl")
	if err != nil {
		return err
	}
	for name, file := range configFiles(l) {
		var text strings.Builder
		if err := parsed.ExecuteTemplate(&text, name+".tmpl", values); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
			return err
		}
	}
	return writeKubeconfigs(l, parsed)
}

// writeKubeconfigs puts the certificates into the files, so that one can be
// copied and used alone.
func writeKubeconfigs(l layout, parsed *template.Template) error {
	for _, user := range users {
		values := map[string]string{"Server": apiURL}
		for key, file := range map[string]string{"CA": "ca.crt", "Cert": user.file + ".crt", "Key": user.file + ".key"} {
			content, err := os.ReadFile(l.pki(file))
			if err != nil {
				return err
			}
			values[key] = base64.StdEncoding.EncodeToString(content)
		}
		var text strings.Builder
		if err := parsed.ExecuteTemplate(&text, "kubeconfig.tmpl", values); err != nil {
			return err
		}
		if err := os.WriteFile(l.kubeconfig(user.file), []byte(text.String()), 0o600); err != nil {
			return err
		}
	}
	return nil
}
