package main

// component is one daemon of the cluster.
type component struct {
	name string
	args []string
}

func containerd(l layout) component {
	return component{"containerd", []string{"--config", l.config("containerd.toml")}}
}

// etcd does not wait for the disk: nothing in it outlives the cluster.
func etcd(l layout) component {
	return component{"etcd", []string{
		"--data-dir", l.data("etcd"),
		"--listen-client-urls", "http://" + etcdAddress, "--advertise-client-urls", "http://" + etcdAddress,
		"--listen-peer-urls", "http://127.0.0.1:2380", "--unsafe-no-fsync", "--log-level", "warn",
	}}
}

func apiServer(l layout) component {
	return component{"kube-apiserver", []string{
		"--etcd-servers=http://" + etcdAddress,
		"--advertise-address=" + nodeIP, "--secure-port=6443",
		"--client-ca-file=" + l.pki("ca.crt"),
		"--tls-cert-file=" + l.pki("apiserver.crt"), "--tls-private-key-file=" + l.pki("apiserver.key"),
		"--kubelet-certificate-authority=" + l.pki("ca.crt"),
		"--kubelet-client-certificate=" + l.pki("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + l.pki("apiserver-kubelet-client.key"),
		"--proxy-client-cert-file=" + l.pki("front-proxy-client.crt"),
		"--proxy-client-key-file=" + l.pki("front-proxy-client.key"),
		"--requestheader-client-ca-file=" + l.pki("ca.crt"), "--requestheader-allowed-names=" + frontProxy,
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		// The node's name is in no DNS.
		"--kubelet-preferred-address-types=InternalIP",
		"--service-cluster-ip-range=" + serviceCIDR,
		"--service-account-issuer=" + serviceIssuer,
		"--service-account-key-file=" + l.pki("sa.pub"), "--service-account-signing-key-file=" + l.pki("sa.key"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
	}}
}

func controllerManager(l layout) component {
	return component{"kube-controller-manager", []string{
		"--kubeconfig=" + l.kubeconfig("controller-manager"),
		"--bind-address=127.0.0.1", "--leader-elect=false",
		// With the default of 20 calls a second its controllers alone take 5 s to get their tokens.
		"--kube-api-qps=200", "--kube-api-burst=400",
		// It looks at a new node this often, and no pod may run there before.
		"--node-monitor-period=1s",
		// A test waits for what an autoscaler does.
		"--horizontal-pod-autoscaler-sync-period=5s",
		"--use-service-account-credentials=true", "--service-account-private-key-file=" + l.pki("sa.key"),
		"--root-ca-file=" + l.pki("ca.crt"),
		// Else it makes a folder below /usr/libexec.
		"--flex-volume-plugin-dir=" + l.data("kubelet-plugins"),
		"--cluster-signing-cert-file=" + l.pki("ca.crt"), "--cluster-signing-key-file=" + l.pki("ca.key"),
	}}
}

func scheduler(l layout) component {
	return component{"kube-scheduler", []string{
		"--kubeconfig=" + l.kubeconfig("scheduler"), "--bind-address=127.0.0.1", "--leader-elect=false",
	}}
}

func kubelet(l layout) component {
	return component{"kubelet", []string{
		"--config=" + l.config("kubelet.yaml"), "--kubeconfig=" + l.kubeconfig("kubelet"),
		"--hostname-override=" + nodeName, "--node-ip=" + nodeIP,
	}}
}

func kubeProxy(l layout) component {
	return component{"kube-proxy", []string{"--config=" + l.config("proxy.yaml")}}
}

func coreDNS(l layout) component {
	return component{"coredns", []string{"-conf", l.config("Corefile")}}
}

// afterAPI are those that are of no use before the API server answers.
func afterAPI(l layout) []component {
	return []component{kubelet(l), controllerManager(l), scheduler(l), kubeProxy(l), coreDNS(l)}
}
