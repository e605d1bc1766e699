//! One attempt at one backend: send, hold the head until the first content, judge every event.

mod bench;
mod failing;
mod live;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::ResponseFuture;
use memchr::memmem;
use tokio::time::{Instant, timeout_at};

use bench::{Bench, chain};
pub use live::{Live, Piece};

use super::{
    outcome::{Miss, Progress, Upstream},
    target::Target,
};
use crate::{
    error::{CircuitRule, Failure, InferenceError, RetryRule},
    policy::pricing::Usage,
    runtime::{
        metrics::Metrics,
        remote::{
            classify::{Classified, classify, classify_event},
            connect::refused_address,
            events::{Chunk, Finish},
            wire::{Blocked, Read, Reader},
        },
    },
};

/// Bytes a whole answer may have.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// What providers call a request's id: OpenAI and most, Anthropic, Azure.
const UPSTREAM_IDS: [&str; 4] = ["x-request-id", "request-id", "apim-request-id", "x-ms-request-id"];

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
    /// JSON, or the events of a stream for a client that wants one and whose backend answers without.
    pub body: Bytes,
    /// What it means.
    pub chunk: Chunk,
    /// The body is events.
    pub events: bool,
}

/// What is sent, and how its answer is read.
#[derive(Debug)]
pub struct Question {
    /// The body in the backend's format.
    pub body: Bytes,
    /// The client wants a stream.
    pub stream: bool,
    /// Reads the answer.
    pub reader: Reader,
}

/// Sends and waits until there is something for the client: the whole answer, or a stream's first content.
pub async fn send(mut target: Target, question: Question, asker: Asker) -> Result<Answer, Miss> {
    let Question { body, stream, reader } = question;
    let sending = target.send(body);
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
        response = timeout_at(head_deadline, head(&bench, sending)) => response.unwrap_or_else(|_| Err(bench.timed_out()))?,
    };
    let (parts, incoming) = response.into_parts();
    if !parts.status.is_success() {
        return Err(refused(&bench, parts.status.as_u16(), &parts.headers, incoming).await);
    }
    // Only for an answer that failed: scrubbing the id is dear.
    let told = |bench: &Bench, miss| Miss {
        upstream: Some(Box::new(upstream(bench, parts.status.as_u16(), &parts.headers))),
        ..miss
    };
    if stream && is_event_stream(&parts.headers) {
        let mut live = Live::new(bench, incoming, reader);
        return match live.await_content().await {
            Ok(()) => Ok(Answer::Stream(live)),
            Err(miss) => Err(told(&live.bench, miss)),
        };
    }
    let answer = whole(&bench, incoming, &reader, stream).await;
    answer.map_err(|miss| told(&bench, miss))
}

