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
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use rustls::crypto::ring;
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use tower::{Service, ServiceExt};

use super::{
    auth::{Credential, CredentialError},
    connect::{Guarded, NotAllowed, Reach},
};
use crate::api::RemoteProvider;

/// The one kind of HTTP client in the request path.
pub type HttpClient = Client<Timed<HttpsConnector<Guarded>>, Full<Bytes>>;

const POOL_IDLE: Duration = Duration::from_secs(60);
/// Idle connections kept a host: beyond a burst of so many at once, more would only hold descriptors.
const POOL_SIZE: usize = 512;
/// TCP asks a silent peer so often; after three questions without an answer the connection is dead.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_RETRIES: u32 = 3;
/// HTTP/2 asks so often while requests are open, and waits so long for the answer.
const PING: Duration = Duration::from_secs(30);
const PING_ANSWER: Duration = Duration::from_secs(15);
/// Bytes that the headers of an answer may have; a body passes through a buffer of this size.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEAD_H2: u32 = 64 * 1024;
/// Bytes that one HTTP/2 stream, and all of a connection, may send unread: 32 slow clients do not stop the others.
const WINDOW_STREAM: u32 = 256 * 1024;
const WINDOW_CONNECTION: u32 = 8 * 1024 * 1024;

/// Why a client could not be made; a defect of the build.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS: {0}")]
pub struct TlsError(#[from] rustls::Error);

/// A client for the own engine and for peers, whose addresses the process knows itself. `connect` bounds name lookup, TCP and TLS together.
///
/// Each request has a connection of its own: llama.cpp's server closes one after a stream although it says that it will not, uvicorn one that
/// was idle for 5 s, and a peer all that are idle when it drains; a request sent at that moment would be lost.
pub fn client(connect: Duration) -> Result<HttpClient, TlsError> {
    client_within(connect, 0, Reach::default(), true)
}

/// A client for a provider: it dials only what `reach` allows.
pub fn provider_client(connect: Duration, reach: Reach) -> Result<HttpClient, TlsError> {
    client_within(connect, POOL_SIZE, reach, true)
}

/// A client for large files: without HTTP/2, whose windows are laid out for many small streams.
pub fn download_client(connect: Duration, reach: Reach) -> Result<HttpClient, TlsError> {
    client_within(connect, POOL_SIZE, reach, false)
}

fn client_within(connect: Duration, pooled: usize, reach: Reach, multiplexed: bool) -> Result<HttpClient, TlsError> {
    let tcp = Guarded::new(reach, |tcp| {
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    });
    let https = HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(Arc::new(ring::default_provider()))?
        .https_or_http()
        .enable_http1();
    let https = if multiplexed {
        https.enable_http2().wrap_connector(tcp)
    } else {
        https.wrap_connector(tcp)
    };
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(pooled)
        .http1_max_buf_size(MAX_HEAD)
        .http2_max_header_list_size(MAX_HEAD_H2)
        .http2_initial_stream_window_size(WINDOW_STREAM)
        .http2_initial_connection_window_size(WINDOW_CONNECTION)
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PING_ANSWER);
    Ok(builder.build(Timed {
        inner: Arc::new(https),
        limit: connect,
    }))
}

/// A connector that gives up after a time. The client clones it several times a request, also when there is nothing to connect.
#[derive(Debug)]
pub struct Timed<C> {
    inner: Arc<C>,
    limit: Duration,
}

impl<C> Clone for Timed<C> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            limit: self.limit,
        }
    }
}

type Connecting<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<C> Service<Uri> for Timed<C>
where
    C: Service<Uri, Error = Box<dyn std::error::Error + Send + Sync>> + Clone + Send + 'static,
    C::Future: Send + 'static,
    C::Response: Send + 'static,
{
    type Response = C::Response;
    type Error = C::Error;
    type Future = Connecting<C::Response, C::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, limit) = (C::clone(&self.inner).oneshot(uri), self.limit);
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
    /// What goes out with every request.
    pub credential: Credential,
    reach: Reach,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The key is none of this provider's.
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

impl Session {
    /// A session with a connection pool of its own.
    pub fn new(
        provider: RemoteProvider,
        connect: Duration,
        reach: Reach,
        key: Option<SecretString>,
    ) -> Result<Self, SessionError> {
        let client = provider_client(connect, reach.clone())?;
        Ok(Self {
            credential: Credential::new(provider, key.as_ref(), &client)?,
            client,
            key,
            reach,
        })
    }

    /// True when both hold the same key.
    #[must_use]
    pub fn same_key(&self, other: Option<&SecretString>) -> bool {
        self.key.as_ref().map(ExposeSecret::expose_secret) == other.map(ExposeSecret::expose_secret)
    }

    /// Why the last connection was not made, when its address is not allowed.
    #[must_use]
    pub fn refused(&self) -> Option<Arc<NotAllowed>> {
        self.reach.refused()
    }
}

/// `Bearer KEY`, marked sensitive; `None` when the key is no header value, which its reader excludes.
#[must_use]
pub fn bearer(key: &SecretString) -> Option<HeaderValue> {
    sensitive(&Zeroizing::new(format!("Bearer {}", key.expose_secret())))
}

/// The value of a header that is never shown; `None` when it is none, which the reader of keys excludes.
#[must_use]
pub fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// Answers whatever comes, on a connection that stays open.
    async fn answer(mut connection: TcpStream) {
        let mut buffer = [0; 1024];
        while connection.read(&mut buffer).await.is_ok_and(|read| read > 0) {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            connection.write_all(answer).await.unwrap();
        }
    }

    /// From which port the client asked.
    async fn ask(client: &HttpClient, listener: &TcpListener, last: &mut Option<u16>) -> u16 {
        let uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let asked = client.get(uri);
        tokio::pin!(asked);
        loop {
            tokio::select! {
                answer = &mut asked => {
                    assert_eq!(answer.unwrap().status(), 200);
                    return last.unwrap();
                }
                connection = listener.accept() => {
                    let (connection, from) = connection.unwrap();
                    *last = Some(from.port());
                    tokio::spawn(answer(connection));
                }
            }
        }
    }

    async fn uses_one_connection(client: &HttpClient) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut last = None;
        let first = ask(client, &listener, &mut last).await;
        // The pool gets the connection back a moment after the answer.
        tokio::task::yield_now().await;
        ask(client, &listener, &mut last).await == first
    }

    #[tokio::test]
    async fn only_providers_are_asked_twice_over_one_connection() {
        let limit = Duration::from_secs(60);
        assert!(uses_one_connection(&provider_client(limit, Reach::default()).unwrap()).await);
        assert!(!uses_one_connection(&client(limit).unwrap()).await);
    }
}
