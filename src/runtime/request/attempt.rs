//! One attempt at one backend: send, hold the head until the first content, judge every event.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, Response, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    outcome::{Miss, Progress},
    target::{OwnEngine, Target, Timers},
};
use crate::{
    error::{Failure, InferenceError},
    policy::pricing::Usage,
    runtime::{
        metrics::Metrics,
        remote::{
            classify::{Classified, Source, classify, classify_event, scrub::shown},
            connect::refused_address,
            events::{Chunk, Finish, Meaning, meaning},
            sse::{Event, Parser},
        },
    },
};

/// Bytes a whole answer may have.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// Bytes of an error's body that are read.
const MAX_ERROR: usize = 64 * 1024;
/// Events that are held back while no content comes; a stream of more is passed on as it is.
const MAX_HELD: usize = 256;
/// How long a broken connection to the own engine waits for the worker to say why.
const POST_MORTEM: Duration = Duration::from_millis(500);

/// Who asks, for the words of errors.
#[derive(Clone, Debug)]
pub struct Asker {
    /// `NAMESPACE/NAME` of the deployment.
    pub deployment: Arc<str>,
    /// For counts of left-out events.
    pub metrics: Arc<Metrics>,
}

/// A backend's answer.
#[derive(Debug)]
pub enum Answer {
    /// All of it.
    Whole(Whole),
    /// A stream whose first content has come.
    Stream(Box<Live>),
}

/// A whole answer.
#[derive(Debug)]
pub struct Whole {
    /// The body as it came.
    pub body: Bytes,
    /// What it means.
    pub chunk: Chunk,
}

/// Everything an attempt is judged by.
#[derive(Debug)]
struct Bench {
    target: Target,
    asker: Asker,
    started: Instant,
}

impl Bench {
    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn source(&self) -> Source<'_> {
        Source {
            provider: &self.target.provider,
            deployment: &self.asker.deployment,
            now_unix_ms: jiff::Timestamp::now().as_millisecond(),
            elapsed_ms: self.elapsed_ms(),
        }
    }

    fn timed_out(&self) -> Miss {
        self.doubt();
        Miss::sent(InferenceError::Timeout {
            elapsed_ms: self.elapsed_ms(),
        })
    }

    /// A connection that broke after the request left. The own engine's worker knows more than the connection.
    async fn broken(&self, error: &(dyn std::error::Error + Sync)) -> Miss {
        if let Some(engine) = &self.target.engine
            && timeout(POST_MORTEM, engine.target.gone.cancelled()).await.is_ok()
        {
            return Miss::sent(engine.why_gone());
        }
        Miss::sent(InferenceError::NetworkError { message: chain(error) })
    }

    /// The own engine behaved as if it were broken: its supervisor asks it.
    fn doubt(&self) {
        if let Some(engine) = &self.target.engine {
            engine.activity.doubt();
        }
    }

    fn gone(&self) -> Option<&OwnEngine> {
        self.target
            .engine
            .as_ref()
            .filter(|engine| engine.target.gone.is_cancelled())
    }

    fn total(&self) -> Instant {
        self.started + self.target.timers.total
    }

    /// Completes when the context is gone; never for others.
    async fn until_gone(&self) -> Miss {
        match &self.target.engine {
            Some(engine) => {
                engine.target.gone.cancelled().await;
                Miss::sent(engine.why_gone())
            }
            None => std::future::pending().await,
        }
    }
}

/// The causes of an error, outermost first, for people.
fn chain(error: &(dyn std::error::Error + Sync)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    shown(&text)
}

/// Sends and waits until there is something for the client: the whole answer, or a stream's first content.
pub async fn send(target: Target, body: Bytes, stream: bool, asker: Asker) -> Result<Answer, Miss> {
    let bench = Bench {
        target,
        asker,
        started: Instant::now(),
    };
    let head_deadline = if stream {
        bench.started + bench.target.timers.first_token
    } else {
        bench.total()
    };
    let response = tokio::select! {
        biased;
        miss = bench.until_gone() => return Err(miss),
        response = timeout_at(head_deadline, head(&bench, body)) => response.unwrap_or_else(|_| Err(bench.timed_out()))?,
    };
    let (parts, incoming) = response.into_parts();
    if !parts.status.is_success() {
        return Err(refused(&bench, parts.status.as_u16(), &parts.headers, incoming).await);
    }
    let request_id = upstream_id(&parts.headers);
    let answer = if stream && is_event_stream(&parts.headers) {
        live(bench, incoming).await
    } else {
        whole(&bench, incoming).await
    };
    answer.map_err(|miss| Miss {
        upstream_status: Some(parts.status.as_u16()),
        upstream_request_id: request_id,
        ..miss
    })
}

