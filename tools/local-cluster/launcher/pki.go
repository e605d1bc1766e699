package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"time"
)

// A cluster lives for hours; a year leaves room for a forgotten one.
const certificateLife = 365 * 24 * time.Hour

// frontProxy is the one name whose word for a caller's name is taken.
const frontProxy = "front-proxy-client"

// certificate says what to issue: FILE.crt and FILE.key in the pki folder.
type certificate struct {
	file         string
	commonName   string
	organization []string
	server       bool
	names        []string
	addresses    []string
}

// users are the client certificates that a kubeconfig is made for.
var users = []certificate{
	{file: "admin", commonName: "kubernetes-admin", organization: []string{"system:masters"}},
	{file: "controller-manager", commonName: "system:kube-controller-manager"},
	{file: "scheduler", commonName: "system:kube-scheduler"},
	{file: "kubelet", commonName: "system:node:" + nodeName, organization: []string{"system:nodes"}},
	{file: "proxy", commonName: "system:kube-proxy"},
	{file: "coredns", commonName: corednsUser},
}

var others = []certificate{
	{file: "apiserver", commonName: "kube-apiserver", server: true,
		names: []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc." + clusterDomain, "localhost"},
		addresses: []string{"127.0.0.1", nodeIP, apiServiceIP}},
	{file: "apiserver-kubelet-client", commonName: "kube-apiserver-kubelet-client",
		organization: []string{"system:masters"}},
	// With it the API server asks other API servers, such as metrics-server,
	// in the name of its own callers.
	{file: "front-proxy-client", commonName: frontProxy},
	{file: "kubelet-server", commonName: "system:node:" + nodeName, organization: []string{"system:nodes"},
		server: true, names: []string{nodeName}, addresses: []string{nodeIP}},
}

// writePKI makes the cluster's authority, all certificates and the key pair
// that signs the tokens of ServiceAccounts.
func writePKI(l layout) error {
	ca, err := newAuthority(time.Now())
	if err != nil {
		return err
	}
	if err := writePair(l, "ca", ca.cert.Raw, ca.key); err != nil {
		return err
	}
	for _, wanted := range append(append([]certificate{}, users...), others...) {
		der, key, err := ca.issue(wanted)
		if err != nil {
			return err
		}
		if err := writePair(l, wanted.file, der, key); err != nil {
			return err
		}
	}
	return writeTokenKeys(l)
}

// authority signs all certificates of one cluster.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(now time.Time) (authority, error) {
	template := newTemplate(now, pkix.Name{CommonName: "local-cluster-ca"})
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return authority{}, err
	}
	cert, err := x509.ParseCertificate(der)
	return authority{cert: cert, key: key}, err
}

func (ca authority) issue(wanted certificate) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	subject := pkix.Name{CommonName: wanted.commonName, Organization: wanted.organization}
	template := newTemplate(ca.cert.NotBefore, subject)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if wanted.server {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	template.DNSNames = wanted.names
	for _, address := range wanted.addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	return der, key, err
}

func newTemplate(from time.Time, subject pkix.Name) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(0).Lsh(big.NewInt(1), 120))
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		// An hour back, for a clock that is set while the cluster runs.
		NotBefore: from.Add(-time.Hour),
		NotAfter:  from.Add(certificateLife),
	}
}

// writeTokenKeys uses RSA, as kubeadm does: what checks a token in a real
// cluster meets RS256.
func writeTokenKeys(l layout) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := writePEM(l.pki("sa.pub"), "PUBLIC KEY", public); err != nil {
		return err
	}
	return writeKey(l.pki("sa.key"), key)
}

func writePair(l layout, name string, der []byte, key crypto.PrivateKey) error {
	if err := writePEM(l.pki(name+".crt"), "CERTIFICATE", der); err != nil {
		return err
	}
	return writeKey(l.pki(name+".key"), key)
}

func writeKey(file string, key crypto.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(file, "PRIVATE KEY", der)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
