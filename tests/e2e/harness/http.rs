//! A client as a user's program has it.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, StatusCode, body::Bytes};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;

/// Some requests wait for a pod.
const LIMIT: Duration = Duration::from_secs(180);

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
    /// From sending to the first byte of the body.
    pub first_byte: Duration,
    /// From sending to the end.
    pub total: Duration,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// `error.code` of a typed error.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The data of every event of a stream.
    pub fn events(&self) -> Vec<&str> {
        self.body.lines().filter_map(|l| l.strip_prefix("data: ")).collect()
    }
}

pub async fn post(url: &str, body: &Value) -> Result<Answer, String> {
    let request = Request::post(url).header("content-type", "application/json");
    send(request.body(Full::from(body.to_string())).map_err(|e| e.to_string())?).await
}

/// The same with a key or token of the caller.
pub async fn post_as(url: &str, bearer: &str, body: &Value) -> Result<Answer, String> {
    let request = Request::post(url).header("content-type", "application/json");
    let request = request.header("authorization", format!("Bearer {bearer}"));
    send(request.body(Full::from(body.to_string())).map_err(|e| e.to_string())?).await
}

pub async fn get(url: &str) -> Result<Answer, String> {
    send(Request::get(url).body(Full::default()).map_err(|e| e.to_string())?).await
}

async fn send(request: Request<Full<Bytes>>) -> Result<Answer, String> {
    tokio::time::timeout(LIMIT, exchange(request))
        .await
        .map_err(|_| "no answer within 60 s".to_owned())?
}

async fn exchange(request: Request<Full<Bytes>>) -> Result<Answer, String> {
    let started = Instant::now();
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let (head, mut body) = client
        .request(request)
        .await
        .map_err(|e| format!("{e:?}"))?
        .into_parts();
    let (mut text, mut first_byte) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|e| e.to_string())?.into_data() {
            first_byte.get_or_insert_with(|| started.elapsed());
            text.extend_from_slice(&data);
        }
    }
    let body = String::from_utf8(text).map_err(|e| e.to_string())?;
    let total = started.elapsed();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
        first_byte: first_byte.unwrap_or(total),
        total,
    })
}
