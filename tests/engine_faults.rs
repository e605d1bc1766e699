//! Every fault that an engine can have, played by `fake-engine`: what the request path sees, how it is called, and that it serves again.

mod support;

use http_body_util::BodyExt;
use inference_operator::{
    error::{ErrorKind, InferenceError},
    runtime::local::{Termination, Verdict},
};
use support::{Bench, Engine, is_listening, program, provoke, read_json, rerun, send, serves};
use tokio::time::timeout;

fn bench(plan: &str) -> Bench {
    let mut bench = Bench::new(&program("fake-engine"));
    let starts = bench.path("state/starts");
    bench.options.environment.extend([
        ("FAKE_ENGINE_PLAN".into(), plan.into()),
        ("FAKE_ENGINE_STARTS".into(), starts.into()),
        ("INFERENCE_SECRET".into(), "x".into()),
        ("KUBERNETES_SERVICE_HOST".into(), "10.0.0.1".into()),
        ("OPENAI_API_KEY".into(), "sk-secret".into()),
    ]);
    bench
}

/// A ready engine, in which `fault` then happens.
async fn with_fault(plan: &str, fault: &str) -> Engine {
    let mut engine = bench(plan).start();
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
    let mut engine = bench("slow").start();
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
    let mut engine = bench("crash,well").start();
    let target = engine.ready().await;
    assert!(serves(&target).await);
}

#[tokio::test]
async fn a_model_that_never_loads_is_given_up_with_its_cause() {
    let mut engine = bench("crash").start();
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
    let mut bench = bench("never,well");
    bench.options.timing.load = std::time::Duration::from_millis(300);
    recovers(bench.start(), ErrorKind::Timeout).await;
}

#[tokio::test]
async fn health_that_lies_is_found_out_by_the_canary() {
    let error = recovers(bench("cannot-compute,well").start(), ErrorKind::ServerError).await;
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
    let mut bench = bench("well");
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
    let mut engine = bench("well").start();
    let target = engine.ready().await;
    let mut stream = send(&target, "GET", "/endless", "").await.into_body();
    assert!(stream.frame().await.unwrap().is_ok());
    provoke(&target, "cuda-and-stay").await;
    timeout(support::DEADLINE, target.gone.cancelled())
        .await
        .expect("gone is not cancelled");
    assert_eq!(engine.restarting().await.kind(), ErrorKind::CudaContextPoisoned);
    let next = engine.ready().await;
    assert!(serves(&next).await);
    while let Some(Ok(_)) = stream.frame().await {}
}

