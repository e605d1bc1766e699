//! The real vLLM on CPU, supervised: what `fake-engine` plays of it is held against it here. Not part of `make test`, because it takes 6 GB:
//! `make test-vllm` fetches it and sets `INFERENCE_VLLM_DIR`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    reason = "a test fails by panicking, and not all of the bench is used here"
)]

#[path = "../engine/bench.rs"]
mod bench;
#[path = "../support/port.rs"]
mod port;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use http::HeaderMap;
use http_body_util::BodyExt;
use inference_operator::{
    error::{ErrorKind, InferenceError, Provider},
    runtime::{
        local::EngineTarget,
        remote::classify::{Classified, Source, classify},
    },
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use bench::{Bench, Engine, is_listening, program, send};

const CONTEXT: u32 = 512;

fn folder() -> PathBuf {
    let folder = std::env::var_os("INFERENCE_VLLM_DIR").map(PathBuf::from);
    folder.expect("INFERENCE_VLLM_DIR is not set: run `make test-vllm`, which fetches vLLM with scripts/fetch-vllm")
}

/// vLLM with its tiny model, as a pod would run it; it takes half a minute to load.
fn vllm() -> Bench {
    let mut bench = Bench::new(&folder().join("venv/bin/vllm"));
    bench.options.models = folder();
    bench.options.timing.load = Duration::from_secs(300);
    bench.options.timing.canary = Duration::from_secs(60);
    bench.options.timing.health = Duration::from_secs(2);
    bench.options.timing.grace = Duration::from_secs(10);
    let state = bench.path("state");
    for name in [
        "HOME",
        "TMPDIR",
        "XDG_CACHE_HOME",
        "VLLM_CACHE_ROOT",
        "TORCHINDUCTOR_CACHE_DIR",
    ] {
        bench.options.environment.push((name.into(), state.clone().into()));
    }
    for (name, value) in [
        ("HF_HUB_OFFLINE", "1"),
        ("VLLM_NO_USAGE_STATS", "1"),
        ("VLLM_CPU_KVCACHE_SPACE", "1"),
    ] {
        bench.options.environment.push((name.into(), value.into()));
    }
    bench.backend = serde_json::from_value(json!({
        "engine": "VLLM",
        "image": "fetched",
        "source": {"persistentVolumeClaim": {"claimName": "models", "path": "tiny"}},
        "contextLength": CONTEXT,
        "parallel": 4,
        "args": ["--enforce-eager"],
    }))
    .unwrap();
    bench
}

/// Until it is ready: longer than a test may wait otherwise.
async fn ready(engine: &mut Engine) -> std::sync::Arc<EngineTarget> {
    let began = Instant::now();
    loop {
        let view = engine.local.view.borrow_and_update().clone();
        match view {
            inference_operator::runtime::local::EngineView::Ready(target) if !target.gone.is_cancelled() => {
                println!("FIGURE vllm_ready_seconds: {:.1}", began.elapsed().as_secs_f64());
                return target;
            }
            inference_operator::runtime::local::EngineView::Failed(error) => panic!("{error}"),
            _ => {}
        }
        let left = Duration::from_secs(600).saturating_sub(began.elapsed());
        tokio::time::timeout(left, engine.local.view.changed())
            .await
            .expect("never ready")
            .expect("the worker ended");
    }
}

/// A process below the one that serves on the bench's port, by the name that it gives itself.
fn process(engine: &Engine, name: &str) -> Pid {
    let port = format!("--port={}", engine.bench.options.port);
    let pids = || {
        let entries = std::fs::read_dir("/proc").unwrap();
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
    };
    let command = |pid: i32| {
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let group = |pid| nix::unistd::getpgid(Some(Pid::from_raw(pid))).ok();
    let server = pids()
        .find(|pid| command(*pid).contains(&port))
        .expect("vLLM does not run");
    let found = pids().find(|pid| group(*pid) == group(server) && command(*pid).starts_with(name));
    Pid::from_raw(found.unwrap_or_else(|| panic!("no {name}")))
}

async fn refused(target: &EngineTarget, body: Value) -> (u16, Classified) {
    let answer = send(target, "POST", "/v1/completions", &body.to_string()).await;
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    println!("{status} {}", String::from_utf8_lossy(&bytes));
    let source = Source {
        provider: &Provider::Local,
        deployment: "default/assistant",
        now_unix_ms: 0,
        elapsed_ms: 0,
        secret: None,
    };
    (status, classify(source, status, &HeaderMap::new(), &bytes))
}

async fn serves(target: &EngineTarget) -> bool {
    bench::serves(target).await
}

async fn stop(engine: Engine) {
    let asked = Instant::now();
    let (termination, bench) = engine.stop().await;
    println!("FIGURE vllm_stop_seconds: {:.1}", asked.elapsed().as_secs_f64());
    assert_eq!(termination, None);
    assert!(!is_listening(([127, 0, 0, 1], bench.options.port).into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_tells_its_length_and_refuses_in_words_that_are_understood() {
    assert!(program("inference-runtime").exists());
    let mut engine = vllm().start();
    let target = ready(&mut engine).await;
    assert_eq!(
        (target.model.as_deref(), target.context_length, target.parallel),
        (Some("assistant"), Some(CONTEXT), 4)
    );
    assert!(serves(&target).await);
    let (status, classified) = refused(&target, json!({"model": "nope", "prompt": "a"})).await;
    assert_eq!((status, classified.error.kind()), (404, ErrorKind::BadRequest));
    let long = json!({"model": "assistant", "prompt": "a".repeat(600), "max_tokens": 1});
    let (status, classified) = refused(&target, long).await;
    assert_eq!(
        (status, classified.error.kind()),
        (400, ErrorKind::ContextLengthExceeded)
    );
    let hot = json!({"model": "assistant", "prompt": "a", "temperature": -1});
    let (status, classified) = refused(&target, hot).await;
    assert_eq!((status, classified.error.kind()), (400, ErrorKind::BadRequest));
    stop(engine).await;
}

/// What looks like a clean end, with status 0, is a failure; and the next engine serves.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_engine_core_is_found_and_replaced() {
    let mut engine = vllm().start();
    let target = ready(&mut engine).await;
    kill(process(&engine, "VLLM::EngineCore"), Signal::SIGKILL).unwrap();
    let killed = Instant::now();
    let error = engine.restarting().await;
    println!(
        "FIGURE vllm_engine_core_found_seconds: {:.1}",
        killed.elapsed().as_secs_f64()
    );
    assert!(target.gone.is_cancelled());
    assert_eq!(error.kind(), ErrorKind::ServerError, "{error}");
    let InferenceError::ServerError { body: Some(body), .. } = &error else {
        panic!("{error}");
    };
    println!("{body}");
    let next = ready(&mut engine).await;
    assert!(serves(&next).await);
    stop(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_is_found_and_replaced() {
    let mut engine = vllm().start();
    let target = ready(&mut engine).await;
    kill(process(&engine, "VLLM::Worker"), Signal::SIGKILL).unwrap();
    let killed = Instant::now();
    let error = engine.restarting().await;
    println!(
        "FIGURE vllm_worker_found_seconds: {:.1}",
        killed.elapsed().as_secs_f64()
    );
    assert!(target.gone.is_cancelled());
    assert_eq!(error.kind(), ErrorKind::ServerError, "{error}");
    let next = ready(&mut engine).await;
    assert!(serves(&next).await);
    stop(engine).await;
}

/// The cause is the value that is wrong, not where it was found.
#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_the_model_does_not_have_is_given_up_with_its_cause() {
    let mut bench = vllm();
    bench.backend.context_length = Some(100_000);
    let engine = bench.start();
    let ended = tokio::time::timeout(Duration::from_secs(600), engine.local.ended).await;
    let termination = ended.expect("not given up").unwrap().expect("a termination");
    println!("{}", termination.message);
    assert!(termination.message.contains("max_model_len"), "{}", termination.message);
}
