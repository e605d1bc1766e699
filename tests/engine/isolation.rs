//! What the engine may touch, and the duties of process 1.

use inference_operator::api::EngineIsolation;
use tokio::time::timeout;

use crate::bench::{DEADLINE, fake, provoke, read_json, rerun, send, serves};

/// The name of the thread that opens it, as `/proc/PID/task/TID/comm`: NVIDIA's driver writes there.
const OWN_NAME: &str = "/proc/thread-self/comm";

#[tokio::test]
async fn the_engine_is_kept_apart_from_the_runtimes_secrets() {
    let mut engine = fake("well").start();
    let target = engine.ready().await;
    let key = engine.bench.path("keys/openai/api-key");
    let log = engine.bench.path("termination-log");
    std::fs::write(&log, "mine").unwrap();
    let parent = format!("/proc/{}/mem", std::process::id());
    let written = engine.bench.path("state/cache-file");
    let paths = serde_json::json!({
        "read": [key.to_str().unwrap(), &parent, "/etc/hostname", "/proc/self/environ"],
        "write": [written.to_str(), log.to_str(), Some("/etc/engine-was-here"), Some(parent.as_str()), Some(OWN_NAME)],
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
    assert_eq!(report["write"][&parent], denied, "{report}");
    assert_eq!(report["write"][OWN_NAME], "ok", "CUDA could not begin: {report}");
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
        !arguments.contains(secrecy::ExposeSecret::expose_secret(target.api_key.as_ref().unwrap())),
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
        "isolation::an_ordinary_users_engine_cannot_read_the_runtimes_environment",
        &wrapper,
    ) {
        return;
    }
    let mut engine = fake("well").start();
    let target = engine.ready().await;
    let parent = format!("/proc/{}/environ", std::process::id());
    let key = format!(
        "/proc/{}/root{}",
        std::process::id(),
        engine.bench.path("keys/openai/api-key").display()
    );
    let of_parent = ["mem", "comm", "oom_score_adj"].map(|file| format!("/proc/{}/{file}", std::process::id()));
    let written = of_parent.iter().map(String::as_str).chain([OWN_NAME]);
    let paths =
        serde_json::json!({"read": [&parent, &key, "/proc/self/environ"], "write": written.collect::<Vec<_>>()});
    let report = read_json(send(&target, "POST", "/report", &paths.to_string()).await).await;
    let denied = "Permission denied (os error 13)";
    assert_eq!(report["read"][&parent], denied, "{report}");
    assert_eq!(report["read"][&key], denied, "{report}");
    assert_eq!(report["read"]["/proc/self/environ"], "ok", "{report}");
    for file in &of_parent {
        assert_eq!(report["write"][file], denied, "{file}: {report}");
    }
    assert_eq!(report["write"][OWN_NAME], "ok", "{report}");
    engine.stop().await;
}

/// Starts a program without Landlock, as on a kernel that has none: a filter answers its first call (444) with ENOSYS (38).
const WITHOUT_LANDLOCK: &str = "
import ctypes, os, struct, sys
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x00050026), (0x06, 0, 0, 0x7fff0000)]
program = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *step) for step in steps))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, struct.pack('HxxxxxxP', len(steps), ctypes.addressof(program)), 0, 0) == 0, ctypes.get_errno()
os.execvp(sys.argv[1], sys.argv[1:])
";

#[tokio::test]
async fn without_landlock_the_engine_runs_and_the_replica_says_that_it_is_trusted() {
    let wrapper = ["python3", "-c", WITHOUT_LANDLOCK];
    if rerun(
        "isolation::without_landlock_the_engine_runs_and_the_replica_says_that_it_is_trusted",
        &wrapper,
    ) {
        return;
    }
    trusted().await;
}

/// It runs, can read the keys, and that is told.
async fn trusted() {
    let mut engine = fake("well").start();
    assert_eq!(engine.local.isolation, Some(EngineIsolation::None));
    let target = engine.ready().await;
    let key = engine.bench.path("keys/openai/api-key");
    let paths = serde_json::json!({"read": [key.to_str().unwrap()], "write": []});
    let report = read_json(send(&target, "POST", "/report", &paths.to_string()).await).await;
    assert_eq!(
        report["read"][key.to_str().unwrap()],
        "ok",
        "trusted with the keys: {report}"
    );
    engine.stop().await;
}

/// Starts a program as on a kernel of 5.13 to 5.18: another process answers its question for Landlock's version (444 with the flag 1) with 1.
const WITH_THE_FIRST_LANDLOCK: &str = "
import ctypes, os, struct, sys
from fcntl import ioctl
steps = [(0x20, 0, 0, 0), (0x15, 0, 3, 444), (0x20, 0, 0, 32), (0x15, 0, 1, 1), (0x06, 0, 0, 0x7fc00000), (0x06, 0, 0, 0x7fff0000)]
program = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *step) for step in steps))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
listener = libc.syscall(317, 1, 8, struct.pack('HxxxxxxP', len(steps), ctypes.addressof(program)))
assert listener >= 0, ctypes.get_errno()
if os.fork():
    os.execvp(sys.argv[1], sys.argv[1:])
libc.prctl(1, 9, 0, 0, 0)
while True:
    question = bytearray(80)
    ioctl(listener, 0xC0502100, question)
    ioctl(listener, 0xC0182101, question[:8] + struct.pack('=qiI', 1, 0, 0))
";

/// In a domain of Landlock's first version no file can be renamed into another folder, which caches of engines do.
#[tokio::test]
async fn with_the_first_landlock_the_engine_runs_as_without() {
    let wrapper = ["python3", "-c", WITH_THE_FIRST_LANDLOCK];
    if rerun(
        "isolation::with_the_first_landlock_the_engine_runs_as_without",
        &wrapper,
    ) {
        return;
    }
    trusted().await;
}

#[tokio::test]
async fn process_1_reaps_orphans_and_loses_no_status() {
    if rerun(
        "isolation::process_1_reaps_orphans_and_loses_no_status",
        &["unshare", "--fork", "--pid", "--mount-proc"],
    ) {
        return;
    }
    assert_eq!(std::process::id(), 1);
    let mut engine = fake("well").start();
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
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(10));
        while !done() {
            ticks.tick().await;
        }
    };
    timeout(DEADLINE, wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

fn zombies() -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let states = processes.filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok());
    states.filter(|stat| stat.contains(") Z ")).count()
}
