//! Pods on devices that the kubelet gave them, by a device plugin and by a DRA driver. The devices are fakes, all else is real.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::harness::{self, Devices, Namespace, PODS, SOON, figure, kubectl, post, until};

/// Of its own among the tests: they share the node.
const RESOURCE: &str = "example.com/gpu";
const DRIVER: &str = "gpu.e2e.example";

/// The real engine with the tiny model, on CPU beside these GPUs.
fn with_gpus(name: &str, gpus: Value) -> Value {
    let mut object = harness::local(name);
    object["spec"]["backends"][0]["local"]["gpus"] = gpus;
    object
}

async fn answers(namespace: &Namespace, name: &str) {
    let url = format!("{}/v1/completions", namespace.service(name));
    let body = json!({"model": name, "max_tokens": 4, "prompt": "a"});
    let answer = until("an answer", SOON, async || post(&url, &body).await).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// What the kubelet says of the devices of a pod: the resource's name, the device and its health.
fn allocated(pod: &Pod) -> Vec<(String, String, String)> {
    let containers = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    let resources = containers.flat_map(|c| c.allocated_resources_status.iter().flatten());
    resources
        .flat_map(|resource| {
            let devices = resource.resources.iter().flatten();
            let row = |d: &k8s_openapi::api::core::v1::ResourceHealth| {
                (
                    resource.name.clone(),
                    d.resource_id.clone(),
                    d.health.clone().unwrap_or_default(),
                )
            };
            devices.map(row).collect::<Vec<_>>()
        })
        .collect()
}

/// Value of a variable in the engine's container.
fn variable(namespace: &Namespace, pod: &Pod, name: &str) -> String {
    let value = namespace.kubectl(&["exec", &pod.name_any(), "-c", "engine", "--", "printenv", name]);
    value.trim().to_owned()
}

async fn healthy_message(namespace: &Namespace, name: &str) -> String {
    let status = namespace.status(name).await;
    let healthy = status.conditions.into_iter().find(|c| c.type_ == "GPUHealthy");
    healthy.expect("GPUHealthy").message
}

/// A device breaks and is well again: the condition follows, and the pod goes on serving.
async fn breaks_and_heals(namespace: &Namespace, devices: &Devices, device: &str, why: &str) -> String {
    let before = namespace.pod_uids("assistant").await;
    devices.breaks(device, why);
    let took = namespace
        .wait_reason("assistant", "GPUHealthy", "False", "GPUFaulty")
        .await;
    figure("device breaks → GPUHealthy=False, s", took.as_secs_f64());
    let message = healthy_message(namespace, "assistant").await;
    answers(namespace, "assistant").await;
    devices.heal();
    let took = namespace.wait("assistant", "GPUHealthy", "True").await;
    figure("device is well → GPUHealthy=True, s", took.as_secs_f64());
    assert_eq!(namespace.pod_uids("assistant").await, before, "the pod stays");
    message
}

/// The driver must be there as long as pods have its devices: the kubelet gives them back to it.
async fn ends(namespace: Namespace) {
    namespace.kubectl(&["delete", "inferencedeployments", "--all"]);
    until("the pods are gone", PODS, async || {
        let pods = namespace.kubectl(&["get", "pods", "-o", "name"]);
        if pods.is_empty() { Ok(()) } else { Err(pods) }
    })
    .await;
    namespace.done().await;
}

#[tokio::test]
async fn a_device_of_a_plugin_is_given_to_a_pod_and_its_health_is_told() {
    let namespace = Namespace::create("device-plugin").await;
    let devices = Devices::plugin(RESOURCE, &["MIG-fake-0", "MIG-fake-1"]);
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(namespace.client.clone());
    let name = harness::node();
    until("the node has the devices", SOON, async || {
        let node = nodes.get(&name).await.map_err(|e| e.to_string())?;
        let allocatable = node.status.and_then(|s| s.allocatable).unwrap_or_default();
        match allocatable.get(RESOURCE) {
            Some(count) if count.0 == "2" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let gpus = |count: u32| json!({"count": count, "resourceName": RESOURCE});
    namespace.apply(&with_gpus("assistant", gpus(1))).await;
    figure(
        "apply → Ready on a device of a plugin, s",
        namespace.wait("assistant", "Ready", "True").await.as_secs_f64(),
    );
    answers(&namespace, "assistant").await;
    namespace.wait("assistant", "GPUHealthy", "True").await;
    let pod = namespace.pods("assistant").await.remove(0);
    let device = variable(&namespace, &pod, "NVIDIA_VISIBLE_DEVICES");
    assert_eq!(allocated(&pod), [(RESOURCE.into(), device.clone(), "Healthy".into())]);

    // One of two is taken.
    namespace.apply(&with_gpus("greedy", gpus(2))).await;
    namespace
        .wait_reason("greedy", "Scheduled", "False", "Unschedulable")
        .await;
    let status = namespace.status("greedy").await;
    let scheduled = status.conditions.iter().find(|c| c.type_ == "Scheduled").unwrap();
    assert!(
        scheduled.message.contains(&format!("Insufficient {RESOURCE}")) && scheduled.message.contains("ask for less"),
        "{}",
        scheduled.message
    );

    let message = breaks_and_heals(&namespace, &devices, &device, "").await;
    let node = format!("on node {name}: the kubelet calls device {device} unhealthy");
    assert!(message.contains(&node), "{message}");
    ends(namespace).await;
}

/// A class of its own for the driver's devices, of the cluster and not of the namespace.
fn device_class(name: &str) {
    let class = json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": name},
        "spec": {"selectors": [{"cel": {"expression": format!("device.driver == '{name}'")}}]}});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), class.to_string()).unwrap();
    kubectl(&["apply", "-f", &file.path().display().to_string()]);
}

