//! Keys that are wrong, missing and mended.

use super::{
    process::{start_with_keys, until},
    requests::{CHAT, remote},
    upstream::{Act, Upstream},
};

#[tokio::test]
async fn a_wrong_key_opens_the_credential_circuit_and_a_new_one_closes_it() {
    let upstream = Upstream::play([Act::WantsKey("sk-right")]).await;
    let spec = format!(
        "backends:\n{}",
        remote(&upstream, ", circuitBreaker: {openDuration: 10m}")
    );
    let runtime = start_with_keys(&spec, &[("openai", "api-key", "sk-wrong\n")]).await;
    let answer = runtime.chat("").await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().1.as_str()),
        (502, "unauthorized")
    );
    assert!(!answer.text.contains("sk-wrong"), "{}", answer.text);
    assert_eq!(upstream.seen().len(), 2, "one retry with a rebuilt session");
    assert_eq!(runtime.circuit("openai", "Credential").await, "Open");
    assert_eq!(runtime.circuit("openai", "Endpoint").await, "Closed");
    assert_eq!(runtime.chat("").await.error().1, "circuit_open");
    assert_eq!(upstream.seen().len(), 2, "nothing is sent while it is open");
    assert_eq!(runtime.status().await["backends"][0]["reason"], "Unauthorized");

    runtime.write_key("openai", "api-key", "sk-right\n");
    until("the answer with the new key", || async {
        runtime.chat("").await.text == CHAT
    })
    .await;
    assert_eq!(runtime.circuit("openai", "Credential").await, "Closed");
}

#[tokio::test]
async fn a_key_mended_in_time_is_taken_by_the_rebuilt_session() {
    let upstream = Upstream::play([
        Act::Answer(401, &[], r#"{"error":"Unauthorized"}"#.into()),
        Act::WantsKey("sk-right"),
    ])
    .await;
    let runtime = start_with_keys(
        &format!("backends:\n{}", remote(&upstream, "")),
        &[("openai", "api-key", "sk-right")],
    )
    .await;
    assert_eq!(runtime.chat("").await.text, CHAT);
    assert_eq!(runtime.circuit("openai", "Credential").await, "Closed");
}

#[tokio::test]
async fn a_missing_key_is_named_and_its_arrival_is_seen() {
    let upstream = Upstream::play([Act::WantsKey("sk-right")]).await;
    let spec = format!("backends:\n{}", remote(&upstream, ""));
    let runtime = start_with_keys(&spec, &[("openai", "other", "x")]).await;
    let answer = runtime.chat("").await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().1.as_str()),
        (502, "unauthorized")
    );
    assert!(
        answer.text.contains("the key api-key of Secret openai is missing"),
        "{}",
        answer.text
    );
    assert_eq!(runtime.status().await["backends"][0]["reason"], "CredentialsMissing");
    assert_eq!(upstream.seen().len(), 0);
    runtime.write_key("openai", "api-key", "sk-right");
    until("the answer with the key", || async {
        runtime.chat("").await.text == CHAT
    })
    .await;
}
