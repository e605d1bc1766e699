package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"
)

func testLayout(t *testing.T) layout {
	t.Helper()
	l := layout{dir: t.TempDir(), bin: t.TempDir()}
	if err := l.makeFolders(); err != nil {
		t.Fatal(err)
	}
	if err := writePKI(l); err != nil {
		t.Fatal(err)
	}
	return l
}

func leaf(t *testing.T, l layout, name string) (*x509.Certificate, *x509.CertPool) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(l.pki(name+".crt"), l.pki(name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(l.pki("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return pair.Leaf, roots
}

func TestServerCertificatesAreGoodForTheirNames(t *testing.T) {
	l := testLayout(t)
	for _, c := range []struct{ file, name string }{
		{"apiserver", "kubernetes.default.svc"},
		{"apiserver", apiServiceIP},
		{"apiserver", nodeIP},
		{"kubelet-server", nodeIP},
	} {
		cert, roots := leaf(t, l, c.file)
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: c.name}); err != nil {
			t.Errorf("%s as %s: %v", c.file, c.name, err)
		}
	}
}

func TestUsersAreClientsAndNoServers(t *testing.T) {
	l := testLayout(t)
	for _, user := range users {
		cert, roots := leaf(t, l, user.file)
		client := x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if _, err := cert.Verify(client); err != nil {
			t.Errorf("%s as a client: %v", user.file, err)
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots}); err == nil {
			t.Errorf("%s could pass for a server", user.file)
		}
		if cert.Subject.CommonName != user.commonName {
			t.Errorf("%s is %q", user.file, cert.Subject.CommonName)
		}
	}
}

// A ClusterTrustBundle takes certificates of authorities only.
func TestTheAuthorityIsOne(t *testing.T) {
	cert, _ := leaf(t, testLayout(t), "ca")
	if !cert.IsCA || !cert.BasicConstraintsValid {
		t.Error("the CA bit is not set")
	}
}

func TestKeysAreForRootOnly(t *testing.T) {
	l := testLayout(t)
	for _, file := range []string{"ca.key", "sa.key", "admin.key"} {
		info, err := os.Stat(l.pki(file))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", file, info.Mode().Perm())
		}
	}
}
