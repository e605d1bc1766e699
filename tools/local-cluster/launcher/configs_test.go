package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEveryTemplateIsFilled(t *testing.T) {
	l := testLayout(t)
	if err := writeConfigs(l, newSettings(l, "/usr/lib/cni")); err != nil {
		t.Fatal(err)
	}
	for name, file := range configFiles(l) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "<no value>") || strings.Contains(string(text), "{{") {
			t.Errorf("%s is not filled:\n%s", name, text)
		}
	}
}

func TestTheNetworkConfigurationIsJSON(t *testing.T) {
	l := testLayout(t)
	if err := writeConfigs(l, newSettings(l, "/usr/lib/cni")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(l.config("cni"), "10-pods.conflist"))
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(text) || !strings.Contains(string(text), podCIDR) {
		t.Errorf("not what CNI reads:\n%s", text)
	}
}

func TestAKubeconfigStandsAlone(t *testing.T) {
	l := testLayout(t)
	if err := writeConfigs(l, newSettings(l, "/usr/lib/cni")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(l.kubeconfig("admin"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), l.dir) {
		t.Errorf("it names a file of the cluster:\n%s", text)
	}
}
