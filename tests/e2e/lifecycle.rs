//! A rolling change of an engine drains: streams in flight end well.

use serde_json::{Value, json};

use crate::harness::{self, Namespace, SOON, post, until, with};

fn story(tokens: u32) -> Value {
    json!({"model": "assistant", "stream": true, "max_tokens": tokens, "ignore_eos": true,
           "messages": [{"role": "user", "content": "Tell a long story"}]})
}

#[tokio::test]
async fn a_replaced_pod_finishes_its_streams() {
    let namespace = Namespace::create("drain").await;
    namespace.apply(&harness::local("assistant")).await;
    namespace.wait("assistant", "Ready", "True").await;
    let url = format!("{}/v1/chat/completions", namespace.service("assistant"));
    until("the first answer", SOON, async || post(&url, &story(1)).await).await;
    let before = namespace.pod_uids("assistant").await;

    let slow = {
        let url = url.clone();
        tokio::spawn(async move { post(&url, &story(400)).await })
    };
    namespace
        .apply(&with(
            harness::local("assistant"),
            "/spec/backends/0/local/parallel",
            json!(2),
        ))
        .await;
    let answer = slow.await.expect("no panic").expect("the stream is not cut");
    assert_eq!(answer.events().last(), Some(&"[DONE]"), "{}", answer.body);
    until("the pod is a new one, Ready", harness::PODS, async || {
        let now = namespace.pod_uids("assistant").await;
        if now.len() == 1 && now != before {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    })
    .await;
    namespace.wait("assistant", "Ready", "True").await;
    let again = until("an answer of the new pod", SOON, async || {
        let answer = post(&url, &story(1)).await?;
        if answer.status == 200 {
            Ok(answer)
        } else {
            Err(answer.body)
        }
    })
    .await;
    assert_eq!(again.events().last(), Some(&"[DONE]"));
    namespace.done().await;
}
