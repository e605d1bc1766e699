//! The own engine before a provider: who answers while it loads, serves, dies.

use std::time::Instant;

use nix::sys::signal::{Signal, kill};

use super::{
    hangup::metric,
    port::free_port,
    process::{Runtime, read, start_with, until},
    requests::{CHAT, remote},
    upstream::{Act, Upstream},
};

pub const OWN: &str =
    "- name: own\n  local: {engine: LlamaCpp, source: {persistentVolumeClaim: {claimName: models, path: tiny.gguf}}}\n";

/// A process whose engine plays `plan`, one word a start.
pub async fn start(plan: &str, spec: &str) -> Runtime {
    let variables = [
        ("INFERENCE_ENGINE_PATH", env!("CARGO_BIN_EXE_fake-engine")),
        ("INFERENCE_ENGINE_PORT", &free_port().to_string()),
        ("INFERENCE_MODEL_DIR", "FOLDER/keys/models"),
        ("FAKE_ENGINE_PLAN", plan),
        ("FAKE_ENGINE_STARTS", "FOLDER/starts"),
        ("HOME", "FOLDER"),
    ];
    let files = [("openai", "api-key", "sk-right"), ("models", "tiny.gguf", "GGUF")];
    start_with(spec, &files, &variables).await
}

pub const COMPLETION: &str = r#"{"model":"assistant","prompt":"a","max_tokens":1}"#;

#[tokio::test]
async fn the_provider_answers_while_the_engine_loads() {
    let upstream = Upstream::play([Act::Answer(200, &[], CHAT.into())]).await;
    let runtime = start("never", &format!("backends:\n{OWN}{}", remote(&upstream, ""))).await;
    assert_eq!(runtime.chat("").await.headers["x-inference-backend"], "openai");
    assert_eq!(runtime.readyz().await.as_u16(), 503, "not before the first canary");
    let status = runtime.status().await;
    assert_eq!(
        (&status["engine"]["state"], &status["activeBackend"]),
        (&"Loading".into(), &"openai".into())
    );
}

#[tokio::test]
async fn the_engine_has_the_times_of_the_spec() {
    let own = OWN.replace(
        "engine: LlamaCpp,",
        "engine: LlamaCpp, timeouts: {firstToken: 300ms, idle: 200ms},",
    );
    let runtime = start("well", &format!("backends:\n{own}")).await;
    until("ready", || async { runtime.readyz().await.as_u16() == 200 }).await;
    let began = Instant::now();
    let body = COMPLETION.replace(r#""prompt":"a""#, r#""prompt":"hang","stream":true"#);
    let answer = runtime.post("/v1/completions", &body).await;
    let took = began.elapsed();
    assert_eq!((answer.status.as_u16(), answer.error().1.as_str()), (504, "timeout"));
    assert!(took.as_millis() >= 300 && took.as_secs() < 5, "{took:?}");
}

#[tokio::test]
async fn without_another_backend_loading_is_backpressure() {
    let runtime = start("never", &format!("backends:\n{OWN}")).await;
    let answer = runtime.chat("").await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().1.as_str()),
        (503, "backpressure")
    );
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn an_engine_that_dies_comes_back_and_the_pod_stays_ready() {
    let runtime = start("well", &format!("backends:\n{OWN}")).await;
    until("ready", || async { runtime.readyz().await.as_u16() == 200 }).await;
    let answer = runtime.post("/v1/completions", COMPLETION).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["x-inference-backend"]),
        (200, &"own".parse().unwrap())
    );
    let before = runtime.engine();
    kill(before, Signal::SIGKILL).unwrap();
    until("a typed answer or a new engine", || async {
        let answer = runtime.post("/v1/completions", COMPLETION).await;
        assert!(
            answer.status.is_success() || !answer.error().1.is_empty(),
            "{}",
            answer.text
        );
        assert_eq!(runtime.readyz().await.as_u16(), 200);
        answer.status.is_success() && runtime.engine() != before
    })
    .await;
}

