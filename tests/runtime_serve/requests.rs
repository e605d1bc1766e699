//! Requests that succeed, and requests that are wrong.

use serde_json::{Value, json};

use super::{
    process::{DEADLINE, chat_body, start},
    upstream::{Act, Ending, Upstream},
};

pub const CHAT: &str = r#"{"id":"c","object":"chat.completion","model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#;

pub fn remote(upstream: &Upstream, further: &str) -> String {
    named("openai", upstream, further)
}

pub fn named(name: &str, upstream: &Upstream, further: &str) -> String {
    let credentials = "credentials: {secret: {name: openai, key: api-key}}";
    let endpoint = upstream.endpoint();
    format!(
        "- name: {name}\n  remote: {{provider: OpenAI, endpoint: \"{endpoint}\", model: gpt-4o-mini, {credentials}{further}}}\n"
    )
}

pub fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

pub fn content(text: &str) -> String {
    event(&json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}).to_string())
}

pub fn role() -> String {
    event(r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#)
}

pub fn stop() -> String {
    event(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#)
}

pub fn usage() -> String {
    event(r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#)
}

pub fn done() -> String {
    event("[DONE]")
}

#[tokio::test]
async fn a_chat_is_answered_byte_for_byte() {
    let upstream = Upstream::play([Act::Answer(200, &[], CHAT.into())]).await;
    let runtime = start(&format!("backends:\n{}", remote(&upstream, ""))).await;
    let headers = [("x-request-id", "my-id"), ("x-inference-priority", "high")];
    let body = chat_body(r#","temperature":0.50,"unknown_field":{"kept":[1,2]}"#);
    let answer = runtime.post_with("/v1/chat/completions", &headers, &body).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, CHAT));
    assert_eq!(answer.headers["x-request-id"], "my-id");
    assert_eq!(answer.headers["x-inference-backend"], "openai");
    let seen = upstream.seen().remove(0);
    assert_eq!(seen.path, "/v1/chat/completions");
    assert_eq!(seen.headers["authorization"], "Bearer sk-right");
    assert_eq!(
        (&seen.body["model"], &seen.body["unknown_field"]),
        (&json!("gpt-4o-mini"), &json!({"kept": [1, 2]}))
    );
    assert!(seen.headers.get("x-inference-priority").is_none(), "ours alone");
    let metrics = runtime.metrics().await;
    for line in [
        r#"inference_requests_total{backend="openai",outcome="success"} 1"#,
        r#"inference_tokens_total{backend="openai",kind="output"} 2"#,
        r#"inference_circuit_state{backend="openai",scope="endpoint"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
}

#[tokio::test]
async fn a_stream_passes_byte_for_byte_but_for_usage_that_nobody_asked_for() {
    let events = [
        role(),
        content("Hel"),
        ": comment\n\n".into(),
        content("lo"),
        stop(),
        usage(),
        done(),
    ];
    let upstream = Upstream::play([Act::Stream(events.to_vec(), Ending::Regular)]).await;
    let runtime = start(&format!("backends:\n{}", remote(&upstream, ""))).await;
    let answer = runtime.chat(r#","stream":true"#).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    assert_eq!(answer.text, events.concat().replace(&usage(), ""));
    assert_eq!(
        upstream.seen()[0].body["stream_options"],
        json!({"include_usage": true})
    );
    let asked = runtime
        .chat(r#","stream":true,"stream_options":{"include_usage":true}"#)
        .await;
    assert_eq!(asked.text, events.concat());
    assert!(
        runtime
            .metrics()
            .await
            .contains(r#"inference_tokens_total{backend="openai",kind="input"} 18"#)
    );
}

#[tokio::test]
async fn events_reach_the_client_as_they_come() {
    use http_body_util::BodyExt;
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let ending = Ending::Gate(std::sync::Arc::clone(&gate), vec![content("lo"), stop(), done()]);
    let upstream = Upstream::play([Act::Stream(vec![role(), content("Hel")], ending)]).await;
    let runtime = start(&format!("backends:\n{}", remote(&upstream, ""))).await;
    let mut response = runtime
        .open("/v1/chat/completions", &[], &chat_body(r#","stream":true"#))
        .await;
    let mut text = String::new();
    while !text.contains("Hel") {
        let frame = tokio::time::timeout(DEADLINE, response.body_mut().frame())
            .await
            .unwrap();
        text += std::str::from_utf8(frame.unwrap().unwrap().data_ref().unwrap()).unwrap();
    }
    assert!(!text.contains("DONE"), "the provider still waits for the gate");
    gate.notify_one();
    let rest = super::process::read(response).await;
    assert!(rest.text.ends_with("data: [DONE]\n\n"), "{}", rest.text);
}

#[tokio::test]
async fn completions_embeddings_and_models_are_served() {
    let completion = r#"{"object":"text_completion","choices":[{"index":0,"text":"x","finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    let embedding = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":3,"total_tokens":3}}"#;
    let acts = [completion, embedding].map(|body| Act::Answer(200, &[], body.into()));
    let upstream = Upstream::play(acts).await;
    let runtime = start(&format!("backends:\n{}", remote(&upstream, ""))).await;
    let answer = runtime
        .post("/v1/completions", r#"{"model":"assistant","prompt":"a"}"#)
        .await;
    assert_eq!(answer.text, completion);
    let answer = runtime
        .post("/v1/embeddings", r#"{"model":"assistant","input":"a"}"#)
        .await;
    assert_eq!(answer.text, embedding);
    let paths: Vec<_> = upstream.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, ["/v1/completions", "/v1/embeddings"]);
    let list = runtime.get("/v1/models").await.json();
    assert_eq!(
        (&list["object"], &list["data"][0]["id"]),
        (&json!("list"), &json!("assistant"))
    );
    assert_eq!(runtime.get("/v1/models/assistant").await.json()["object"], "model");
    assert_eq!(runtime.get("/v1/models/%61ssistant").await.json()["object"], "model");
    assert_eq!(runtime.get("/v1/models/other").await.error().0, "model_not_found");
    assert_eq!(runtime.readyz().await.as_u16(), 200);
}

#[tokio::test]
async fn wrong_requests_get_typed_answers_and_reach_nobody() {
    let upstream = Upstream::play([Act::Hang]).await;
    let runtime = start(&format!("backends:\n{}", remote(&upstream, ""))).await;
    let large = format!(
        r#"{{"model":"assistant","messages":"{}"}}"#,
        "x".repeat(16 * 1024 * 1024)
    );
    let chat = "/v1/chat/completions";
    for (path, body, status, code, param) in [
        (chat, "{\"model\": nonsense}", 400, "bad_request", Value::Null),
        (chat, "[]", 400, "bad_request", Value::Null),
        (chat, "{}", 400, "bad_request", json!("model")),
        (
            chat,
            r#"{"model":"assistant","stream":1}"#,
            400,
            "bad_request",
            json!("stream"),
        ),
        (chat, r#"{"model":"gpt-4"}"#, 404, "model_not_found", json!("model")),
        (chat, large.as_str(), 413, "request_too_large", Value::Null),
        ("/v1/nothing", "{}", 404, "unknown_url", Value::Null),
        ("/v1/models", "{}", 405, "method_not_allowed", Value::Null),
    ] {
        let answer = runtime.post(path, body).await;
        let error = &answer.json()["error"];
        let shown = &body[..body.len().min(40)];
        assert_eq!(answer.status.as_u16(), status, "{path} {shown}");
        assert_eq!(
            (&error["code"], &error["param"]),
            (&json!(code), &param),
            "{path} {shown}"
        );
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!(error["request_id"], answer.headers["x-request-id"].to_str().unwrap());
        assert_eq!(
            (&error["inference_error"]["kind"], &error["retryable"]),
            (&json!("bad_request"), &json!(false))
        );
    }
    let answer = runtime
        .post_with(chat, &[("x-inference-priority", "urgent")], &chat_body(""))
        .await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]["param"]),
        (400, &json!("x-inference-priority"))
    );
    assert_eq!(upstream.seen().len(), 0);
    assert_eq!(
        runtime.status().await["errors"],
        Value::Null,
        "the caller's own faults change nothing"
    );
}
