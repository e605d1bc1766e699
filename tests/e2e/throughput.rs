//! Tokens a second and time to the first token, through the runtime against the same engine asked directly, in turn.

use std::{
    env,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures::future::join_all;

use serde_json::json;

use crate::{
    harness::{PODS, figure, get, post, until},
    port::free_port,
};

/// Streams at once, and the tokens of each.
const LOADS: [(u32, u32); 3] = [(1, 96), (4, 48), (16, 24)];
/// The bars: part of the engine's own speed, and what the first token may come later.
const SPEED: f64 = 0.97;
const LATER: Duration = Duration::from_millis(1);
/// Other work on the machine only ever slows a round down, so the best rounds of both are compared; no more are run than are needed.
const ROUNDS: std::ops::RangeInclusive<usize> = 3..=15;

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
        "4096",
        "--parallel",
        "16",
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

/// What one round showed.
#[derive(Clone, Copy)]
struct Round {
    tokens_per_second: f64,
    /// Median of the streams.
    first_token: Duration,
}

impl Round {
    /// The better of both, each figure for itself.
    fn best(self, other: Self) -> Self {
        Self {
            tokens_per_second: self.tokens_per_second.max(other.tokens_per_second),
            first_token: self.first_token.min(other.first_token),
        }
    }
}

async fn round(port: u16, model: &str, streams: u32, tokens: u32) -> Round {
    let url = format!("http://127.0.0.1:{port}/v1/completions");
    let body = json!({"model": model, "prompt": "Once upon a time", "max_tokens": tokens, "stream": true, "ignore_eos": true, "temperature": 0});
    let began = Instant::now();
    let answers = join_all((0..streams).map(|_| post(&url, &body))).await;
    let took = began.elapsed();
    let mut firsts = Vec::new();
    for answer in answers {
        let answer = answer.expect("an answer");
        assert_eq!(answer.events().last(), Some(&"[DONE]"), "{}", answer.body);
        firsts.push(answer.first_byte);
    }
    firsts.sort();
    Round {
        tokens_per_second: f64::from(streams * tokens) / took.as_secs_f64(),
        first_token: firsts[firsts.len() / 2],
    }
}

/// Both in turn, who is first changing, until the bars are seen to hold or the rounds are over: (directly, through the runtime).
async fn compare(engine: u16, runtime: u16, (streams, tokens): (u32, u32)) -> (Round, Round) {
    let mut best = None;
    for n in 1..=*ROUNDS.end() {
        let direct = round(engine, "smollm2", streams, tokens);
        let through = round(runtime, "bench", streams, tokens);
        let (direct, through) = if n % 2 == 0 {
            (direct.await, through.await)
        } else {
            let through = through.await;
            (direct.await, through)
        };
        let (a, b) = best.map_or((direct, through), |(a, b): (Round, Round)| {
            (a.best(direct), b.best(through))
        });
        best = Some((a, b));
        if ROUNDS.contains(&n) && holds(a, b) {
            break;
        }
    }
    best.expect("a round")
}

fn holds(direct: Round, through: Round) -> bool {
    through.tokens_per_second >= SPEED * direct.tokens_per_second && through.first_token <= direct.first_token + LATER
}

async fn answers(port: u16) {
    until("it answers", PODS, async || {
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

#[tokio::test]
#[ignore = "alone: other load would break its bars"]
async fn the_runtime_takes_little_of_an_engines_speed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (engine_port, port) = (free_port(), free_port());
    let _engine = engine(engine_port);
    let _runtime = runtime(port, engine_port, folder.path());
    answers(engine_port).await;
    answers(port).await;
    round(port, "bench", 16, 8).await;
    let mut short = Vec::new();
    for load in LOADS {
        let (direct, through) = compare(engine_port, port, load).await;
        let streams = load.0;
        figure(
            &format!("tokens/s, {streams} streams, engine asked directly"),
            direct.tokens_per_second,
        );
        figure(
            &format!("tokens/s, {streams} streams, through the runtime, as part of that"),
            through.tokens_per_second / direct.tokens_per_second,
        );
        figure(
            &format!("first token, {streams} streams, later through the runtime, ms"),
            1e3 * (through.first_token.as_secs_f64() - direct.first_token.as_secs_f64()),
        );
        if !holds(direct, through) {
            short.push(streams);
        }
    }
    assert!(short.is_empty(), "the bars do not hold with {short:?} streams");
}
