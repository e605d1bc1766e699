//! Which node a pod with GPUs gets. There is no GPU here: the node says that it has some, as an administrator may tell it to.

use kube::ResourceExt;
use serde_json::{Value, json};

use crate::harness::{self, Namespace, PODS, kubectl, until};

const RESOURCE: &str = "nvidia.com~1gpu";

/// A script that waits, with these GPUs.
fn waiting(name: &str, gpus: &Value) -> Value {
    let mut object = harness::local(name);
    let own = &mut object["spec"]["backends"][0]["local"];
    let image = own["image"].clone();
    *own = json!({
        "engine": "Custom",
        "image": image,
        "command": ["sleep", "1000"],
        "gpus": gpus,
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
    });
    object
}

/// The node with two GPUs, labelled as GPU feature discovery does it, and tainted.
struct Node(String);

impl Node {
    fn with_gpus() -> Self {
        let node = Self(harness::node());
        node.say("add", "/status/capacity", Some("2"));
        kubectl(&[
            "label",
            "node",
            &node.0,
            "nvidia.com/gpu.product=FAKE-80GB",
            "nvidia.com/gpu.memory=81559",
        ]);
        node
    }

    fn say(&self, verb: &str, place: &str, value: Option<&str>) {
        let patch = json!([{"op": verb, "path": format!("{place}/{RESOURCE}"), "value": value}]);
        kubectl(&[
            "patch",
            "node",
            &self.0,
            "--subresource=status",
            "--type=json",
            "-p",
            &patch.to_string(),
        ]);
    }

    fn restore(self) {
        kubectl(&[
            "label",
            "node",
            &self.0,
            "nvidia.com/gpu.product-",
            "nvidia.com/gpu.memory-",
        ]);
        self.say("remove", "/status/capacity", None);
    }
}

#[tokio::test]
async fn a_pod_goes_to_a_node_whose_gpus_are_what_it_asks_for() {
    let (namespace, node) = (Namespace::create("placement").await, Node::with_gpus());
    for (name, gpus) in [
        ("large", json!({"count": 1, "minMemory": "80Gi"})),
        ("other", json!({"count": 1, "product": "FAKE-40GB"})),
        ("many", json!({"count": 3})),
    ] {
        namespace.apply(&waiting(name, &gpus)).await;
        namespace.wait_reason(name, "Scheduled", "False", "Unschedulable").await;
    }
    let fits = json!({"count": 2, "product": "FAKE-80GB", "minMemory": "79Gi"});
    namespace.apply(&waiting("fits", &fits)).await;
    namespace.wait("fits", "Scheduled", "True").await;
    let pods = namespace.pods("fits").await;
    let limits = pods[0].spec.as_ref().unwrap().containers[0]
        .resources
        .clone()
        .unwrap()
        .limits
        .unwrap();
    assert_eq!(limits["nvidia.com/gpu"].0, "2");
    namespace.done().await;
    node.restore();
}

#[tokio::test]
async fn a_claim_is_made_for_each_pod_from_the_template() {
    let namespace = Namespace::create("placement-claim").await;
    let class = json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "e2e.example"},
        "spec": {"selectors": [{"cel": {"expression": "device.driver == 'nobody.example'"}}]}});
    let template = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": {"name": "one"},
        "spec": {"spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "e2e.example"}}]}}}});
    // Of the cluster, not of the namespace.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), class.to_string()).unwrap();
    kubectl(&["apply", "-f", &file.path().display().to_string()]);
    namespace.apply(&template).await;
    namespace
        .apply(&waiting("assistant", &json!({"claimTemplate": {"name": "one"}})))
        .await;
    // There is no driver: what the scheduler says of it is what people are told.
    namespace
        .wait_reason("assistant", "Scheduled", "False", "Unschedulable")
        .await;
    let pods = namespace.pods("assistant").await;
    let owner = until("the claim is there", PODS, async || {
        let claims: Value = serde_json::from_str(&namespace.kubectl(&["get", "resourceclaims", "-o", "json"])).unwrap();
        let owner = claims["items"][0]["metadata"]["ownerReferences"][0]["name"].clone();
        owner.as_str().map(str::to_owned).ok_or_else(|| claims.to_string())
    })
    .await;
    assert_eq!(owner, pods[0].name_any());
    namespace.done().await;
    kubectl(&["delete", "deviceclass", "e2e.example"]);
}