/// Devices of which one only has 80 GiB.
fn driver(name: &str) -> Devices {
    device_class(name);
    Devices::driver(name, &["gpu-0,FAKE-40GB,40Gi", "gpu-1,FAKE-80GB,80Gi"])
}

#[tokio::test]
async fn a_device_of_a_driver_is_claimed_for_a_pod_and_its_health_is_told() {
    let namespace = Namespace::create("device-driver").await;
    let devices = driver(DRIVER);
    let product = format!("device.attributes['{DRIVER}'].productName == 'FAKE-80GB'");
    let template = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": {"name": "large"},
        "spec": {"spec": {"devices": {"requests": [{"name": "gpu", "exactly": {
            "deviceClassName": DRIVER, "selectors": [{"cel": {"expression": product}}]}}]}}}});
    namespace.apply(&template).await;
    let claimed = json!({"claimTemplate": {"name": "large"}});
    namespace.apply(&with_gpus("assistant", claimed.clone())).await;
    figure(
        "apply → Ready on a device of a driver, s",
        namespace.wait("assistant", "Ready", "True").await.as_secs_f64(),
    );
    answers(&namespace, "assistant").await;
    namespace.wait("assistant", "GPUHealthy", "True").await;
    let pod = namespace.pods("assistant").await.remove(0);
    assert_eq!(variable(&namespace, &pod, "FAKE_DEVICE"), "gpu-1");
    let told = until("the kubelet tells the device's health", SOON, async || {
        let pod = namespace.pods("assistant").await.remove(0);
        allocated(&pod).pop().ok_or_else(|| "nothing".to_owned())
    })
    .await;
    assert!(
        told.0.starts_with("claim:gpus") && told.1.contains("gpu-1") && told.2 == "Healthy",
        "{told:?}"
    );

    namespace.apply(&with_gpus("second", claimed)).await;
    namespace
        .wait_reason("second", "Scheduled", "False", "Unschedulable")
        .await;

    let message = breaks_and_heals(&namespace, &devices, "gpu-1", "too hot").await;
    assert!(
        message.contains("gpu-1") && message.ends_with("unhealthy: too hot"),
        "{message}"
    );
    ends(namespace).await;
    kubectl(&["delete", "deviceclass", DRIVER]);
}
