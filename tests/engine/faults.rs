//! Every fault that an engine can have, played by `fake-engine`: what the request path sees, how it is called, and that it serves again.

use http_body_util::BodyExt;
use inference_operator::{
    error::{ErrorKind, InferenceError},
    runtime::local::{Termination, Verdict},
};
use tokio::time::timeout;

use crate::bench::{DEADLINE, Engine, fake, is_listening, provoke, send, serves};

/// A ready engine, in which `fault` then happens.
async fn with_fault(plan: &str, fault: &str) -> Engine {
    let mut engine = fake(plan).start();
    let target = engine.ready().await;
    assert!(serves(&target).await);
    provoke(&target, fault).await;
    engine
}

async fn recovers(mut engine: Engine, kind: ErrorKind) -> InferenceError {
    let error = engine.restarting().await;
    assert_eq!(error.kind(), kind, "{error}");
    let target = engine.ready().await;
    assert!(serves(&target).await);
    let (termination, _) = engine.stop().await;
    assert_eq!(termination, None);
    error
}

#[tokio::test]
async fn a_slow_load_is_waited_for_and_told_apart_from_a_failure() {
    let mut engine = fake("slow").start();
    let target = engine.ready().await;
    assert_eq!((target.context_length, target.parallel), (Some(512), 2));
    assert!(serves(&target).await);
    let (termination, bench) = engine.stop().await;
    assert_eq!(termination, None);
    assert_eq!(std::fs::read_to_string(bench.path("state/starts")).unwrap(), "x");
    assert!(target.gone.is_cancelled());
    assert!(!is_listening(target.address));
}

#[tokio::test]
async fn a_crash_at_load_is_tried_again() {
    let mut engine = fake("crash,well").start();
    let target = engine.ready().await;
    assert!(serves(&target).await);
}

#[tokio::test]
async fn a_model_that_never_loads_is_given_up_with_its_cause() {
    let mut engine = fake("crash").start();
    let error = engine.failed().await;
    assert_eq!(error.kind(), ErrorKind::ServerError);
    let (termination, bench) = engine.ended().await;
    let termination = termination.expect("a termination");
    assert_eq!(
        (termination.reason, termination.rebuilds),
        (Verdict::EngineStartFailed, 3)
    );
    assert_eq!(termination.reason.exit_code(), 81);
    assert!(
        termination.message.contains("invalid magic characters"),
        "{}",
        termination.message
    );
    let written = std::fs::read(bench.path("termination-log")).unwrap();
    assert_eq!(serde_json::from_slice::<Termination>(&written).unwrap(), termination);
    assert_eq!(std::fs::read_to_string(bench.path("state/starts")).unwrap(), "xxxx");
}

#[tokio::test]
async fn a_load_that_does_not_end_is_cut_off() {
    let mut bench = fake("never,well");
    bench.options.timing.load = std::time::Duration::from_millis(300);
    recovers(bench.start(), ErrorKind::Timeout).await;
}

#[tokio::test]
async fn health_that_lies_is_found_out_by_the_canary() {
    let error = recovers(fake("cannot-compute,well").start(), ErrorKind::ServerError).await;
    assert!(error.to_string().contains("500"), "{error}");
}

#[tokio::test]
async fn an_engine_that_turns_sick_while_idle_is_found_out() {
    recovers(with_fault("well", "errors").await, ErrorKind::ServerError).await;
}

#[tokio::test]
async fn a_stall_is_found_out_while_idle() {
    recovers(with_fault("well", "stall").await, ErrorKind::Timeout).await;
}

