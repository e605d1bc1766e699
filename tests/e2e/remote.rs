//! A provider: a wrong key is told and mended without a restart; a changed spec takes effect without one.

use serde_json::{Value, json};

use crate::harness::{self, Namespace, PODS, Provider, SOON, figure, post, until};

fn chat() -> Value {
    json!({"model": "assistant", "messages": [{"role": "user", "content": "Hello"}]})
}

fn url(namespace: &Namespace) -> String {
    format!("{}/v1/chat/completions", namespace.service("assistant"))
}

#[tokio::test]
async fn a_wrong_key_is_told_and_mended_without_a_restart() {
    let provider = Provider::start("sk-right").await;
    let namespace = Namespace::create("remote-key").await;
    namespace.apply(&harness::secret("sk-wrong")).await;
    namespace.apply(&harness::remote("assistant", &provider.endpoint)).await;
    figure(
        "apply → Ready (remote), s",
        namespace.wait("assistant", "Ready", "True").await.as_secs_f64(),
    );
    let pods = namespace.pod_uids("assistant").await;

    let refused = until("the first answer", SOON, async || post(&url(&namespace), &chat()).await).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (502, "unauthorized"),
        "{}",
        refused.body
    );
    assert!(
        !refused.body.contains("sk-wrong"),
        "no key in an answer: {}",
        refused.body
    );
    assert_eq!(provider.calls(), 2, "tried once more with a rebuilt session, no more");
    namespace
        .wait_reason("assistant", "CredentialsAccepted", "False", "Unauthorized")
        .await;
    is_described(&namespace).await;

    namespace.apply(&harness::secret("sk-right")).await;
    let started = std::time::Instant::now();
    let mended = std::time::Duration::from_secs(150);
    let answer = until("an answer with the new key", mended, async || {
        let answer = post(&url(&namespace), &chat()).await?;
        if answer.status == 200 {
            Ok(answer)
        } else {
            Err(answer.body)
        }
    })
    .await;
    figure("Secret changed → answered, s", started.elapsed().as_secs_f64());
    assert_eq!(
        answer.json()["choices"][0]["message"]["content"],
        "Hello from the provider"
    );
    namespace.wait("assistant", "CredentialsAccepted", "True").await;
    namespace.wait("assistant", "Ready", "True").await;
    assert_eq!(namespace.pod_uids("assistant").await, pods, "no pod was replaced");
    let restarts = namespace.kubectl(&[
        "get",
        "pods",
        "-o",
        "jsonpath={.items[*].status.containerStatuses[*].restartCount}",
    ]);
    assert_eq!(restarts, "0");
    namespace.done().await;
}

/// `kubectl describe` tells it, with one Warning event.
async fn is_described(namespace: &Namespace) {
    let text = until("the event", SOON, async || {
        let text = namespace.kubectl(&["describe", "infd", "assistant"]);
        if text.contains("Warning") { Ok(text) } else { Err(text) }
    })
    .await;
    assert!(
        text.contains("CredentialsAccepted") && text.contains("Unauthorized"),
        "{text}"
    );
    assert!(!text.contains("sk-wrong"), "no key in conditions and events: {text}");
    let warnings = text.lines().filter(|l| l.trim_start().starts_with("Warning")).count();
    assert_eq!(warnings, 1, "{text}");
}

#[tokio::test]
async fn a_changed_backend_takes_effect_without_a_restart() {
    let (first, second) = (Provider::start("sk").await, Provider::start("sk").await);
    let namespace = Namespace::create("remote-hot").await;
    namespace.apply(&harness::secret("sk")).await;
    namespace.apply(&harness::remote("assistant", &first.endpoint)).await;
    namespace.wait("assistant", "Ready", "True").await;
    let pods = namespace.pod_uids("assistant").await;
    let answer = until("the first answer", SOON, async || post(&url(&namespace), &chat()).await).await;
    assert_eq!((answer.status.as_u16(), first.accepted()), (200, 1), "{}", answer.body);

    namespace.apply(&harness::remote("assistant", &second.endpoint)).await;
    namespace.wait("assistant", "Ready", "True").await;
    until("the new endpoint is called", SOON, async || {
        post(&url(&namespace), &chat()).await?;
        if second.accepted() > 0 {
            Ok(())
        } else {
            Err("still the old one".into())
        }
    })
    .await;
    assert_eq!(namespace.pod_uids("assistant").await, pods, "no pod was replaced");
    namespace.done().await;
}

#[tokio::test]
async fn a_missing_secret_blocks_its_backend_and_not_the_pod() {
    let provider = Provider::start("sk").await;
    let namespace = Namespace::create("remote-nosecret").await;
    namespace.apply(&harness::remote("assistant", &provider.endpoint)).await;
    namespace
        .wait_reason("assistant", "CredentialsAccepted", "False", "CredentialsMissing")
        .await;
    namespace.wait("assistant", "Ready", "False").await;
    until("the pod runs all the same", PODS, async || {
        let pods = namespace.pods("assistant").await;
        let running = pods
            .iter()
            .all(|p| p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running"));
        if running && !pods.is_empty() {
            Ok(())
        } else {
            Err(format!("{} pods", pods.len()))
        }
    })
    .await;
    assert_eq!(provider.calls(), 0);
    namespace.apply(&harness::secret("sk")).await;
    namespace.wait("assistant", "Ready", "True").await;
    namespace.done().await;
}
