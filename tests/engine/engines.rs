//! Engines other than llama.cpp's, played by `fake-engine` in their own protocols.

use inference_operator::{
    error::{ErrorKind, InferenceError},
    runtime::local::Verdict,
};
use serde_json::{Value, json};

use tokio::time::timeout;

use crate::bench::{Bench, DEADLINE, Engine, fake_of, is_listening, program, provoke, read_json, send, serves};

fn vllm(plan: &str) -> Bench {
    fake_of(plan, json!({"engine": "VLLM", "source": source(), "parallel": 8}))
}

fn sglang(plan: &str) -> Bench {
    fake_of(
        plan,
        json!({"engine": "SGLang", "source": source(), "contextLength": 256}),
    )
}

/// A server that knows `/v1/embeddings` and nothing else.
fn custom(plan: &str) -> Bench {
    let command = json!([program("fake-engine"), "embeddings-only"]);
    fake_of(
        plan,
        json!({"engine": "Custom", "command": command, "args": ["--port", "$(PORT)"]}),
    )
}

fn source() -> Value {
    json!({"persistentVolumeClaim": {"claimName": "models", "path": "tiny.gguf"}})
}

async fn stop(engine: Engine) {
    let (termination, bench) = engine.stop().await;
    assert_eq!(termination, None);
    assert!(!is_listening(([127, 0, 0, 1], bench.options.port).into()));
}

#[tokio::test]
async fn vllm_is_asked_by_the_name_it_serves() {
    let mut engine = vllm("slow").start();
    let target = engine.ready().await;
    assert_eq!(
        (target.model.as_deref(), target.context_length, target.parallel),
        (Some("assistant"), Some(512), 8)
    );
    assert!(serves(&target).await);
    let other = send(&target, "POST", "/v1/completions", r#"{"model":"other","prompt":"a"}"#).await;
    assert_eq!(other.status().as_u16(), 404);
    stop(engine).await;
}

/// Its process ends with status 0, and what it says of itself last is that its engine is dead.
#[tokio::test]
async fn a_dead_engine_of_vllm_is_no_clean_end() {
    let mut engine = vllm("well").start();
    let target = engine.ready().await;
    provoke(&target, "engine-core").await;
    let error = engine.restarting().await;
    assert_eq!(error.kind(), ErrorKind::ServerError);
    let InferenceError::ServerError { body: Some(body), .. } = error else {
        panic!("{error}");
    };
    assert!(
        body.contains("EngineCore encountered an issue") || body.contains("EngineDeadError"),
        "{body}"
    );
    let next = engine.ready().await;
    assert!(serves(&next).await);
    stop(engine).await;
}

/// The canary is answered with 500 before the process has ended and its log is read.
#[tokio::test]
async fn an_engine_of_vllm_that_dies_of_memory_again_and_again_is_told_to_lack_it() {
    let mut engine = vllm("well").start();
    for _ in 0..4 {
        let target = engine.ready().await;
        provoke(&target, "engine-core-memory").await;
        engine.local.activity.doubt();
        timeout(DEADLINE, target.gone.cancelled())
            .await
            .expect("gone is not cancelled");
    }
    let (termination, _) = engine.ended().await;
    let termination = termination.expect("a termination");
    assert_eq!(termination.reason, Verdict::OOMKilled);
    assert_eq!(termination.reason.exit_code(), 84);
    assert!(
        termination.message.contains("Tried to allocate 2.00 GiB"),
        "{}",
        termination.message
    );
}

#[tokio::test]
async fn sglang_is_loaded_when_its_health_says_so() {
    let mut engine = sglang("slow").start();
    let target = engine.ready().await;
    assert_eq!(
        (target.model.as_deref(), target.context_length, target.parallel),
        (Some("assistant"), Some(256), 256)
    );
    assert!(serves(&target).await);
    stop(engine).await;
}

/// It has neither health nor a list of models, takes requests before it can answer them, and knows neither chats nor completions.
#[tokio::test]
async fn a_custom_server_is_served_by_the_canary_it_knows() {
    let mut engine = custom("slow").start();
    let target = engine.ready().await;
    assert_eq!(
        (target.model.as_deref(), target.context_length, target.parallel),
        (None, None, 32)
    );
    let answer = read_json(send(&target, "POST", "/v1/embeddings", r#"{"input":"a"}"#).await).await;
    assert_eq!(answer["data"][0]["embedding"][0], 0.5);
    provoke(&target, "stall").await;
    assert_eq!(engine.restarting().await.kind(), ErrorKind::Timeout);
    engine.ready().await;
    stop(engine).await;
}

#[tokio::test]
async fn a_custom_command_that_is_not_there_is_given_up_with_its_name() {
    let bench = fake_of("well", json!({"engine": "Custom", "command": ["no-such-server"]}));
    let mut engine = bench.start();
    engine.failed().await;
    let (termination, _) = engine.ended().await;
    let message = termination.expect("a termination").message;
    assert!(message.contains("no-such-server"), "{message}");
}