#[tokio::test]
async fn a_doubt_of_the_request_path_is_looked_into_at_once() {
    let mut bench = fake("well");
    bench.options.timing.idle = std::time::Duration::from_secs(3600);
    let mut engine = bench.start();
    let target = engine.ready().await;
    let _in_flight = engine.local.activity.begin();
    send(&target, "POST", "/fault/stall", "").await;
    engine.local.activity.doubt();
    assert_eq!(engine.restarting().await.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn exit_0_unasked_is_a_failure() {
    let error = recovers(with_fault("well", "exit-0").await, ErrorKind::ServerError).await;
    let InferenceError::ServerError { body: Some(body), .. } = error else {
        panic!("{error}");
    };
    assert!(body.contains("exit status 0"), "{body}");
}

#[tokio::test]
async fn a_cuda_error_is_poison() {
    let error = recovers(with_fault("well", "cuda-abort").await, ErrorKind::CudaContextPoisoned).await;
    assert!(error.to_string().contains("illegal memory access"), "{error}");
}

#[tokio::test]
async fn running_out_of_gpu_memory_is_backpressure() {
    recovers(with_fault("well", "gpu-out-of-memory").await, ErrorKind::Backpressure).await;
}

#[tokio::test]
async fn from_poison_on_the_target_is_gone_though_the_process_still_streams() {
    let mut engine = fake("well").start();
    let target = engine.ready().await;
    let mut stream = send(&target, "GET", "/endless", "").await.into_body();
    assert!(stream.frame().await.unwrap().is_ok());
    provoke(&target, "cuda-and-stay").await;
    timeout(DEADLINE, target.gone.cancelled())
        .await
        .expect("gone is not cancelled");
    assert_eq!(engine.restarting().await.kind(), ErrorKind::CudaContextPoisoned);
    let next = engine.ready().await;
    assert!(serves(&next).await);
    while let Some(Ok(_)) = stream.frame().await {}
}

#[tokio::test]
async fn poison_again_and_again_ends_the_process() {
    let mut engine = fake("well").start();
    for _ in 0..4 {
        let target = engine.ready().await;
        provoke(&target, "cuda-and-stay").await;
        timeout(DEADLINE, target.gone.cancelled())
            .await
            .expect("gone is not cancelled");
    }
    assert_eq!(engine.failed().await.kind(), ErrorKind::CudaContextPoisoned);
    let (termination, _) = engine.ended().await;
    let termination = termination.expect("a termination");
    assert_eq!(termination.reason, Verdict::ContextPoisoned);
    assert_eq!(termination.reason.exit_code(), 83);
}

#[tokio::test]
async fn sigterm_ignored_is_answered_with_sigkill() {
    let mut engine = fake("ignoring-term").start();
    let target = engine.ready().await;
    let (termination, _) = engine.stop().await;
    assert_eq!(termination, None);
    assert!(!is_listening(target.address));
}

#[tokio::test]
async fn a_grandchild_that_left_the_group_does_not_keep_the_port() {
    recovers(with_fault("well", "grandchild").await, ErrorKind::ServerError).await;
}

#[tokio::test]
async fn a_flood_without_line_breaks_does_no_harm() {
    let mut bench = fake("well");
    // The fake engine's canary waits for its flood to be read.
    bench.options.timing.canary = DEADLINE;
    let mut engine = bench.start();
    let target = engine.ready().await;
    let answer = send(&target, "POST", "/fault/flood", "").await;
    assert_eq!(answer.status(), 204);
    assert!(serves(&target).await && !target.gone.is_cancelled());
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_with_its_fix() {
    let mut bench = fake("well");
    bench.backend.args = vec!["--port".to_owned(), "1".to_owned()];
    let mut engine = bench.start();
    let InferenceError::BadRequest { message } = engine.failed().await else {
        panic!("another kind");
    };
    assert_eq!(message, "args: --port is set by the runtime; remove it");
    let (termination, _) = engine.ended().await;
    assert_eq!(
        termination.map(|termination| termination.reason),
        Some(Verdict::InvalidSpec)
    );
}

#[tokio::test]
async fn shutdown_while_a_rebuild_waits_ends_at_once() {
    let mut bench = fake("crash");
    bench.options.timing.pause = std::time::Duration::from_secs(3600);
    let mut engine = bench.start();
    engine.restarting().await;
    let (termination, _) = engine.stop().await;
    assert_eq!(termination, None);
}