fn completion(prompt: &str, fields: &str) -> String {
    format!(r#"{{"model":"assistant","prompt":"{prompt}","max_tokens":1{fields}}}"#)
}

/// A process whose engine serves.
async fn serving(spec: &str) -> Runtime {
    let runtime = start("well", spec).await;
    until("ready", || async { runtime.readyz().await.as_u16() == 200 }).await;
    runtime
}

async fn poison(runtime: &Runtime) {
    // Its own answer may be cut off.
    let _ = runtime
        .open("/v1/completions", &[], &completion("fault cuda-and-stay", ""))
        .await;
}

#[tokio::test]
async fn from_poison_on_not_one_token_reaches_a_client_though_the_engine_sends_on() {
    let runtime = serving(&format!("backends:\n{OWN}")).await;
    let stream = runtime
        .open("/v1/completions", &[], &completion("a", r#","stream":true"#))
        .await;
    assert_eq!(stream.status().as_u16(), 200, "its head comes with the first token");
    poison(&runtime).await;
    let answer = read(stream).await;
    assert!(
        answer.text.contains(r#""text":"a""#) && !answer.text.contains("late") && !answer.text.contains("[DONE]"),
        "{}",
        answer.text
    );
    assert!(
        answer.text.contains(r#""code":"cuda_context_poisoned""#),
        "{}",
        answer.text
    );
    until("it serves again", || async {
        runtime.post("/v1/completions", COMPLETION).await.status.is_success()
    })
    .await;
}

#[tokio::test]
async fn a_gpu_without_memory_for_a_request_is_backpressure_and_no_poison() {
    let runtime = serving(&format!("backends:\n{OWN}")).await;
    let answer = runtime
        .post("/v1/completions", &completion("fault gpu-out-of-memory", ""))
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().0.as_str()),
        (503, "backpressure"),
        "{}",
        answer.text
    );
    assert!(answer.headers.contains_key("retry-after"));
    until("it serves again", || async {
        runtime.post("/v1/completions", COMPLETION).await.status.is_success()
    })
    .await;
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_stream_ends_it_and_the_engine_is_looked_into() {
    let runtime = serving(&format!("backends:\n{OWN}")).await;
    let before = runtime.engine();
    let stream = runtime
        .open("/v1/completions", &[], &completion("a", r#","stream":true"#))
        .await;
    assert_eq!(stream.status().as_u16(), 200);
    let began = Instant::now();
    let _ = runtime
        .open("/v1/completions", &[], &completion("fault errors", ""))
        .await;
    let answer = read(stream).await;
    assert!(
        answer.text.contains(r#""text":"a""#) && answer.text.contains(r#""code":"server_error""#),
        "{}",
        answer.text
    );
    assert!(!answer.text.contains("[DONE]"), "{}", answer.text);
    println!("FIGURE ms_to_detection_of_error_chunk: {}", began.elapsed().as_millis());
    until("another engine serves", || async {
        runtime.post("/v1/completions", COMPLETION).await.status.is_success() && runtime.engine() != before
    })
    .await;
    println!(
        "FIGURE ms_to_serving_after_error_chunk: {}",
        began.elapsed().as_millis()
    );
}

#[tokio::test]
async fn what_got_no_byte_before_poison_goes_to_the_next_backend_or_is_told_so() {
    let upstream = Upstream::play([Act::Answer(200, &[], CHAT.into())]).await;
    for (further, status, told) in [
        (remote(&upstream, ""), 200, "openai"),
        (String::new(), 503, "cuda_context_poisoned"),
    ] {
        let runtime = serving(&format!("backends:\n{OWN}{further}")).await;
        let body = completion("hang", "");
        let waiting = runtime.post("/v1/completions", &body);
        let poisoned = async {
            until("it is at the engine", || async {
                metric(&runtime, "inference_requests_in_flight").await > 0
            })
            .await;
            poison(&runtime).await;
        };
        let (answer, ()) = tokio::join!(waiting, poisoned);
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
        match answer.headers.get("x-inference-backend") {
            Some(backend) if status == 200 => assert_eq!(backend, told),
            _ => assert_eq!(answer.error().0, told),
        }
    }
}
