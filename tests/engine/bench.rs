//! A supervised engine in a folder of its own, and what tests ask of it.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use inference_operator::{
    api::LocalBackend,
    error::InferenceError,
    policy::reach::AllowedAddresses,
    runtime::local::{self, Domain, EngineTarget, EngineView, Local, Options, Termination, Timing},
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::port::free_port;

pub const DEADLINE: Duration = Duration::from_secs(30);

/// Times short enough for tests; the restart policy's minute is not among them.
pub fn timing() -> Timing {
    Timing {
        poll: Duration::from_millis(20),
        health: Duration::from_millis(500),
        canary: Duration::from_secs(1),
        load: Duration::from_secs(10),
        idle: Duration::from_millis(200),
        grace: Duration::from_secs(1),
        pause: Duration::from_millis(20),
        ..Timing::default()
    }
}

pub struct Bench {
    pub folder: TempDir,
    pub options: Options,
    pub backend: LocalBackend,
}

impl Bench {
    /// With the program of an `engine`, and a model file that only its path matters of.
    pub fn new(engine: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("models")).unwrap();
        fs::create_dir_all(folder.path().join("keys/openai")).unwrap();
        fs::create_dir_all(folder.path().join("state")).unwrap();
        fs::write(folder.path().join("termination-log"), "").unwrap();
        fs::write(folder.path().join("models/tiny.gguf"), "GGUF").unwrap();
        fs::write(folder.path().join("keys/openai/api-key"), "sk-secret").unwrap();
        let options = Options {
            engine: Some(engine.to_path_buf()),
            port: free_port(),
            models: folder.path().join("models"),
            source: local::source::Means::default(),
            fetched: None,
            model: Some("assistant".to_owned()),
            allowed: AllowedAddresses::loopback(),
            termination_log: Some(folder.path().join("termination-log")),
            launcher: program("inference-runtime"),
            domain: Domain {
                denied: vec![folder.path().join("keys"), folder.path().join("termination-log")],
                writable: vec!["/dev".into(), folder.path().join("state")],
            },
            environment: std::env::vars_os().collect(),
            timing: timing(),
        };
        let backend = json!({
            "engine": "LlamaCpp",
            "source": {"persistentVolumeClaim": {"claimName": "models", "path": "tiny.gguf"}},
            "parallel": 2,
        });
        Self {
            folder,
            options,
            backend: serde_json::from_value(backend).unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn start(self) -> Engine {
        let shutdown = CancellationToken::new();
        let local = local::spawn(
            self.options.clone(),
            ("own".to_owned(), self.backend.clone()),
            shutdown.clone(),
        );
        Engine {
            bench: self,
            local,
            shutdown,
        }
    }
}

/// Set by [`rerun`]: the folder with copies of the programs.
const ENV_PROGRAMS: &str = "TEST_PROGRAMS";

/// A program of this package.
pub fn program(name: &str) -> PathBuf {
    match (std::env::var_os(ENV_PROGRAMS), name) {
        (Some(folder), _) => PathBuf::from(folder).join(name),
        (None, "inference-runtime") => env!("CARGO_BIN_EXE_inference-runtime").into(),
        (None, _) => env!("CARGO_BIN_EXE_fake-engine").into(),
    }
}

/// This is a run by [`rerun`].
pub fn is_rerun() -> bool {
    std::env::var_os(ENV_PROGRAMS).is_some()
}

/// Run the test `name` of this program again under `wrapper`, from a folder that every user may read. False when this is that run already.
pub fn rerun(name: &str, wrapper: &[&str]) -> bool {
    if is_rerun() {
        return false;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["inference-runtime", "fake-engine"] {
        fs::copy(program(name), folder.path().join(name)).unwrap();
    }
    let test = folder.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &test).unwrap();
    let (first, rest) = wrapper.split_first().unwrap();
    let output = std::process::Command::new(first)
        .args(rest)
        .arg(&test)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ENV_PROGRAMS, folder.path())
        .current_dir("/")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{said}");
    true
}

/// A bench with the engine that plays the loads of `plan`, one a start.
pub fn fake(plan: &str) -> Bench {
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

pub struct Engine {
    pub bench: Bench,
    pub local: Local,
    pub shutdown: CancellationToken,
}

impl Engine {
    async fn wait_for<T>(&mut self, what: &str, mut pick: impl FnMut(&EngineView) -> Option<T>) -> T {
        let found = timeout(DEADLINE, async {
            loop {
                if let Some(found) = pick(&self.local.view.borrow_and_update()) {
                    return found;
                }
                self.local.view.changed().await.expect("the worker ended");
            }
        });
        match found.await {
            Ok(found) => found,
            Err(tokio::time::error::Elapsed { .. }) => panic!("never {what}: {:?}", *self.local.view.borrow()),
        }
    }

    pub async fn ready(&mut self) -> Arc<EngineTarget> {
        self.wait_for("Ready", |view| match view {
            EngineView::Ready(target) if !target.gone.is_cancelled() => Some(Arc::clone(target)),
            _ => None,
        })
        .await
    }

    pub async fn restarting(&mut self) -> InferenceError {
        self.wait_for("Restarting", |view| match view {
            EngineView::Restarting(error) => Some(error.clone()),
            _ => None,
        })
        .await
    }

    pub async fn failed(&mut self) -> InferenceError {
        self.wait_for("Failed", |view| match view {
            EngineView::Failed(error) => Some(error.clone()),
            _ => None,
        })
        .await
    }

    /// Until the worker has ended.
    pub async fn ended(self) -> (Option<Termination>, Bench) {
        let termination = timeout(DEADLINE, self.local.ended)
            .await
            .expect("the worker does not end");
        (termination.unwrap(), self.bench)
    }

    pub async fn stop(self) -> (Option<Termination>, Bench) {
        self.shutdown.cancel();
        self.ended().await
    }
}

/// The same, with the fields of `backend` in the place of llama.cpp's.
pub fn fake_of(plan: &str, backend: Value) -> Bench {
    let mut bench = fake(plan);
    bench.backend = serde_json::from_value(backend).unwrap();
    bench
}

/// Ask the fake engine for a fault. There may be no answer: the fault comes first.
pub async fn provoke(target: &EngineTarget, fault: &str) {
    let _ = try_send(target, "POST", &format!("/fault/{fault}"), "").await;
}

pub async fn send(target: &EngineTarget, method: &str, path: &str, body: &str) -> http::Response<Incoming> {
    try_send(target, method, path, body).await.unwrap()
}

async fn try_send(
    target: &EngineTarget,
    method: &str,
    path: &str,
    body: &str,
) -> Result<http::Response<Incoming>, hyper_util::client::legacy::Error> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://{}{path}", target.address))
        .header("content-type", "application/json");
    if let Some(key) = &target.api_key {
        request = request.header("authorization", format!("Bearer {}", key.expose_secret()));
    }
    let request = request.body(Full::from(body.to_owned())).unwrap();
    timeout(DEADLINE, client.request(request)).await.expect("no answer")
}

pub async fn read_json(answer: http::Response<Incoming>) -> Value {
    assert_eq!(answer.status(), StatusCode::OK);
    serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

/// The one token that every context has to be able to compute.
pub async fn serves(target: &EngineTarget) -> bool {
    let body = json!({"model": target.model, "prompt": "a", "max_tokens": 1});
    let answer = send(target, "POST", "/v1/completions", &body.to_string()).await;
    answer.status() == StatusCode::OK
}

pub fn is_listening(address: SocketAddr) -> bool {
    std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}
