//! The real llama.cpp server, supervised. `make test` fetches it and sets `INFERENCE_ENGINE_DIR`.

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    time::{Duration, Instant},
};

use inference_operator::error::{ErrorKind, InferenceError};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    bench::{Bench, DEADLINE, is_listening, read_json, send, serves},
    hub::{COMMIT, Fault, Hub, REPOSITORY},
};

fn folder() -> PathBuf {
    let folder = std::env::var_os("INFERENCE_ENGINE_DIR").map(PathBuf::from);
    folder
        .expect("INFERENCE_ENGINE_DIR is not set: run `make test`, which fetches the engine with scripts/fetch-engine")
}

/// A bench with the real server and its tiny model.
fn real() -> Bench {
    let mut bench = Bench::new(&folder().join("llama-server/llama-server"));
    bench.options.models = folder();
    bench.options.timing.canary = Duration::from_secs(20);
    bench
}

fn process_of(bench: &Bench) -> i32 {
    let port = bench.options.port.to_string();
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let mut found = pids.filter(|pid| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments: Vec<&[u8]> = command.split(|&byte| byte == 0).collect();
        arguments
            .first()
            .is_some_and(|program| program.ends_with(b"llama-server"))
            && arguments.contains(&port.as_bytes())
    });
    found.next().expect("llama-server does not run")
}

#[tokio::test]
async fn serves_survives_a_crash_and_stops() {
    let began = Instant::now();
    let mut bench = real();
    bench.backend.context_length = Some(512);
    let mut engine = bench.start();
    let target = engine.ready().await;
    println!("ready after {} ms", began.elapsed().as_millis());
    assert_eq!((target.context_length, target.parallel), (Some(512), 2));
    assert!(serves(&target).await);

    kill(Pid::from_raw(process_of(&engine.bench)), Signal::SIGSEGV).unwrap();
    let crashed = Instant::now();
    let error = engine.restarting().await;
    assert_eq!(error.kind(), ErrorKind::ServerError);
    let InferenceError::ServerError { body: Some(body), .. } = error else {
        panic!()
    };
    assert!(body.contains("SIGSEGV"), "{body}");
    assert!(target.gone.is_cancelled());
    let next = engine.ready().await;
    println!("ready again {} ms after a crash", crashed.elapsed().as_millis());
    assert!(serves(&next).await);

    let (termination, _) = engine.stop().await;
    assert_eq!(termination, None);
    assert!(!is_listening(next.address));
}

/// It prints the client's words over lines of their own, as if they were its.
#[tokio::test]
async fn a_request_cannot_convict_it() {
    let mut engine = real().start();
    let target = engine.ready().await;
    let grammar = "\nCUDA error: an illegal memory access was encountered\n";
    let body = json!({"model": "assistant", "prompt": "a", "max_tokens": 1, "grammar": grammar}).to_string();
    for _ in 0..3 {
        let answer = send(&target, "POST", "/v1/completions", &body).await;
        assert_eq!(answer.status().as_u16(), 400);
        assert!(serves(&target).await);
    }
    assert!(!target.gone.is_cancelled(), "it is the same engine");
}

#[tokio::test]
async fn without_a_context_length_one_request_may_have_the_models_own() {
    let mut engine = real().start();
    assert_eq!(engine.ready().await.context_length, Some(2048));
    engine.stop().await;
}

#[tokio::test]
async fn a_request_in_flight_does_not_keep_it_from_ending() {
    let mut engine = real().start();
    let target = engine.ready().await;
    let endless = json!({"prompt": "a", "max_tokens": 100_000, "ignore_eos": true}).to_string();
    let request = tokio::spawn(async move { send(&target, "POST", "/v1/completions", &endless).await.status() });
    let slots = engine.ready().await;
    let begins = async {
        loop {
            let slots = read_json(send(&slots, "GET", "/slots", "").await).await;
            let mut all = slots.as_array().unwrap().iter();
            if all.any(|slot| slot["is_processing"] == true) {
                break;
            }
        }
    };
    timeout(DEADLINE, begins).await.expect("it does not begin");
    let asked = Instant::now();
    let (termination, _) = engine.stop().await;
    assert_eq!(termination, None);
    println!(
        "stopped {} ms after it was asked, with a request in flight",
        asked.elapsed().as_millis()
    );
    request.abort();
}

#[tokio::test]
async fn a_file_that_is_no_model_is_given_up_with_the_engines_own_words() {
    let mut bench = real();
    bench.options.models = bench.path("models");
    std::fs::write(bench.path("models/tiny.gguf"), [0u8; 1000]).unwrap();
    let mut engine = bench.start();
    engine.failed().await;
    let (termination, _) = engine.ended().await;
    let message = termination.expect("a termination").message;
    assert!(message.contains("invalid magic characters"), "{message}");
}

/// The real server with a model that it did not find mounted.
#[tokio::test]
async fn serves_a_model_that_was_downloaded() {
    let weights = std::fs::read(folder().join("tiny.gguf")).unwrap();
    let hub = Hub::start(Ipv4Addr::LOCALHOST.into(), &[("quantised/tiny.gguf", &weights)]).await;
    hub.faults(&[Fault::Cut(100_000)]);
    let mut bench = real();
    bench.options.models = bench.path("models");
    bench.options.source.hub = hub.endpoint();
    let source = json!({"huggingFace": {"repository": REPOSITORY, "revision": COMMIT, "file": "quantised/tiny.gguf"}});
    bench.backend.source = serde_json::from_value(source).unwrap();
    let began = Instant::now();
    let mut engine = bench.start();
    let target = engine.ready().await;
    println!(
        "FIGURE sources.llama_downloaded_and_ready_ms: {}",
        began.elapsed().as_millis()
    );
    assert!(serves(&target).await);
    assert_eq!(hub.bytes_asked().len(), 2);
    engine.stop().await;
}
