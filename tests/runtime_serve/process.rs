//! The real process, started on free ports.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{interval, timeout},
};

/// No test waits longer for anything.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The process.
#[derive(Debug)]
pub struct Runtime {
    child: Child,
    pub api: SocketAddr,
    pub admin: SocketAddr,
    pub folder: tempfile::TempDir,
    /// All that the process has written to its log, and to its standard output.
    pub said: Arc<Mutex<String>>,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// `error.code` and `error.inference_error.kind`.
    pub fn error(&self) -> (String, String) {
        let error = &self.json()["error"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&error["code"]), text(&error["inference_error"]["kind"]))
    }
}

/// Writes the deployment and starts the process on it; `spec` is YAML at the level of `spec`. Keys are files below `keys`.
pub async fn start(spec: &str) -> Runtime {
    start_with_keys(spec, &[("openai", "api-key", "sk-right")]).await
}

pub async fn start_with_keys(spec: &str, keys: &[(&str, &str, &str)]) -> Runtime {
    start_with(spec, keys, &[]).await
}

/// The same with further variables; `FOLDER` in a value is a folder of the process's own.
pub async fn start_with(spec: &str, keys: &[(&str, &str, &str)], variables: &[(&str, &str)]) -> Runtime {
    start_with_flags(spec, keys, variables, &[]).await
}

/// The same with further flags.
pub async fn start_with_flags(
    spec: &str,
    keys: &[(&str, &str, &str)],
    variables: &[(&str, &str)],
    flags: &[&str],
) -> Runtime {
    let folder = tempfile::tempdir().unwrap();
    for (secret, key, value) in keys {
        fs::create_dir_all(folder.path().join("keys").join(secret)).unwrap();
        fs::write(folder.path().join("keys").join(secret).join(key), value).unwrap();
    }
    let indented = format!("  {}\n", spec.lines().collect::<Vec<_>>().join("\n  "));
    let head =
        "apiVersion: inference-operator.dev/v1alpha1\nkind: InferenceDeployment\nmetadata: {name: assistant}\nspec:\n";
    fs::write(folder.path().join("deployment.yaml"), format!("{head}{indented}")).unwrap();
    let mut child = command(&folder.path().join("deployment.yaml"))
        .arg("--keys")
        .arg(folder.path().join("keys"))
        .args(flags)
        .stdout(Stdio::piped())
        .envs(
            variables
                .iter()
                .map(|(name, value)| (name, value.replace("FOLDER", &folder.path().display().to_string()))),
        )
        .spawn()
        .unwrap();
    let said = Arc::<Mutex<String>>::default();
    overhear(child.stdout.take().unwrap(), &said);
    let listening = listen(&mut child, Arc::clone(&said));
    let (api, admin) = timeout(DEADLINE, listening).await.expect("ready in time");
    Runtime {
        child,
        api,
        admin,
        folder,
        said,
        client: Client::builder(TokioExecutor::new()).build_http(),
    }
}

pub fn command(file: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inference-runtime"));
    command.args(["serve", "--address", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--file"]);
    command.arg(file).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn overhear(stream: impl tokio::io::AsyncRead + Unpin + Send + 'static, said: &Arc<Mutex<String>>) {
    let (mut lines, said) = (BufReader::new(stream).lines(), Arc::clone(said));
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            said.lock().unwrap().extend([line.as_str(), "\n"]);
        }
    });
}

/// Reads the log until the process is ready, and goes on reading so that it never blocks.
pub async fn ports(child: &mut Child) -> (SocketAddr, SocketAddr) {
    listen(child, Arc::default()).await
}