async fn head(bench: &Bench, body: Bytes) -> Result<Response<Incoming>, Miss> {
    let (client, request) = bench.target.request(body);
    match client.request(request).await {
        Ok(response) => Ok(response),
        Err(error) if error.is_connect() => Err(refused_address(&error).map_or_else(
            || Miss::unsent(InferenceError::NetworkError { message: chain(&error) }),
            |refused| Miss::at(Progress::Unsent, refused.classified()),
        )),
        Err(error) => Err(bench.broken(&error).await),
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    value.is_some_and(|v| v.starts_with("text/event-stream"))
}

fn upstream_id(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("x-request-id").or_else(|| headers.get("request-id"))?;
    value.to_str().ok().map(|text| text.chars().take(128).collect())
}

/// An answer with a failing status. Its body is read as far as it goes: half an error is classified by its status.
async fn refused(bench: &Bench, status: u16, headers: &HeaderMap, incoming: Incoming) -> Miss {
    let reading = timeout_at(bench.total(), Limited::new(incoming, MAX_ERROR).collect());
    let body = match reading.await {
        Ok(Ok(body)) => Some(body.to_bytes()),
        _ => None,
    };
    if status >= 500 {
        bench.doubt();
    }
    let progress = if body.is_some() {
        Progress::Answered
    } else {
        Progress::Sent
    };
    let body = body.unwrap_or_default();
    let classified = if bench.target.is_peer {
        from_peer(&body, status)
    } else {
        classify(bench.source(), status, headers, &body)
    };
    Miss {
        upstream_status: Some(status),
        upstream_request_id: upstream_id(headers),
        ..Miss::at(progress, classified)
    }
}

/// A peer answers with our own wire form.
fn from_peer(body: &[u8], status: u16) -> Classified {
    #[derive(serde::Deserialize)]
    struct Envelope {
        error: Inner,
    }
    #[derive(serde::Deserialize)]
    struct Inner {
        inference_error: Failure,
    }
    // Its refusals of our hop itself (token, model, route) are no fault of our caller: the next backend may answer.
    let refused_us = matches!(status, 401 | 403 | 404 | 405);
    match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) if !refused_us => envelope.error.inference_error.error.into(),
        _ => InferenceError::Backpressure {
            message: format!("a peer answered {status}"),
        }
        .into(),
    }
}

async fn whole(bench: &Bench, incoming: Incoming) -> Result<Answer, Miss> {
    let body = tokio::select! {
        biased;
        miss = bench.until_gone() => return Err(miss),
        body = timeout_at(bench.total(), Limited::new(incoming, MAX_ANSWER).collect()) => body,
    };
    let body = match body {
        Err(_) => return Err(bench.timed_out()),
        Ok(Err(error)) => return Err(bench.broken(error.as_ref()).await),
        Ok(Ok(body)) => body.to_bytes(),
    };
    if let Some(engine) = bench.gone() {
        return Err(Miss::sent(engine.why_gone()));
    }
    match meaning(&body) {
        Meaning::Error => Err(Miss::at(Progress::Answered, classify_event(bench.source(), &body))),
        Meaning::Chunk(chunk) if chunk.answers => Ok(Answer::Whole(Whole { body, chunk })),
        Meaning::Chunk(_) => Err(nonsense("the answer has neither choices nor data")),
        Meaning::Malformed | Meaning::Done => Err(nonsense("the answer is no JSON object")),
    }
}

fn nonsense(message: &str) -> Miss {
    Miss::sent(InferenceError::ServerError {
        status: 200,
        body: Some(message.to_owned()),
    })
}

async fn live(bench: Bench, incoming: Incoming) -> Result<Answer, Miss> {
    let mut live = Box::new(Live {
        quiet_since: bench.started,
        bench,
        incoming,
        parser: Parser::default(),
        held: VecDeque::new(),
        started: false,
        finish: None,
        usage: None,
        over: false,
    });
    live.await_content().await?;
    Ok(Answer::Stream(live))
}

/// A stream whose events are judged as they pass.
#[derive(Debug)]
pub struct Live {
    bench: Bench,
    incoming: Incoming,
    parser: Parser,
    /// Events that came before the first content.
    held: VecDeque<Bytes>,
    started: bool,
    /// Since when no event with data has come.
    quiet_since: Instant,
    finish: Option<Finish>,
    usage: Option<Usage>,
    over: bool,
}

