//! A model on own machines: apply → Ready → streamed answer → status → delete.

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, Deployment},
    core::v1::{Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    rbac::v1::{Role, RoleBinding},
};
use kube::{Resource, api::ListParams, core::NamespaceResourceScope};
use serde_json::json;

use crate::harness::{self, Namespace, PODS, figure, get, post, until};

#[tokio::test]
async fn a_model_answers_and_all_of_it_goes_with_the_resource() {
    let namespace = Namespace::create("local").await;
    namespace.apply(&harness::local("assistant")).await;
    figure(
        "apply → Ready (tiny model), s",
        namespace.wait("assistant", "Ready", "True").await.as_secs_f64(),
    );
    answers_streamed(&namespace).await;
    answers_whole(&namespace).await;
    is_told(&namespace).await;
    deletes_everything(&namespace).await;
    namespace.done().await;
}

/// The example of the README, with its real model.
#[tokio::test]
async fn the_example_makes_sense() {
    let namespace = Namespace::create("example").await;
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/local-llama.yaml");
    namespace.kubectl(&["apply", "-f", example]);
    let name = namespace.kubectl(&["get", "infd", "-o", "jsonpath={.items[0].metadata.name}"]);
    figure(
        "apply → Ready (SmolLM2-135M), s",
        namespace.wait(&name, "Ready", "True").await.as_secs_f64(),
    );
    let url = format!("{}/v1/completions", namespace.service(&name));
    let body = |tokens: u32| json!({"model": name, "max_tokens": tokens, "temperature": 0, "prompt": "The capital of France is"});
    let answer = until("the first answer", harness::SOON, async || post(&url, &body(4)).await).await;
    let text = answer.json()["choices"][0]["text"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(text.starts_with(" Paris"), "{}", answer.body);
    let long = post(&url, &body(64)).await.expect("an answer");
    let tokens = long.json()["usage"]["completion_tokens"].as_f64().expect("usage");
    figure(
        "tokens/s through the Service (SmolLM2-135M)",
        tokens / long.total.as_secs_f64(),
    );
    namespace.done().await;
}

async fn answers_streamed(namespace: &Namespace) {
    let body = json!({"model": "assistant", "stream": true, "max_tokens": 16, "messages": [{"role": "user", "content": "Hello"}]});
    let url = format!("{}/v1/chat/completions", namespace.service("assistant"));
    // The Service's rules reach the node a moment after the pod is Ready.
    let answer = until("the first answer", harness::SOON, async || post(&url, &body).await).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let events = answer.events();
    assert_eq!(events.last(), Some(&"[DONE]"), "{}", answer.body);
    assert!(
        events.iter().all(|e| !e.contains("\"usage\":{")),
        "usage was not asked for: {}",
        answer.body
    );
    figure("Ready → first token, s", answer.first_byte.as_secs_f64());
}

async fn answers_whole(namespace: &Namespace) {
    let url = |path: &str| format!("{}/v1/{path}", namespace.service("assistant"));
    let body = json!({"model": "assistant", "max_tokens": 4, "prompt": "a"});
    let answer = post(&url("completions"), &body).await.expect("an answer");
    assert_eq!(
        (
            answer.status.as_u16(),
            answer.json()["usage"]["completion_tokens"].as_u64()
        ),
        (200, Some(4)),
        "{}",
        answer.body
    );
    let models = get(&url("models")).await.expect("an answer");
    assert_eq!(models.json()["data"][0]["id"], "assistant");
    let other = json!({"model": "other", "messages": [{"role": "user", "content": "Hi"}]});
    let refused = post(&url("chat/completions"), &other).await.expect("an answer");
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (404, "model_not_found")
    );
}

async fn is_told(namespace: &Namespace) {
    let status = namespace.status("assistant").await;
    assert_eq!(
        status.endpoint.as_deref(),
        Some(format!("http://assistant.{}.svc/v1", namespace.name).as_str())
    );
    assert_eq!((status.replicas, status.ready_replicas), (Some(1), Some(1)));
    assert_eq!(status.active_backend.as_deref(), Some("own"));
    let condition = |kind: &str| {
        status
            .conditions
            .iter()
            .find(|c| c.type_ == kind)
            .map(|c| c.status.as_str())
    };
    for kind in [
        "Ready",
        "Scheduled",
        "ModelLoaded",
        "BackendsAvailable",
        "CircuitClosed",
    ] {
        assert_eq!(condition(kind), Some("True"), "{kind}: {:?}", status.conditions);
    }
    assert_eq!(condition("Degraded"), Some("False"));
    assert_eq!(
        (condition("Reconciling"), condition("Stalled")),
        (None, None),
        "present only while true"
    );
    let columns = namespace.kubectl(&["get", "infd", "assistant"]);
    assert!(columns.contains("READY") && columns.contains("own"), "{columns}");
}

async fn count<K>(namespace: &Namespace) -> usize
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let ours = ListParams::default().labels("inference-operator.dev/deployment=assistant");
    namespace
        .api::<K>()
        .list(&ours)
        .await
        .expect("it can be listed")
        .items
        .len()
}

async fn children(namespace: &Namespace) -> [usize; 9] {
    [
        count::<Deployment>(namespace).await,
        count::<Service>(namespace).await,
        count::<NetworkPolicy>(namespace).await,
        count::<ServiceAccount>(namespace).await,
        count::<Role>(namespace).await,
        count::<RoleBinding>(namespace).await,
        count::<ControllerRevision>(namespace).await,
        count::<inference_operator::api::InferenceReplica>(namespace).await,
        count::<k8s_openapi::api::core::v1::Pod>(namespace).await,
    ]
}

async fn deletes_everything(namespace: &Namespace) {
    assert!(
        children(namespace).await.iter().all(|n| *n > 0),
        "{:?}",
        children(namespace).await
    );
    namespace.kubectl(&["delete", "infd", "assistant", "--timeout=60s"]);
    until("all children are gone", PODS, async || {
        match children(namespace).await {
            [0, 0, 0, 0, 0, 0, 0, 0, 0] => Ok(()),
            left => Err(format!("{left:?}")),
        }
    })
    .await;
}
