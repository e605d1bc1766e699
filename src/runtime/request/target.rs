//! Where one attempt goes: a provider, the own engine, or a peer.

use std::{mem::take, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use hyper_util::client::legacy::ResponseFuture;
use secrecy::SecretString;
use tokio::{sync::watch, time::timeout};

use super::head::Operation;
use crate::{
    api::Timeouts,
    error::{InferenceError, Provider},
    runtime::{
        local::{Activity, EngineTarget, EngineView},
        remote::{
            auth::common_headers,
            session::{HttpClient, Session, bearer},
        },
    },
};

/// Header of a hop between peers: its receiver serves from its own engine only and never hops again.
pub const HOP: HeaderName = HeaderName::from_static("x-inference-hop");
/// Header with the request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Header with the request's priority.
pub const PRIORITY: HeaderName = HeaderName::from_static("x-inference-priority");

/// How long the worker of a context that is gone may take to say why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The timers of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    /// Until the first content of a stream.
    pub first_token: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// Of the whole attempt, and of all retries at the same backend.
    pub total: Duration,
}

impl From<&Timeouts> for Timers {
    fn from(spec: &Timeouts) -> Self {
        Self {
            first_token: spec.first_token(),
            idle: spec.idle(),
            total: spec.total(),
        }
    }
}

impl Timers {
    /// What is left of them for a further attempt.
    #[must_use]
    pub fn after(self, elapsed: Duration) -> Self {
        let total = self.total.saturating_sub(elapsed);
        Self {
            first_token: self.first_token.min(total),
            idle: self.idle.min(total),
            total,
        }
    }
}

/// An engine whose context may go at any moment.
#[derive(Clone, Debug)]
pub struct OwnEngine {
    /// The context.
    pub target: Arc<EngineTarget>,
    /// Says why it went.
    pub view: watch::Receiver<EngineView>,
    /// Told of signs of life and of doubts.
    pub activity: Arc<Activity>,
}

impl OwnEngine {
    /// Why the context is gone: its worker knows a moment later than that it is, for what the engine said last has to be read. On the heap:
    /// every request's future would keep room for it.
    #[must_use]
    pub fn why_gone(&self) -> BoxFuture<'_, InferenceError> {
        Box::pin(async {
            let mut view = self.view.clone();
            let known =
                view.wait_for(|view| !matches!(view, EngineView::Ready(target) if Arc::ptr_eq(target, &self.target)));
            if let Ok(Ok(view)) = timeout(LAST_WORDS, known).await
                && let EngineView::Restarting(error) | EngineView::Failed(error) | EngineView::NoModel(_, error) =
                    &*view
            {
                return error.clone();
            }
            InferenceError::ServerError {
                status: 503,
                body: Some("the engine was replaced while it answered".into()),
            }
        })
    }
}

/// What is sent with. On the heap: every request's future would keep room for it.
#[derive(Clone, Debug)]
enum Means {
    /// A provider's session, which holds the key.
    Session(Arc<Session>),
    /// The client for the own engine and for peers.
    Client(Box<HttpClient>),
}

/// Where one attempt goes.
#[derive(Clone, Debug)]
pub struct Target {
    means: Means,
    uri: Uri,
    headers: HeaderMap,
    /// Whose failures they are.
    pub provider: Provider,
    /// The timers.
    pub timers: Timers,
    /// Set for the own engine.
    pub engine: Option<OwnEngine>,
    /// Set for a peer, which answers with our own errors.
    pub is_peer: bool,
}

impl Target {
    /// A provider, with `headers` that it knows us by.
    #[must_use]
    pub fn provider(
        session: &Arc<Session>,
        uri: Uri,
        mut headers: HeaderMap,
        provider: Provider,
        timers: Timers,
        request_id: &HeaderValue,
    ) -> Self {
        headers.insert(REQUEST_ID, request_id.clone());
        Self {
            means: Means::Session(Arc::clone(session)),
            uri,
            headers,
            provider,
            timers,
            engine: None,
            is_peer: false,
        }
    }

    /// The own engine.
    #[must_use]
    pub fn own(
        client: &HttpClient,
        engine: OwnEngine,
        operation: Operation,
        timers: Timers,
        request_id: &HeaderValue,
    ) -> Option<Self> {
        let uri = address(engine.target.address, operation)?;
        let mut headers = headers(request_id);
        if let Some(authorization) = engine.target.api_key.as_ref().and_then(bearer) {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        Some(Self {
            means: Means::Client(Box::new(client.clone())),
            uri,
            headers,
            provider: Provider::Local,
            timers,
            engine: Some(engine),
            is_peer: false,
        })
    }

    /// A peer, with its token in `authorization`.
    #[must_use]
    pub fn peer(
        client: &HttpClient,
        peer: SocketAddr,
        operation: Operation,
        timers: Timers,
        request_id: &HeaderValue,
        authorization: HeaderValue,
    ) -> Option<Self> {
        let uri = address(peer, operation)?;
        let mut headers = headers(request_id);
        headers.insert(header::AUTHORIZATION, authorization);
        headers.insert(HOP, HeaderValue::from_static("1"));
        Some(Self {
            means: Means::Client(Box::new(client.clone())),
            uri,
            headers,
            provider: Provider::Local,
            timers,
            engine: None,
            is_peer: true,
        })
    }

    /// The key that the backend is shown, which it may repeat.
    #[must_use]
    pub fn secret(&self) -> Option<&SecretString> {
        match &self.means {
            Means::Session(session) => session.key.as_ref(),
            Means::Client(_) => self.engine.as_ref()?.target.api_key.as_ref(),
        }
    }

    /// Adds a header to what is sent.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sends the request. The headers leave with it.
    pub fn send(&mut self, body: Bytes) -> ResponseFuture {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = take(&mut self.headers);
        match &self.means {
            Means::Session(session) => session.client.request(request),
            Means::Client(client) => client.request(request),
        }
    }
}

fn address(socket: SocketAddr, operation: Operation) -> Option<Uri> {
    format!("http://{socket}/v1{}", operation.path()).parse().ok()
}

fn headers(request_id: &HeaderValue) -> HeaderMap {
    let mut headers = common_headers();
    headers.insert(REQUEST_ID, request_id.clone());
    headers
}