/// The next piece for the client.
#[derive(Debug)]
pub enum Piece {
    /// Bytes of an event, as they came.
    Event(Bytes),
    /// An event that only reports usage.
    UsageEvent(Bytes),
    /// The regular end.
    End,
}

impl Live {
    async fn await_content(&mut self) -> Result<(), Miss> {
        while !self.started {
            match self.pull().await? {
                Piece::Event(raw) | Piece::UsageEvent(raw) => self.held.push_back(raw),
                Piece::End => return Err(nonsense("the stream ended without content")),
            }
            self.started |= self.held.len() >= MAX_HELD;
        }
        Ok(())
    }

    /// The next piece; after an error or the end nothing more may be asked.
    pub async fn next(&mut self) -> Result<Piece, Miss> {
        // Held bytes of a context that is gone must not leave either.
        if let Some(engine) = self.bench.gone() {
            return Err(Miss::sent(engine.why_gone()));
        }
        match self.held.pop_front() {
            Some(raw) => Ok(Piece::Event(raw)),
            None if self.over => Ok(Piece::End),
            None => self.pull().await,
        }
    }

    /// Tokens that were reported so far.
    #[must_use]
    pub const fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Why the model stopped, once it has.
    #[must_use]
    pub const fn finish(&self) -> Option<Finish> {
        self.finish
    }

    async fn pull(&mut self) -> Result<Piece, Miss> {
        loop {
            match self.parser.take() {
                Err(error) => return Err(nonsense(&error.to_string())),
                Ok(Some(event)) => {
                    if let Some(piece) = self.judge(event)? {
                        return Ok(piece);
                    }
                }
                Ok(None) => {
                    if let Some(bytes) = self.read().await? {
                        self.parser.feed(&bytes);
                    } else {
                        return self.end_of_bytes();
                    }
                }
            }
        }
    }

    /// Judges an event; `None` when it is left out.
    fn judge(&mut self, event: Event) -> Result<Option<Piece>, Miss> {
        let Event { raw, data } = event;
        let Some(data) = data else {
            return Ok(Some(Piece::Event(raw)));
        };
        self.quiet_since = Instant::now();
        match meaning(&data) {
            Meaning::Done => {
                self.over = true;
                // Lets the connection go back to its pool when the end of the body has come already.
                let _ = self.incoming.frame().now_or_never();
                Ok(Some(if self.started { Piece::Event(raw) } else { Piece::End }))
            }
            Meaning::Malformed => {
                self.bench.asker.metrics.malformed_event();
                Ok(None)
            }
            Meaning::Error => {
                let progress = if self.started {
                    Progress::Sent
                } else {
                    Progress::Answered
                };
                Err(Miss::at(progress, classify_event(self.bench.source(), &data)))
            }
            Meaning::Chunk(chunk) => {
                self.started |= chunk.content;
                self.finish = chunk.finish.or(self.finish);
                self.usage = chunk.usage.or(self.usage);
                Ok(Some(if chunk.usage_only {
                    Piece::UsageEvent(raw)
                } else {
                    Piece::Event(raw)
                }))
            }
        }
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Miss> {
        loop {
            let deadline = self.deadline();
            let frame = tokio::select! {
                biased;
                miss = self.bench.until_gone() => return Err(miss),
                frame = timeout_at(deadline, self.incoming.frame()) => frame,
            };
            match frame {
                Err(_) => return Err(self.bench.timed_out()),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(self.bench.broken(&error).await),
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        if let Some(engine) = &self.bench.target.engine {
                            engine.activity.beat();
                        }
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// Comments do not move it: a backend that only keeps the connection alive is silent.
    fn deadline(&self) -> Instant {
        let Timers {
            first_token,
            idle,
            total: _,
        } = self.bench.target.timers;
        let quiet = if self.started {
            self.quiet_since + idle
        } else {
            self.bench.started + first_token
        };
        quiet.min(self.bench.total())
    }

    /// The body ended without `[DONE]`: an end that the model announced is one, any other is a cut.
    fn end_of_bytes(&mut self) -> Result<Piece, Miss> {
        if let Some(event) = self.parser.rest()
            && let Some(piece) = self.judge(event)?
        {
            return Ok(piece);
        }
        self.over = true;
        if self.finish.is_some() {
            return Ok(Piece::End);
        }
        Err(Miss::sent(InferenceError::NetworkError {
            message: "the stream was cut before the answer's end".into(),
        }))
    }
}
