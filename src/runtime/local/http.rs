//! The supervisor's own small requests to the engine, each on a connection of its own and with a deadline.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use tokio::{net::TcpStream, time::timeout};

const BODY_LIMIT: usize = 1024 * 1024;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens, or the connection broke.
    #[error("{0}")]
    Connect(#[from] std::io::Error),
    /// The answer is no HTTP or was cut.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The request cannot be written.
    #[error("{0}")]
    Request(#[from] http::Error),
    /// The answer is larger than a canary's can be.
    #[error("the answer cannot be read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// The deadline passed.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
}

/// Where the engine is and how it is asked.
#[derive(Clone, Copy)]
pub struct Client<'a> {
    /// Its address.
    pub address: SocketAddr,
    /// Its key, if it wants one.
    pub api_key: Option<&'a SecretString>,
}

impl Client<'_> {
    /// `GET` a path.
    pub async fn get(&self, path: &str, deadline: Duration) -> Result<(StatusCode, Bytes), CallError> {
        self.call(Method::GET, path, Bytes::new(), deadline).await
    }

    /// `POST` a JSON body.
    pub async fn post(&self, path: &str, body: String, deadline: Duration) -> Result<(StatusCode, Bytes), CallError> {
        self.call(Method::POST, path, body.into(), deadline).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        deadline: Duration,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = self.api_key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.expose_secret()));
        }
        let request = request.body(Full::new(body))?;
        timeout(deadline, send(self.address, request))
            .await
            .unwrap_or(Err(CallError::Timeout(deadline)))
    }
}

async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), CallError> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), BODY_LIMIT).collect().await;
        Ok((status, body.map_err(CallError::Body)?.to_bytes()))
    };
    // The connection is driven here and nowhere else, so that it dies with this call.
    tokio::select! {
        answer = exchange => answer,
        Err(error) = connection => Err(error.into()),
    }
}
