//! Credentials plus HTTP client of one backend, rebuilt and swapped as a whole.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Uri};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::crypto::ring;
use secrecy::{ExposeSecret, SecretString};
use tower::Service;

/// The one kind of HTTP client in the request path.
pub type HttpClient = Client<Timed<HttpsConnector<HttpConnector>>, Full<Bytes>>;

const POOL_IDLE: Duration = Duration::from_secs(60);

/// Why a client could not be made; a defect of the build.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS: {0}")]
pub struct TlsError(#[from] rustls::Error);

/// A client with a connection pool of its own. `connect` bounds name lookup, TCP and TLS together.
pub fn client(connect: Duration) -> Result<HttpClient, TlsError> {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.enforce_http(false);
    let https = HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(Arc::new(ring::default_provider()))?
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .build(Timed {
            inner: https,
            limit: connect,
        }))
}

/// A connector that gives up after a time.
#[derive(Clone, Debug)]
pub struct Timed<C> {
    inner: C,
    limit: Duration,
}

type Connecting<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<C> Service<Uri> for Timed<C>
where
    C: Service<Uri, Error = Box<dyn std::error::Error + Send + Sync>>,
    C::Future: Send + 'static,
    C::Response: 'static,
{
    type Response = C::Response;
    type Error = C::Error;
    type Future = Connecting<C::Response, C::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, limit) = (self.inner.call(uri), self.limit);
        Box::pin(async move {
            tokio::time::timeout(limit, connecting).await.unwrap_or_else(|_| {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("not connected within {limit:?}")).into())
            })
        })
    }
}

/// Credentials plus HTTP client of one remote backend.
#[derive(Debug)]
pub struct Session {
    /// The client.
    pub client: HttpClient,
    /// The key; none means that requests go out without one.
    pub key: Option<SecretString>,
}

impl Session {
    /// `Authorization`, marked sensitive.
    #[must_use]
    pub fn authorization(&self) -> Option<HeaderValue> {
        self.key.as_ref().and_then(bearer)
    }

    /// True when both hold the same key.
    #[must_use]
    pub fn same_key(&self, other: Option<&SecretString>) -> bool {
        self.key.as_ref().map(ExposeSecret::expose_secret) == other.map(ExposeSecret::expose_secret)
    }
}

/// `Bearer KEY`, marked sensitive; `None` when the key is no header value, which its reader excludes.
#[must_use]
pub fn bearer(key: &SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret())).ok()?;
    value.set_sensitive(true);
    Some(value)
}
