//! Requests to engines that know their model by a name of their own, and to one that runs elsewhere.

use std::process::{Child, Command, Stdio};

use super::{
    port::free_port,
    process::{Runtime, start_with, until},
};

const COMPLETION: &str = r#"{"model":"assistant","prompt":"a","max_tokens":1}"#;
const ENGINE: &str = env!("CARGO_BIN_EXE_fake-engine");

async fn answers(runtime: &Runtime) {
    until("ready", || async { runtime.readyz().await.as_u16() == 200 }).await;
    let answer = runtime.post("/v1/completions", COMPLETION).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    assert_eq!(answer.headers["x-inference-backend"], "own");
}

/// As in a pod whose template was rendered before `spec.model` changed: the name changes without new pods.
#[tokio::test]
async fn an_engine_is_asked_by_the_name_it_was_started_with() {
    let variables = [
        ("INFERENCE_ENGINE_PATH", ENGINE),
        ("INFERENCE_ENGINE_PORT", &free_port().to_string()),
        ("INFERENCE_MODEL_DIR", "FOLDER/keys/models"),
        ("INFERENCE_MODEL_NAME", "before"),
        ("FAKE_ENGINE_STARTS", "FOLDER/starts"),
        ("HOME", "FOLDER"),
    ];
    let spec = "backends:\n- name: own\n  local:\n    engine: VLLM\n    image: vllm:cpu\n    source: {persistentVolumeClaim: {claimName: models, path: tiny}}\n";
    let runtime = start_with(spec, &[("models", "tiny", "")], &variables).await;
    answers(&runtime).await;
    let other = runtime
        .post("/v1/completions", &COMPLETION.replace("assistant", "before"))
        .await;
    assert_eq!(other.status.as_u16(), 404, "clients know the name of the spec only");
}

struct Elsewhere(Child);

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn an_engine_elsewhere_answers_as_an_own_one_does() {
    let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
    let engine = Command::new(ENGINE)
        .args(["serve", "m", "--served-model-name=theirs", "--port", &port.to_string()])
        .env("FAKE_ENGINE_STARTS", folder.path().join("starts"))
        .stderr(Stdio::null())
        .spawn();
    let _elsewhere = Elsewhere(engine.unwrap());
    let spec = format!("backends:\n- name: own\n  local: {{engine: External, url: \"http://localhost:{port}\"}}\n");
    let runtime = start_with(&spec, &[], &[]).await;
    answers(&runtime).await;
    let status = runtime.status().await;
    assert_eq!(status["engine"]["state"], "Ready");
    assert_eq!(
        status["engine"].get("isolation"),
        None,
        "there is nothing to keep apart: {status}"
    );
}
