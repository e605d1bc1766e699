//! Keys are shown nowhere, whatever a provider does with them and however much is logged.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::json;

use super::{
    process::{Runtime, chat_body, start_with, until},
    requests::{content, event, remote, role},
    upstream::{Act, Ending, Upstream},
};

const KEY: &str = "sk-proj-Qm7vT2xWz9RkLp4Ns8Yd";
/// A key without any shape, as LiteLLM's administrators give out.
const PLAIN: &str = "team-blue-2026";
const CALLERS: &str = "hunter2-of-the-callers-Zq81";

/// What a provider says that repeats the key in every place it has.
fn echoes(key: &str) -> Vec<Act> {
    let sentence = format!(
        "Incorrect API key provided: {key}. LiteLLM Virtual Key expected. Received={key}, expected to start with 'sk-'. You sent Authorization: Bearer {key}"
    );
    let error =
        |code: &str| json!({"error": {"message": sentence, "type": sentence, "param": key, "code": code}}).to_string();
    let headers: &'static [(&str, &str)] = Box::leak(Box::new([
        ("www-authenticate", &*format!("Bearer realm=\"{key}\"").leak()),
        ("x-request-id", &*format!("up-1-{key}").leak()),
        ("x-echo", &*key.to_owned().leak()),
    ]));
    let plain = [400, 404, 422, 429, 500, 503].map(|status| Act::Answer(status, headers, error("some_code")));
    let mut acts = vec![
        Act::Answer(500, headers, format!("<html><body>{sentence}</body></html>")),
        Act::Answer(502, headers, sentence.clone()),
        Act::Answer(200, headers, sentence.clone()),
        Act::Answer(200, headers, error("server_error")),
    ];
    acts.extend(plain);
    acts.extend([
        Act::Stream(vec![role(), event(&error("server_error"))], Ending::Regular),
        Act::Stream(
            vec![role(), content("Hi"), event(&error("server_error"))],
            Ending::Regular,
        ),
        Act::Stream(vec![role(), content("Hi"), event(&sentence)], Ending::Cut),
        // Last, since the credential circuit opens.
        Act::Answer(403, headers, error("forbidden")),
        Act::Answer(401, headers, error("invalid_api_key")),
    ]);
    acts
}

async fn everything_said(runtime: &Runtime, answers: Vec<String>) -> String {
    let mut all = answers.join("\n");
    all += &runtime.metrics().await;
    all += &runtime.status().await.to_string();
    // The log is written when its last line is: one that is written now comes after all others.
    runtime.post("/v1/nothing", "{}").await;
    let before = runtime.said.lock().unwrap().len();
    until("the log", || async {
        runtime.post("/v1/nothing", "{}").await;
        runtime.said.lock().unwrap().len() > before
    })
    .await;
    all += &runtime.said.lock().unwrap();
    all
}

#[tokio::test]
async fn a_key_that_the_provider_echoes_is_shown_nowhere() {
    let access = "access: {type: ApiKey, apiKey: {secret: {name: callers, key: token}}}";
    let mut shown = String::new();
    let acts = [KEY, PLAIN].map(|key| echoes(key).into_iter().map(move |act| (key, act)));
    for (key, act) in acts.into_iter().flatten() {
        let keys = [("openai", "api-key", key), ("callers", "token", CALLERS)];
        let upstream = Upstream::play([act]).await;
        let further = ", retry: {maxRetries: 1, initialBackoff: 1ms, maxBackoff: 1ms}";
        let spec = format!("{access}\nbackends:\n{}", remote(&upstream, further));
        let runtime = start_with(&spec, &keys, &[("RUST_LOG", "trace")]).await;
        let mut answers = Vec::new();
        let bearer = format!("Bearer {CALLERS}");
        for (fields, authorization) in [("", &*bearer), (r#","stream":true"#, &*bearer), ("", "Bearer wrong")] {
            let body = chat_body(fields);
            let answer = runtime
                .post_with("/v1/chat/completions", &[("authorization", authorization)], &body)
                .await;
            answers.push(format!("{:?}\n{}", answer.headers, answer.text));
        }
        assert_eq!(upstream.seen()[0].headers["authorization"], format!("Bearer {key}"));
        shown += &everything_said(&runtime, answers).await;
    }
    for place in [
        "\"level\":\"TRACE\"",
        "inference_requests_total",
        "\"circuits\"",
        "Incorrect API key provided",
    ] {
        assert!(shown.contains(place), "{place} is among what was looked at");
    }
    for key in [KEY, PLAIN, CALLERS] {
        for form in [
            key.to_owned(),
            BASE64_STANDARD.encode(key),
            BASE64_STANDARD.encode(format!("Bearer {key}")),
            format!("{:?}", key.as_bytes()),
        ] {
            let at = shown.find(&form);
            let around = at.map(|at| shown[..at + form.len()].lines().next_back());
            assert_eq!(around, None, "a key was shown");
        }
    }
}