async fn listen(child: &mut Child, said: Arc<Mutex<String>>) -> (SocketAddr, SocketAddr) {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (mut api, mut admin) = (None, None);
    while let Some(line) = lines.next_line().await.unwrap() {
        said.lock().unwrap().extend([line.as_str(), "\n"]);
        let entry: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON log: {line}"));
        let fields = &entry["fields"];
        let address = || fields["address"].as_str().and_then(|a| a.parse().ok());
        match (fields["message"].as_str(), fields["port"].as_str()) {
            (Some("listening"), Some("client API")) => api = address(),
            (Some("listening"), Some("admin API")) => admin = address(),
            (Some("ready"), _) => break,
            _ if entry["level"] == "ERROR" => panic!("{line}"),
            _ => {}
        }
    }
    overhear(lines.into_inner(), &said);
    (api.expect("the API's address"), admin.expect("the admin address"))
}

impl Runtime {
    /// Sends a request and gives the response before its body.
    pub async fn open(&self, path: &str, headers: &[(&'static str, &str)], body: &str) -> Response<Incoming> {
        let mut request = Request::post(format!("http://{}{path}", self.api));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        timeout(DEADLINE, self.client.request(request))
            .await
            .expect("an answer in time")
            .unwrap()
    }

    pub async fn post_with(&self, path: &str, headers: &[(&'static str, &str)], body: &str) -> Answer {
        read(self.open(path, headers, body).await).await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.post_with(path, &[], body).await
    }

    /// A chat of one message, with further fields.
    pub async fn chat(&self, fields: &str) -> Answer {
        self.post("/v1/chat/completions", &chat_body(fields)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        get(self.api, path).await
    }

    pub async fn status(&self) -> Value {
        get(self.admin, "/status").await.json()
    }

    pub async fn metrics(&self) -> String {
        get(self.admin, "/metrics").await.text
    }

    pub async fn readyz(&self) -> StatusCode {
        get(self.admin, "/readyz").await.status
    }

    /// State of a circuit in `/status`.
    pub async fn circuit(&self, backend: &str, scope: &str) -> String {
        let status = self.status().await;
        let rows = status["circuits"].as_array().unwrap().clone();
        let row = rows
            .iter()
            .find(|row| row["backend"] == backend && row["scope"] == scope);
        row.expect("a circuit")["state"].as_str().unwrap().to_owned()
    }

    /// Waits until the log has the words: it comes by a pipe of its own, some time after the answers.
    pub async fn says(&self, words: &str) {
        until(words, || async { self.said.lock().unwrap().contains(words) }).await;
    }

    pub fn write_key(&self, secret: &str, key: &str, value: &str) {
        fs::write(self.key_file(secret, key), value).unwrap();
    }

    fn key_file(&self, secret: &str, key: &str) -> PathBuf {
        self.folder.path().join("keys").join(secret).join(key)
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id().expect("still there")).unwrap())
    }

    /// Resident memory, bytes.
    pub fn rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// The one child of the process: its engine.
    pub fn engine(&self) -> Pid {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let children = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
        let text: String = children.collect();
        let mut pids = text.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap()));
        pids.next().expect("an engine")
    }

    /// The exit code, once the process has ended.
    pub async fn exit_code(&mut self) -> Option<i32> {
        timeout(DEADLINE, self.child.wait())
            .await
            .expect("an end in time")
            .unwrap()
            .code()
    }
}

pub async fn get(address: SocketAddr, path: &str) -> Answer {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(format!("http://{address}{path}"))
        .body(Full::default())
        .unwrap();
    let response = timeout(DEADLINE, client.request(request))
        .await
        .expect("an answer in time");
    read(response.unwrap()).await
}

pub fn chat_body(fields: &str) -> String {
    format!(r#"{{"model":"assistant","messages":[{{"role":"user","content":"Hi"}}]{fields}}}"#)
}

pub async fn read(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = timeout(DEADLINE, body.collect())
        .await
        .expect("a body in time")
        .unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(body.to_bytes().to_vec()).unwrap(),
    }
}

/// Waits until the condition holds.
pub async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let mut ticks = interval(Duration::from_millis(20));
    let waiting = async {
        while !condition().await {
            ticks.tick().await;
        }
    };
    timeout(DEADLINE, waiting)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come"));
}
