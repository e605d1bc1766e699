//! A namespace whose quota takes no container without limits.

use serde_json::{Value, json};

use crate::harness::{self, Namespace, PODS, is_ready, until, with};

fn quota() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "limits"},
        "spec": {"hard": {"limits.cpu": "8", "limits.memory": "4Gi"}},
    })
}

/// A model whose pods have limits, and a GPU-less pod beside them that has none yet.
fn spilling() -> Value {
    let object = with(harness::local("assistant"), "/spec/spill", json!({"replicas": 1}));
    let limits = json!({"cpu": "2", "memory": "512Mi"});
    with(object, "/spec/backends/0/local/resources/limits", limits)
}

async fn ready_pods(namespace: &Namespace) -> usize {
    let pods = namespace.pods("assistant").await;
    pods.iter().filter(|pod| is_ready(pod)).count()
}

#[tokio::test]
async fn a_quota_on_limits_is_told_and_met() {
    let namespace = Namespace::create("quota").await;
    namespace.apply(&quota()).await;
    namespace.apply(&spilling()).await;
    // The container that installs the runtime beside the engine has limits too.
    namespace.wait("assistant", "Ready", "True").await;
    namespace
        .wait_reason("assistant", "Degraded", "True", "PodsRefused")
        .await;
    let said = namespace.said("assistant", "Degraded").await;
    assert!(said.contains("limits.memory"), "{said}");
    assert!(said.contains("podTemplate"), "{said}");

    let resources = json!({"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}});
    namespace
        .apply(&with(spilling(), "/spec/podTemplate", json!({"resources": resources})))
        .await;
    until("both kinds of pods are Ready", PODS, async || {
        match ready_pods(&namespace).await {
            2 => Ok(()),
            ready => Err(format!("{ready} are")),
        }
    })
    .await;
    namespace.done().await;
}
