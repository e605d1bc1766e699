//! The two kinds of pods: a GPU-less one forwards to a local one, and spills to the next backend when no engine answers.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::harness::{self, Namespace, PODS, Provider, SOON, post, until, with};

fn chat() -> Value {
    json!({"model": "assistant", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]})
}

/// Address of the API of the one pod of a tier.
async fn pod_of_tier(namespace: &Namespace, tier: &str) -> (String, String) {
    let of_tier = |p: &Pod| {
        p.metadata
            .labels
            .as_ref()
            .is_some_and(|l| l.get("inference-operator.dev/tier").is_some_and(|t| t == tier))
    };
    let pods = namespace.pods("assistant").await;
    let pod = pods
        .into_iter()
        .find(of_tier)
        .unwrap_or_else(|| panic!("no {tier} pod"));
    let address = pod.status.and_then(|s| s.pod_ip).expect("an address");
    (
        pod.metadata.name.expect("a name"),
        format!("http://{address}:8000/v1/chat/completions"),
    )
}

#[tokio::test]
async fn a_pod_without_engine_hops_to_one_and_spills_when_there_is_none() {
    let provider = Provider::start("sk").await;
    let namespace = Namespace::create("hop").await;
    namespace.apply(&harness::secret("sk")).await;
    let far = harness::remote("assistant", &provider.endpoint)["spec"]["backends"][0].clone();
    let both = with(harness::local("assistant"), "/spec/backends/-", far);
    let both = with(both, "/spec/spill", json!({"replicas": 1}));
    namespace.apply(&both).await;
    namespace.wait("assistant", "Ready", "True").await;
    until("both pods are Ready", PODS, async || {
        let ready = namespace.kubectl(&[
            "get",
            "pods",
            "-o",
            "jsonpath={.items[*].status.containerStatuses[*].ready}",
        ]);
        if ready == "true true" { Ok(()) } else { Err(ready) }
    })
    .await;

    let (_, forwarder) = pod_of_tier(&namespace, "remote").await;
    let hopped = until("an answer of the engine through the hop", SOON, async || {
        let answer = post(&forwarder, &chat()).await?;
        let by_engine = answer.status == 200 && !answer.body.contains("Hello from the provider");
        if by_engine { Ok(answer) } else { Err(answer.body) }
    })
    .await;
    assert_eq!(hopped.json()["usage"]["completion_tokens"], 4, "{}", hopped.body);
    let paid_before = provider.accepted();

    namespace.apply(&with(both, "/spec/replicas", json!(0))).await;
    let spilled = until("an answer of the provider", PODS, async || {
        let answer = post(&forwarder, &chat()).await?;
        if answer.body.contains("Hello from the provider") {
            Ok(answer)
        } else {
            Err(answer.body)
        }
    })
    .await;
    assert_eq!((spilled.status.as_u16(), provider.accepted()), (200, paid_before + 1));
    namespace.wait("assistant", "Ready", "True").await;
    namespace.done().await;
}

#[tokio::test]
async fn the_peer_port_refuses_callers_without_a_peers_token() {
    let namespace = Namespace::create("hop-refused").await;
    namespace.apply(&harness::local("assistant")).await;
    namespace.wait("assistant", "Ready", "True").await;
    let (_, client) = pod_of_tier(&namespace, "local").await;
    let peer = client.replace(":8000", ":8001");
    let refused = until("an answer", SOON, async || post(&peer, &chat()).await).await;
    assert_eq!(refused.status, 401, "{}", refused.body);
    namespace.done().await;
}
