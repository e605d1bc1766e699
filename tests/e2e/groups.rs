//! Models on several nodes. The cluster has no LeaderWorkerSet: the test adds its API, but nothing that carries it out.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{self, Namespace, PODS, kubectl, until};

const CRD: &str = "leaderworkersets.leaderworkerset.x-k8s.io";

/// Two nodes with eight GPUs each.
fn spread() -> Value {
    let mut object = harness::local("assistant");
    let own = &mut object["spec"]["backends"][0]["local"];
    own["engine"] = json!("VLLM");
    own["nodes"] = json!(2);
    own["gpus"] = json!({"count": 8});
    object["spec"]["replicas"] = json!(3);
    object
}

/// The definition that scripts/build-cluster put beside kubectl.
fn definition() -> String {
    let output = Command::new("sh")
        .args(["-c", "dirname $(readlink -f $(command -v helm))"])
        .output()
        .unwrap();
    let folder = String::from_utf8(output.stdout).unwrap();
    format!("{}/leaderworkersets.yaml", folder.trim())
}

#[tokio::test]
async fn a_model_on_several_nodes_waits_for_the_api_and_is_what_that_takes() {
    let namespace = Namespace::create("groups").await;
    namespace.apply(&spread()).await;
    namespace
        .wait_reason("assistant", "Stalled", "True", "Unsupported")
        .await;
    let status = namespace.status("assistant").await;
    let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled").unwrap();
    let said = "spec.backends[0].local.nodes: this cluster does not have the API leaderworkerset.x-k8s.io/v1";
    assert!(stalled.message.contains(said), "{}", stalled.message);
    assert!(namespace.kubectl(&["get", "deployments", "-o", "name"]).is_empty());

    // Too large for the annotation of a client-side apply.
    kubectl(&["apply", "--server-side", "-f", &definition()]);
    let group = until("the group is there", PODS, async || {
        let found = Command::new("kubectl")
            .args([
                "-n",
                &namespace.name,
                "get",
                "leaderworkersets",
                "assistant-nodes",
                "-o",
                "json",
            ])
            .output()
            .unwrap();
        serde_json::from_slice::<Value>(&found.stdout).map_err(|_| String::from_utf8_lossy(&found.stderr).into_owned())
    })
    .await;
    let pods = &group["spec"]["leaderWorkerTemplate"];
    assert_eq!((&group["spec"]["replicas"], &pods["size"]), (&json!(3), &json!(2)));
    let container = |template: &str| pods[template]["spec"]["containers"][0].clone();
    assert_eq!(container("leaderTemplate")["command"][1], "serve");
    assert_eq!(container("workerTemplate")["command"][1], "follow");
    for template in ["leaderTemplate", "workerTemplate"] {
        assert_eq!(
            container(template)["resources"]["limits"]["nvidia.com/gpu"],
            "8",
            "{template}"
        );
    }
    // Nobody carries it out here: what its controller would say is said for it.
    namespace
        .wait_reason("assistant", "Reconciling", "True", "RollingOut")
        .await;
    let status = json!({"status": {"replicas": 3, "updatedReplicas": 3, "readyReplicas": 1}}).to_string();
    namespace.kubectl(&[
        "patch",
        "leaderworkersets",
        "assistant-nodes",
        "--subresource=status",
        "--type=merge",
        "-p",
        &status,
    ]);
    until("the groups are counted", PODS, async || {
        let status = namespace.status("assistant").await;
        match (status.replicas, status.ready_replicas) {
            (Some(3), Some(1)) => Ok(()),
            counts => Err(format!("{counts:?}")),
        }
    })
    .await;

    // One node again: the Deployment is back and the group gone.
    namespace.apply(&harness::local("assistant")).await;
    namespace.wait("assistant", "Ready", "True").await;
    assert!(namespace.kubectl(&["get", "leaderworkersets", "-o", "name"]).is_empty());
    namespace.done().await;
    kubectl(&["delete", "crd", CRD, "--wait=false"]);
}
