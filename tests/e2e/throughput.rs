//! Tokens a second through the runtime against the same engine asked directly, in turn.

use std::{
    env,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::json;

use crate::harness::{PODS, figure, get, post, until};

const TOKENS: u32 = 96;
const PAIRS: usize = 5;

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> Process {
    Process(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts"),
    )
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("an address")
        .port()
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this through `make test-e2e`"))
}

/// The real engine with the real model.
fn engine(port: u16) -> Process {
    let folder = variable("INFERENCE_ENGINE_DIR");
    let server = Path::new(&folder).join("llama-server");
    let mut command = Command::new(server.join("llama-server"));
    command
        .env("LD_LIBRARY_PATH", &server)
        .arg("--model")
        .arg(Path::new(&folder).join("smollm2.gguf"));
    start(command.args([
        "--host",
        "127.0.0.1",
        "--threads",
        "2",
        "--ctx-size",
        "1024",
        "--parallel",
        "1",
        "--port",
        &port.to_string(),
    ]))
}

/// The shipped runtime in front of it.
fn runtime(port: u16, engine: u16, folder: &Path) -> Process {
    let manifest = json!({
        "apiVersion": "inference-operator.dev/v1alpha1", "kind": "InferenceDeployment", "metadata": {"name": "bench"},
        "spec": {"backends": [{"name": "engine", "remote": {
            "provider": "OpenAICompatible", "endpoint": format!("http://127.0.0.1:{engine}/v1"), "model": "smollm2",
        }}]},
    });
    let file = folder.join("bench.yaml");
    std::fs::write(&file, manifest.to_string()).expect("a file");
    let mut command = Command::new(variable("E2E_RUNTIME_BINARY"));
    start(
        command
            .args([
                "serve",
                "--admin",
                "127.0.0.1:0",
                "--address",
                &format!("127.0.0.1:{port}"),
                "--file",
            ])
            .arg(file),
    )
}

async fn tokens_per_second(port: u16, model: &str) -> f64 {
    let body = json!({"model": model, "prompt": "Once upon a time", "max_tokens": TOKENS, "stream": true, "ignore_eos": true, "temperature": 0});
    let answer = post(&format!("http://127.0.0.1:{port}/v1/completions"), &body)
        .await
        .expect("an answer");
    assert_eq!(answer.events().last(), Some(&"[DONE]"), "{}", answer.body);
    f64::from(TOKENS) / answer.total.as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::test]
async fn the_runtime_takes_little_of_an_engines_speed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (engine_port, port) = (free_port(), free_port());
    let _engine = engine(engine_port);
    let _runtime = runtime(port, engine_port, folder.path());
    for port in [engine_port, port] {
        until("both answer", PODS, async || {
            match get(&format!("http://127.0.0.1:{port}/v1/models"))
                .await?
                .status
                .as_u16()
            {
                200 => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
    }
    tokens_per_second(port, "bench").await;
    let (mut direct, mut through, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let (a, b) = (
            tokens_per_second(engine_port, "smollm2").await,
            tokens_per_second(port, "bench").await,
        );
        direct.push(a);
        through.push(b);
        ratios.push(b / a);
    }
    let ratio = median(ratios);
    figure("tokens/s, engine asked directly", median(direct));
    figure("tokens/s, through the runtime", median(through));
    figure("ratio of the two, median of the pairs", ratio);
    assert!(
        ratio > 0.8,
        "the runtime costs more than a fifth of the engine's speed: {ratio}"
    );
}
