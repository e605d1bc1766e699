//! A real HorizontalPodAutoscaler, with a real metrics-server that the test starts on the node.

use std::{
    env, fs,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::House;
use crate::harness::{self, figure, kubectl, post, until, with};

const PORT: u16 = 4443;
const API: &str = "v1beta1.metrics.k8s.io";

/// The running metrics-server, known to the API server. Both end when dropped.
struct MetricsServer {
    process: Child,
    _folder: tempfile::TempDir,
}

impl MetricsServer {
    fn start() -> Self {
        let node = env::var("LOCAL_CLUSTER_NODE_IP").expect("tests run inside the local cluster's namespaces");
        let config = env::var("KUBECONFIG").expect("so they have this");
        let folder = tempfile::tempdir().expect("a folder");
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        let process = Command::new("metrics-server")
            .args(
                ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
                    .map(|f| format!("--{f}={config}")),
            )
            .args([format!("--bind-address={node}"), format!("--secure-port={PORT}")])
            .arg(format!("--cert-dir={}", folder.path().display()))
            .args([
                "--metric-resolution=10s",
                "--kubelet-request-timeout=5s",
                "--kubelet-insecure-tls",
            ])
            .args([
                "--kubelet-preferred-address-types=InternalIP",
                "--kubelet-use-node-status-port",
            ])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("metrics-server is on PATH");
        register(&node);
        Self {
            process,
            _folder: folder,
        }
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        let _ = Command::new("kubectl")
            .args(["delete", "apiservice", API, "--ignore-not-found"])
            .status();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn apply(objects: &[Value]) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("objects.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    fs::write(&file, list.to_string()).expect("written");
    kubectl(&["apply", "-f", &file.display().to_string()]);
}

/// A Service that leads to a process of the node, and the API behind it.
fn register(node: &str) {
    let meta = json!({"name": "metrics-server", "namespace": "kube-system"});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": meta,
        "spec": {"ports": [{"name": "https", "port": 443, "targetPort": PORT}]}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "metrics-server-1", "namespace": "kube-system", "labels": {"kubernetes.io/service-name": "metrics-server"}},
        "addressType": "IPv4", "ports": [{"name": "https", "port": PORT, "protocol": "TCP"}], "endpoints": [{"addresses": [node]}]});
    let api = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": API},
        "spec": {"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"name": "metrics-server", "namespace": "kube-system"}}});
    apply(&[service, slice, api]);
}

/// One to two local pods, at half of the CPU that they ask for.
fn autoscaler() -> Value {
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "assistant"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "inference-operator.dev/v1alpha1", "kind": "InferenceDeployment", "name": "assistant"},
        "minReplicas": 1, "maxReplicas": 2,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
    }})
}

/// Asks again and again, one request after another, until told to stop.
async fn keep_asking(url: String, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) {
    let body = json!({"model": "assistant", "max_tokens": 100, "ignore_eos": true,
        "messages": [{"role": "user", "content": "Tell a long story"}]});
    while !stop.load(Ordering::Relaxed) {
        if post(&url, &body).await.is_ok_and(|answer| answer.status == 200) {
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn an_autoscaler_scales_local_pods_by_their_load() {
    let _server = MetricsServer::start();
    let cpu = "/spec/backends/0/local/resources/requests/cpu";
    let house = House::start("autoscaler", &with(harness::local("assistant"), cpu, json!("100m"))).await;
    house.namespace.apply(&autoscaler()).await;
    let limit = Duration::from_secs(180);
    until("the autoscaler knows the pods' load", limit, async || {
        let current = "jsonpath={.status.currentMetrics[0].resource.current.averageUtilization}";
        match house
            .namespace
            .kubectl(&["get", "hpa", "assistant", "-o", current])
            .as_str()
        {
            "" => Err(house.namespace.kubectl(&["describe", "hpa", "assistant"])),
            load => Ok(load.to_owned()),
        }
    })
    .await;
    assert_eq!(house.of_tier("local").await.len(), 1, "an idle pod is enough");

    let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let asking = tokio::spawn(keep_asking(house.url(), Arc::clone(&stop), Arc::clone(&answered)));
    let began = Instant::now();
    until("the second pod is Ready", limit, async || {
        let status = house.namespace.status("assistant").await;
        match (status.replicas, status.ready_replicas) {
            (Some(2), Some(2)) => Ok(()),
            _ => Err(house.namespace.kubectl(&["describe", "hpa", "assistant"])),
        }
    })
    .await;
    figure(
        "load → the autoscaler's second local pod is Ready, s",
        began.elapsed().as_secs_f64(),
    );
    let spec = house
        .namespace
        .deployments()
        .get("assistant")
        .await
        .expect("it is there")
        .spec;
    assert_eq!(spec.replicas, Some(2), "it scales the InferenceDeployment");
    stop.store(true, Ordering::Relaxed);
    asking.await.expect("no panic");
    assert!(answered.load(Ordering::Relaxed) > 0);

    let ended = Instant::now();
    until("one pod is left", limit, async || {
        match house.of_tier("local").await.len() {
            1 => Ok(()),
            found => Err(format!("{found}")),
        }
    })
    .await;
    figure("load ends → one local pod is left, s", ended.elapsed().as_secs_f64());
    house.namespace.kubectl(&["delete", "hpa", "assistant"]);
    house.namespace.done().await;
}
