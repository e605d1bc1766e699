//! A provider on loopback that plays a script.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpListener, sync::Notify};

/// What the provider does with one request.
#[derive(Clone, Debug)]
pub enum Act {
    /// A whole answer.
    Answer(u16, &'static [(&'static str, &'static str)], String),
    /// A stream of events, and what follows them.
    Stream(Vec<String>, Ending),
    /// No answer at all.
    Hang,
    /// 200 for this key only, else 401.
    WantsKey(&'static str),
}

/// How a stream ends.
#[derive(Clone, Debug)]
pub enum Ending {
    /// As it should.
    Regular,
    /// The connection breaks.
    Cut,
    /// Nothing more comes.
    Hang,
    /// The rest comes when the test says so.
    Gate(Arc<Notify>, Vec<String>),
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
}

/// The provider.
#[derive(Debug)]
pub struct Upstream {
    pub address: SocketAddr,
    script: Arc<Mutex<VecDeque<Act>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Told when a connection of a client is gone.
    pub closed: Arc<Notify>,
}

impl Upstream {
    /// Plays the acts in order; the last one is repeated.
    pub async fn play(acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            script: Arc::new(Mutex::new(acts.into_iter().collect())),
            seen: Arc::default(),
            closed: Arc::default(),
        };
        let (script, seen, closed) = (
            Arc::clone(&upstream.script),
            Arc::clone(&upstream.seen),
            Arc::clone(&upstream.closed),
        );
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (script, seen, closed) = (Arc::clone(&script), Arc::clone(&seen), Arc::clone(&closed));
                tokio::spawn(async move {
                    let service = service_fn(|request| answer(request, &script, &seen));
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                    closed.notify_one();
                });
            }
        });
        upstream
    }

    /// Requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

type Body = BoxBody<Bytes, std::io::Error>;

async fn answer(
    request: Request<Incoming>,
    script: &Mutex<VecDeque<Act>>,
    seen: &Mutex<Vec<Seen>>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let act = {
        let mut script = script.lock().unwrap();
        if script.len() > 1 {
            script.pop_front()
        } else {
            script.front().cloned()
        }
    };
    let key = parts
        .headers
        .get(header::AUTHORIZATION)
        .map(|v| v.to_str().unwrap().to_owned());
    seen.lock().unwrap().push(Seen {
        path: parts.uri.path().to_owned(),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap(),
    });
    Ok(match act.unwrap_or(Act::Hang) {
        Act::Answer(status, headers, body) => whole(status, headers, body),
        Act::Stream(events, ending) => streamed(events, ending),
        Act::Hang => std::future::pending().await,
        Act::WantsKey(wanted) if key.as_deref() == Some(&format!("Bearer {wanted}")) => {
            whole(200, &[], super::requests::CHAT.into())
        }
        Act::WantsKey(_) => whole(
            401,
            &[],
            r#"{"error":{"message":"Incorrect API key provided: sk-wrong.","code":"invalid_api_key"}}"#.into(),
        ),
    })
}

fn whole(status: u16, headers: &[(&'static str, &'static str)], body: String) -> Response<Body> {
    let full = http_body_util::Full::new(Bytes::from(body)).map_err(|never| match never {});
    let mut response = Response::new(full.boxed());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

fn streamed(events: Vec<String>, ending: Ending) -> Response<Body> {
    let frame = |text: String| Ok(Frame::data(Bytes::from(text)));
    let first = stream::iter(events.into_iter().map(frame));
    let rest = match ending {
        Ending::Regular => stream::empty().boxed(),
        Ending::Cut => stream::once(async {
            // A body that is pending once is flushed before it breaks.
            tokio::task::yield_now().await;
            Err(std::io::Error::other("cut"))
        })
        .boxed(),
        Ending::Hang => stream::pending().boxed(),
        Ending::Gate(gate, rest) => stream::once(async move {
            gate.notified().await;
            stream::iter(rest.into_iter().map(frame))
        })
        .flatten()
        .boxed(),
    };
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(SyncStream(
        first.chain(rest).boxed().into(),
    ))));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, "text/event-stream".parse().unwrap());
    response
}

type FrameResult = Result<Frame<Bytes>, std::io::Error>;

/// `BoxBody` wants `Sync`; a mutex that is only reached through `&mut` gives it.
struct SyncStream(Mutex<futures::stream::BoxStream<'static, FrameResult>>);

impl futures::Stream for SyncStream {
    type Item = FrameResult;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<FrameResult>> {
        self.0.get_mut().unwrap().poll_next_unpin(cx)
    }
}