async fn head(bench: &Bench, answer: ResponseFuture) -> Result<Response<Incoming>, Miss> {
    match answer.await {
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

fn upstream(bench: &Bench, status: u16, headers: &HeaderMap) -> Upstream {
    Upstream {
        status,
        request_id: upstream_id(bench, headers),
    }
}

fn upstream_id(bench: &Bench, headers: &HeaderMap) -> Option<String> {
    let value = UPSTREAM_IDS.iter().find_map(|name| headers.get(*name))?;
    let text = value.to_str().ok()?;
    // Some servers answer with whatever they were sent.
    Some(bench.shown(text).chars().take(128).collect())
}

/// An answer with a failing status. Half an error is classified by its status.
async fn refused(bench: &Bench, status: u16, headers: &HeaderMap, incoming: Incoming) -> Miss {
    let patience = Instant::now() + bench.target.timers.idle.min(failing::LONGEST);
    // On the heap: every request's future would keep room for it.
    let body = Box::pin(failing::body(incoming, patience.min(bench.total()))).await;
    if is_doubtful(status) {
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
        upstream: Some(Box::new(upstream(bench, status, headers))),
        of_stream_options: names_stream_options(status, &body),
        ..Miss::at(progress, classified)
    }
}

/// The refusal names the field, or what stands in it. A server may quote what the client wrote, too: whether it is the reason only another
/// attempt can tell.
fn names_stream_options(status: u16, body: &[u8]) -> bool {
    let names = |field: &str| memmem::find(body, field.as_bytes()).is_some();
    matches!(status, 400 | 422) && (names("stream_options") || names("include_usage"))
}

/// The engine may be broken. An engine that says that it was never made for this request is not.
const fn is_doubtful(status: u16) -> bool {
    status >= 500 && status != 501
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

async fn whole(bench: &Bench, incoming: Incoming, reader: &Reader, stream: bool) -> Result<Answer, Miss> {
    let body = tokio::select! {
        biased;
        miss = bench.until_gone() => return Err(miss),
        body = timeout_at(bench.total(), Limited::new(incoming, MAX_ANSWER).collect()) => body,
    };
    let body = match body {
        Err(_) => return Err(bench.timed_out()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err(paid(nonsense("the answer is longer than 64 MiB")));
        }
        Ok(Err(error)) => return Err(paid(bench.broken(error.as_ref()).await)),
        Ok(Ok(body)) => body.to_bytes(),
    };
    if let Some(engine) = bench.gone() {
        return Err(Miss::sent(engine.why_gone().await));
    }
    judged(bench, body, reader, stream)
}

/// An answer that broke after its head was generated and is billed: asking the same backend again would pay twice.
fn paid(mut miss: Miss) -> Miss {
    if miss.classified.retry == RetryRule::SameBackend {
        miss.classified.retry = RetryRule::Never;
    }
    miss
}

fn judged(bench: &Bench, body: Bytes, reader: &Reader, stream: bool) -> Result<Answer, Miss> {
    match reader.read(body.clone()) {
        Read::Error => Err(Miss::at(Progress::Answered, classify_event(bench.source(), &body))),
        Read::Malformed => Err(nonsense("the answer is no JSON object of this provider's format")),
        Read::Blocked(prompt) => Err(blocked(bench, prompt)),
        Read::Answer { chunk, .. } if !chunk.answers => Err(empty(&chunk)),
        Read::Answer { chunk, .. } if chunk.finish == Some(Finish::Failed) => Err(failed(chunk.usage)),
        Read::Answer { body, chunk } => {
            bench.beat();
            if chunk.unfiltered {
                bench.asker.metrics.unfiltered_answer();
            }
            let body = if stream {
                reader.events(&body).ok_or_else(|| {
                    useless(
                        "the answer to a request for a stream is neither a stream nor choices",
                        chunk.usage,
                    )
                })?
            } else {
                body
            };
            Ok(Answer::Whole(Whole {
                body,
                chunk,
                events: stream,
            }))
        }
    }
}

fn nonsense(message: &str) -> Miss {
    Miss::sent(InferenceError::ServerError {
        status: 200,
        body: Some(message.to_owned()),
    })
}

/// What it reports is billed. Output of which nothing came is paid for all the same: another backend may do better, this one would be paid
/// twice.
fn useless(message: &str, usage: Option<Usage>) -> Miss {
    let mut miss = nonsense(message);
    if usage.is_some_and(|usage| usage.output_tokens > 0) {
        miss.classified.retry = RetryRule::NextBackend;
    }
    miss.usage = usage.map(Box::new);
    miss
}

/// An answer without content speaks of this request and not of the endpoint.
fn empty(chunk: &Chunk) -> Miss {
    let mut miss = useless("the answer has neither choices nor data", chunk.usage);
    miss.classified.circuit = CircuitRule::Ignored;
    miss
}

/// The provider broke the answer off, and says so where it says why an answer ends. Some of it was generated, reported or not.
fn failed(usage: Option<Usage>) -> Miss {
    let mut miss = useless(
        "the provider broke the answer off: its finish_reason or error says so",
        usage,
    );
    miss.classified.retry = RetryRule::NextBackend;
    miss
}

/// The provider read the prompt and did not answer it.
fn blocked(bench: &Bench, prompt: Blocked) -> Miss {
    let reason = bench.shown(&prompt.reason);
    let mut miss = Miss::at(Progress::Answered, InferenceError::ContentFiltered { reason }.into());
    miss.usage = prompt.usage.map(Box::new);
    miss
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_the_engine_was_not_made_for_casts_no_doubt_on_it() {
        let doubtful: Vec<u16> = [400, 429, 500, 501, 502, 503]
            .into_iter()
            .filter(|&status| is_doubtful(status))
            .collect();
        assert_eq!(doubtful, [500, 502, 503]);
    }
}
