//! An engine that runs elsewhere: here a process that nobody supervises.

use std::{
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::post};
use inference_operator::{error::ErrorKind, policy::reach::AllowedAddresses, runtime::local::EngineView};
use serde_json::json;
use tokio::net::TcpListener;

use crate::bench::{Bench, Engine, fake_of, program, provoke, serves};

/// Ended with the test.
struct Elsewhere(Child);

impl Elsewhere {
    fn start(bench: &Bench) -> Self {
        let child = Command::new(program("fake-engine"))
            .args(["serve", "m", "--served-model-name=their-own"])
            .args(["--port", &bench.options.port.to_string()])
            .envs(bench.options.environment.iter().cloned())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn external(host: &str) -> Bench {
    let mut bench = fake_of("well", json!({"engine": "External", "url": "http://unused"}));
    bench.backend.url = Some(format!("http://{host}:{}", bench.options.port));
    bench
}

async fn stop(engine: Engine) {
    let (termination, bench) = engine.stop().await;
    assert_eq!(termination, None);
    let written = std::fs::read_to_string(bench.path("termination-log")).unwrap();
    assert_eq!(written, "", "the pod is not to be replaced for an engine elsewhere");
}

#[tokio::test]
async fn it_is_asked_without_a_key_by_its_own_name_and_found_again_after_an_absence() {
    let bench = external("localhost");
    let elsewhere = Elsewhere::start(&bench);
    let mut engine = bench.start();
    assert_eq!(engine.local.isolation, None);
    let target = engine.ready().await;
    assert!(target.api_key.is_none());
    assert_eq!(
        (target.model.as_deref(), target.context_length, target.parallel),
        (Some("their-own"), Some(512), 32)
    );
    assert!(serves(&target).await);
    drop(elsewhere);
    assert_eq!(engine.restarting().await.kind(), ErrorKind::NetworkError);
    assert!(target.gone.is_cancelled());
    let _again = Elsewhere::start(&engine.bench);
    let next = engine.ready().await;
    assert!(serves(&next).await);
    stop(engine).await;
}

#[tokio::test]
async fn one_that_is_never_there_is_waited_for_and_named() {
    let mut engine = external("localhost").start();
    let error = engine.restarting().await;
    let port = engine.bench.options.port;
    assert!(error.to_string().contains(&format!("localhost:{port}")), "{error}");
    assert!(!matches!(*engine.local.view.borrow(), EngineView::Failed(_)));
    stop(engine).await;
}

/// It may have another address by the time that it has loaded.
#[tokio::test]
async fn one_that_still_loads_is_told_and_asked_once_a_pause() {
    let mut bench = external("localhost");
    bench.options.timing.pause = Duration::from_secs(60 * 60);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let loading = move || async move {
        counted.fetch_add(1, Ordering::Relaxed);
        StatusCode::SERVICE_UNAVAILABLE
    };
    let listener = TcpListener::bind(("127.0.0.1", bench.options.port)).await.unwrap();
    let router = Router::new().route("/v1/chat/completions", post(loading));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let mut engine = bench.start();
    let error = engine.restarting().await;
    assert!(error.to_string().contains("503"), "{error}");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    stop(engine).await;
    server.abort();
}

#[tokio::test]
async fn one_that_cannot_compute_is_not_ready() {
    let bench = external("localhost");
    let elsewhere = Elsewhere::start(&bench);
    let mut engine = bench.start();
    let target = engine.ready().await;
    provoke(&target, "errors").await;
    let error = engine.restarting().await;
    assert_eq!(error.kind(), ErrorKind::ServerError, "{error}");
    drop(elsewhere);
    stop(engine).await;
}

/// The pod must not become a way to services of its node.
#[tokio::test]
async fn an_address_that_the_operator_does_not_allow_is_never_dialled() {
    for host in ["localhost", "127.0.0.1", "metadata.google.internal"] {
        let mut bench = external(host);
        bench.options.allowed = AllowedAddresses::default();
        let _elsewhere = Elsewhere::start(&bench);
        let mut engine = bench.start();
        let error = engine.restarting().await;
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
        assert!(error.to_string().contains("endpoints.allowAddresses"), "{error}");
        stop(engine).await;
    }
}
