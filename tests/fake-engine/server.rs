//! The server: `/health`, what it says of itself, one token, and the doors to faults and report.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::{Instant, interval, sleep},
};

use crate::{Load, faults, protocol::Protocol, report};

const SLOW: Duration = Duration::from_millis(700);

pub(crate) struct Engine {
    protocol: Protocol,
    load: Load,
    began: Instant,
    pub(crate) stalled: AtomicBool,
    pub(crate) failing: AtomicBool,
    pub(crate) poisoned: OnceLock<Instant>,
}

impl Engine {
    fn is_long_poisoned(&self) -> bool {
        let poisoned = self.poisoned.get();
        poisoned.is_some_and(|since| since.elapsed() > Duration::from_millis(500))
    }

    fn is_loading(&self) -> bool {
        self.load == Load::Never || (self.load == Load::Slow && self.began.elapsed() < SLOW)
    }
}

type Shared = State<Arc<Engine>>;

async fn needs_key(State(engine): Shared, request: Request, next: Next) -> Response {
    let expected = engine.protocol.key().map(|key| format!("Bearer {key}"));
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    if expected.is_none() || engine.protocol.is_open(request.uri().path()) || given == expected.as_deref() {
        return next.run(request).await;
    }
    engine.protocol.unauthorized()
}

async fn health(State(engine): Shared) -> Response {
    if engine.protocol == Protocol::Embeddings {
        return StatusCode::NOT_FOUND.into_response();
    }
    if engine.is_loading() {
        let error = json!({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}});
        return (StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response();
    }
    if engine.protocol == Protocol::Vllm && engine.failing.load(Ordering::Relaxed) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    Json(json!({"status": "ok"})).into_response()
}

async fn props(State(engine): Shared) -> Response {
    if engine.protocol != Protocol::LlamaCpp {
        return StatusCode::NOT_FOUND.into_response();
    }
    Json(json!({"default_generation_settings": {"n_ctx": 512}, "total_slots": 2})).into_response()
}

async fn models(State(engine): Shared) -> Response {
    match engine.protocol.models() {
        Some(models) => Json(models).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn completions(State(engine): Shared, Json(request): Json<Value>) -> Response {
    if engine.protocol == Protocol::Embeddings {
        return (StatusCode::NOT_FOUND, Json(json!({"detail": "Not Found"}))).into_response();
    }
    if let Some(refusal) = engine.protocol.refuses(&request) {
        return refusal;
    }
    match request.get("prompt").and_then(Value::as_str) {
        Some("hang") => std::future::pending().await,
        Some(prompt) if prompt.starts_with("fault ") => drop(faults::happen(&engine, &prompt[6..])),
        _ => {}
    }
    if request.get("stream") == Some(&Value::Bool(true)) {
        return ([("content-type", "text/event-stream")], tokens(&engine)).into_response();
    }
    let token = json!({"object": "text_completion", "choices": [{"index": 0, "text": "a", "finish_reason": "length"}]});
    compute(&engine, token).await
}

async fn embeddings(State(engine): Shared) -> Response {
    if engine.protocol != Protocol::Embeddings {
        return (StatusCode::NOT_FOUND, Json(json!({"detail": "Not Found"}))).into_response();
    }
    if engine.is_loading() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"detail": "Loading"}))).into_response();
    }
    compute(
        &engine,
        json!({"object": "list", "data": [{"index": 0, "embedding": [0.5]}]}),
    )
    .await
}

async fn compute(engine: &Engine, answer: Value) -> Response {
    if engine.stalled.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    let poisoned = engine.poisoned.get().is_some();
    if poisoned || engine.load == Load::CannotCompute || engine.failing.load(Ordering::Relaxed) {
        return (StatusCode::INTERNAL_SERVER_ERROR, engine.protocol.internal_error()).into_response();
    }
    Json(answer).into_response()
}

/// Tokens without end, one every 5 ms, errors in their place while it fails, `a` and from half a second after poison on `late`: not one of those may reach a client.
fn tokens(engine: &Arc<Engine>) -> Body {
    let engine = Arc::clone(engine);
    let ticks = stream::unfold(interval(Duration::from_millis(5)), move |mut ticks| {
        let engine = Arc::clone(&engine);
        async move {
            ticks.tick().await;
            if engine.failing.load(Ordering::Relaxed) {
                let Json(error) = engine.protocol.internal_error();
                return Some((Ok(Bytes::from(format!("data: {error}\n\n"))), ticks));
            }
            let text = if engine.is_long_poisoned() { "late" } else { "a" };
            let token =
                json!({"object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": null}]});
            Some((Ok::<_, Infallible>(Bytes::from(format!("data: {token}\n\n"))), ticks))
        }
    });
    Body::from_stream(bounded(ticks))
}

/// A stream that never ends: a token every 5 ms.
async fn endless() -> Body {
    let ticks = stream::unfold(interval(Duration::from_millis(5)), |mut ticks| async {
        ticks.tick().await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b"data: token\n\n")), ticks))
    });
    Body::from_stream(bounded(ticks))
}

fn bounded<S: Stream>(stream: S) -> impl Stream<Item = S::Item> {
    stream.take(100_000)
}

async fn fault(State(engine): Shared, Path(name): Path<String>) -> StatusCode {
    if faults::happen(&engine, &name) {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::NOT_FOUND
    }
}

pub(crate) async fn serve(port: &str, load: Load) -> io::Result<()> {
    let engine = Arc::new(Engine {
        protocol: Protocol::of_command(),
        load,
        began: Instant::now(),
        stalled: AtomicBool::new(false),
        failing: AtomicBool::new(false),
        poisoned: OnceLock::new(),
    });
    while engine.is_loading() && !engine.protocol.listens_while_loading() {
        sleep(Duration::from_millis(10)).await;
    }
    let routes = Router::new()
        .route("/health", get(health))
        .route("/props", get(props))
        .route("/v1/models", get(models))
        .route("/v1/completions", post(completions))
        .route("/v1/embeddings", post(embeddings))
        .route("/endless", get(endless))
        .route("/fault/{name}", post(fault))
        .route("/report", post(report::report))
        .layer(from_fn_with_state(Arc::clone(&engine), needs_key))
        .with_state(engine);
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    let mut term = signal(SignalKind::terminate())?;
    tokio::select! {
        served = async { axum::serve(listener, routes).await } => served,
        () = asked_to_end(&mut term, load) => Ok(()),
    }
}

async fn asked_to_end(term: &mut tokio::signal::unix::Signal, load: Load) {
    loop {
        term.recv().await;
        if load != Load::IgnoringTerm {
            // A little later, as a server that cleans up: whoever asked has to wait for it.
            return sleep(Duration::from_millis(20)).await;
        }
    }
}