#[tokio::test]
async fn poison_again_and_again_ends_the_process() {
    let mut engine = bench("well").start();
    for _ in 0..4 {
        let target = engine.ready().await;
        provoke(&target, "cuda-and-stay").await;
        timeout(support::DEADLINE, target.gone.cancelled())
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
    let mut engine = bench("ignoring-term").start();
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
    let mut engine = bench("well").start();
    let target = engine.ready().await;
    let answer = send(&target, "POST", "/fault/flood", "").await;
    assert_eq!(answer.status(), 204);
    assert!(serves(&target).await && !target.gone.is_cancelled());
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_with_its_fix() {
    let mut bench = bench("well");
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
    let mut bench = bench("crash");
    bench.options.timing.pause = std::time::Duration::from_secs(3600);
    let mut engine = bench.start();
    engine.restarting().await;
    let (termination, _) = engine.stop().await;
    assert_eq!(termination, None);
}

#[tokio::test]
async fn the_engine_is_kept_apart_from_the_runtimes_secrets() {
    let mut engine = bench("well").start();
    let target = engine.ready().await;
    let key = engine.bench.path("keys/openai/api-key");
    let log = engine.bench.path("termination-log");
    std::fs::write(&log, "mine").unwrap();
    let parent = format!("/proc/{}/mem", std::process::id());
    let written = engine.bench.path("state/cache-file");
    let paths = serde_json::json!({
        "read": [key.to_str().unwrap(), &parent, "/etc/hostname", "/proc/self/environ"],
        "write": [written.to_str(), log.to_str(), Some("/etc/engine-was-here")],
    });
    let report = read_json(send(&target, "POST", "/report", &paths.to_string()).await).await;
    let denied = "Permission denied (os error 13)";
    assert_eq!(report["read"][key.to_str().unwrap()], denied, "{report}");
    assert_eq!(report["read"][&parent], denied, "{report}");
    assert_eq!(report["read"]["/etc/hostname"], "ok", "{report}");
    assert_eq!(report["read"]["/proc/self/environ"], "ok", "{report}");
    assert_eq!(report["write"][written.to_str().unwrap()], "ok", "{report}");
    assert_eq!(report["write"][log.to_str().unwrap()], denied, "{report}");
    assert_eq!(report["write"]["/etc/engine-was-here"], denied, "{report}");
    assert_eq!(report["noNewPrivs"], "1");
    assert!(
        report["signalParent"].as_str().unwrap().starts_with("EPERM"),
        "{report}"
    );
    let names: Vec<&str> = report["environment"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|v| v.as_str())
        .collect();
    for secret in ["INFERENCE_SECRET", "KUBERNETES_SERVICE_HOST", "OPENAI_API_KEY"] {
        assert!(!names.contains(&secret), "{names:?}");
    }
    assert!(names.contains(&"PATH") && names.contains(&"LLAMA_API_KEY"), "{names:?}");
    let arguments = report["arguments"].to_string();
    assert!(
        !arguments.contains(secrecy::ExposeSecret::expose_secret(&target.api_key)),
        "{arguments}"
    );
    // What the engine opened itself aside, only the three standard streams are there: no file, no socket of the runtime.
    for (number, to) in report["descriptors"].as_object().unwrap() {
        let to = to.as_str().unwrap();
        let own = ["anon_inode:", "socket:", "pipe:", "/proc/", "/dev/null"]
            .iter()
            .any(|kind| to.starts_with(kind));
        assert!(own, "descriptor {number} is {to}");
    }
}

/// Landlock leaves `/proc` open; that the runtime is not dumpable closes its environment and memory to processes of the same user.
#[tokio::test]
async fn an_ordinary_users_engine_cannot_read_the_runtimes_environment() {
    let wrapper = [
        "setpriv",
        "--reuid=65532",
        "--regid=65532",
        "--clear-groups",
        "--bounding-set=-all",
    ];
    if rerun(
        "an_ordinary_users_engine_cannot_read_the_runtimes_environment",
        &wrapper,
    ) {
        return;
    }
    let mut engine = bench("well").start();
    let target = engine.ready().await;
    let parent = format!("/proc/{}/environ", std::process::id());
    let key = format!(
        "/proc/{}/root{}",
        std::process::id(),
        engine.bench.path("keys/openai/api-key").display()
    );
    let paths = serde_json::json!({"read": [&parent, &key, "/proc/self/environ"], "write": []});
    let report = read_json(send(&target, "POST", "/report", &paths.to_string()).await).await;
    let denied = "Permission denied (os error 13)";
    assert_eq!(report["read"][&parent], denied, "{report}");
    assert_eq!(report["read"][&key], denied, "{report}");
    assert_eq!(report["read"]["/proc/self/environ"], "ok", "{report}");
    engine.stop().await;
}

#[tokio::test]
async fn process_1_reaps_orphans_and_loses_no_status() {
    if rerun(
        "process_1_reaps_orphans_and_loses_no_status",
        &["unshare", "--fork", "--pid", "--mount-proc"],
    ) {
        return;
    }
    assert_eq!(std::process::id(), 1);
    let mut engine = bench("well").start();
    let target = engine.ready().await;
    provoke(&target, "orphans").await;
    let orphans = engine.bench.path("state/orphans");
    until("the orphans ran", || {
        std::fs::read(&orphans).is_ok_and(|text| text.len() == 8)
    })
    .await;
    until("the orphans were reaped", || zombies() == 0).await;
    provoke(&target, "exit-1").await;
    let error = engine.restarting().await;
    assert!(error.to_string().contains("500"), "{error}");
    let target = engine.ready().await;
    assert!(serves(&target).await);
    engine.stop().await;
    until("nothing is left", || zombies() == 0).await;
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    timeout(support::DEADLINE, wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

fn zombies() -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let states = processes.filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok());
    states.filter(|stat| stat.contains(") Z ")).count()
}
