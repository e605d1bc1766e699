//! A paid provider played from outside: an HTTP server on the node's address that speaks OpenAI's API and checks its key.

use std::{
    collections::HashMap,
    env,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// What the provider does with requests whose key is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Answers, after a while.
    Answer(Duration),
    /// Refuses with a status, as OpenAI spells it.
    Fail(u16),
    /// Never answers.
    Hang,
}

/// The running server. It stops when dropped.
pub struct Provider {
    /// Base address, as pods reach it.
    pub endpoint: String,
    address: IpAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    key: String,
    calls: AtomicU64,
    accepted: AtomicU64,
    mode: Mutex<Mode>,
    by_caller: Mutex<HashMap<IpAddr, u64>>,
}

impl Provider {
    /// Starts a provider that accepts `key`.
    pub async fn start(key: &str) -> Self {
        let shared = Arc::new(Shared {
            key: format!("Bearer {key}"),
            calls: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            mode: Mutex::new(Mode::Answer(Duration::ZERO)),
            by_caller: Mutex::default(),
        });
        let router = Router::new()
            .route("/v1/chat/completions", post(chat))
            .with_state(Arc::clone(&shared));
        let node = env::var("LOCAL_CLUSTER_NODE_IP").expect("tests run inside the local cluster's namespaces");
        let listener = TcpListener::bind((node.as_str(), 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let server = tokio::spawn(async move { axum::serve(listener, service).await.expect("serves") });
        Self {
            endpoint: format!("http://{address}/v1"),
            address: address.ip(),
            shared,
            server,
        }
    }

    /// From now on.
    pub fn set(&self, mode: Mode) {
        *self.shared.mode.lock().expect("no panic") = mode;
    }

    /// Its address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Requests by the address they came from: one a pod.
    pub fn by_caller(&self) -> HashMap<IpAddr, u64> {
        self.shared.by_caller.lock().expect("no panic").clone()
    }

    /// Requests so far, refused ones included.
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Requests that were answered.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn chat(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    shared.calls.fetch_add(1, Ordering::SeqCst);
    *shared
        .by_caller
        .lock()
        .expect("no panic")
        .entry(caller.ip())
        .or_default() += 1;
    let key = headers
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    if key != shared.key {
        return refuse().into_response();
    }
    let mode = shared.mode.lock().expect("no panic").clone();
    match mode {
        Mode::Answer(wait) => tokio::time::sleep(wait).await,
        Mode::Fail(status) => return fail(status).into_response(),
        Mode::Hang => std::future::pending().await,
    }
    shared.accepted.fetch_add(1, Ordering::SeqCst);
    if body["stream"] == json!(true) {
        stream(&body).into_response()
    } else {
        whole(&body).into_response()
    }
}

/// OpenAI's own body for a wrong key.
fn refuse() -> (StatusCode, Json<Value>) {
    let error = json!({"error": {
        "message": "Incorrect API key provided: sk-wrong. You can find your API key at https://platform.openai.com/account/api-keys.",
        "type": "invalid_request_error", "param": null, "code": "invalid_api_key",
    }});
    (StatusCode::UNAUTHORIZED, Json(error))
}

fn fail(status: u16) -> (StatusCode, Json<Value>) {
    let error = json!({"error": {"message": "scripted", "type": "server_error", "param": null, "code": null}});
    (StatusCode::from_u16(status).expect("a status"), Json(error))
}

fn whole(body: &Value) -> Json<Value> {
    Json(json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello from the provider"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9},
    }))
}

fn stream(body: &Value) -> ([(header::HeaderName, &'static str); 1], String) {
    let chunk = |choices: Value, usage: Value| {
        let event = json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"],
            "choices": choices, "usage": usage,
        });
        format!("data: {event}\n\n")
    };
    let word = |text: &str| {
        chunk(
            json!([{"index": 0, "delta": {"content": text}, "finish_reason": null}]),
            Value::Null,
        )
    };
    let last = chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), Value::Null);
    let usage = chunk(
        json!([]),
        json!({"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}),
    );
    let text = [
        word("Hello"),
        word(" from"),
        word(" the"),
        word(" provider"),
        last,
        usage,
        "data: [DONE]\n\n".into(),
    ]
    .concat();
    ([(header::CONTENT_TYPE, "text/event-stream")], text)
}
