//! The answer on its way to the client: a stream's events as they come, and a typed error event when it breaks.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::{Stream, stream};
use http::HeaderValue;
use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tracing::info;

use super::{
    admission::Slot,
    attempt::{Live, Piece},
    outcome::Miss,
    settle::Ticket,
};
use crate::{
    error::{Failure, InferenceError},
    runtime::{
        backends::Registry,
        front::answer,
        metrics::{Metrics, NO_BACKEND},
    },
};

/// The request as a whole, for its metric and its line in the log. Dropped without an end it was cancelled by the client.
#[derive(Debug)]
pub struct Journey {
    metrics: Arc<Metrics>,
    id: HeaderValue,
    started: Instant,
    backend: Option<Arc<str>>,
    outcome: &'static str,
    slot: Option<Slot>,
}

impl Journey {
    /// A request arrived.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, id: HeaderValue) -> Self {
        Self {
            metrics,
            id,
            started: Instant::now(),
            backend: None,
            outcome: "cancelled",
            slot: None,
        }
    }

    /// Its turn came.
    pub fn admitted(&mut self, slot: Slot) {
        self.slot = Some(slot);
    }

    /// It gives its turn back: it waits for something else.
    pub fn waits(&mut self) {
        self.slot = None;
    }

    /// A backend answers.
    pub fn answered_by(&mut self, backend: &Arc<str>) {
        self.backend = Some(Arc::clone(backend));
        self.metrics.first_token(backend, self.started.elapsed());
    }

    /// It ended.
    pub const fn end(&mut self, outcome: &'static str) {
        self.outcome = outcome;
    }

    /// No backend answered.
    pub fn lost(&mut self, backend: &Arc<str>, outcome: &'static str) {
        self.backend = Some(Arc::clone(backend));
        self.outcome = outcome;
    }
}

impl Drop for Journey {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        self.slot = None;
        let backend = self.backend.as_ref();
        self.metrics.request(backend, self.outcome, took);
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        info!(
            request_id = self.id.to_str().unwrap_or_default(),
            backend = backend.map_or(NO_BACKEND, |name| name),
            outcome = self.outcome,
            ms,
            "request"
        );
    }
}

/// The process ends before the answer does.
#[must_use]
pub fn shut_down() -> InferenceError {
    InferenceError::Backpressure {
        message: "this replica shuts down and its time to drain is over".into(),
    }
}

/// A stream on its way.
#[derive(Debug)]
pub struct Relay {
    /// The stream.
    pub live: Box<Live>,
    /// The attempt's guard.
    pub ticket: Ticket,
    /// The request.
    pub journey: Journey,
    /// Who may have broken.
    pub backend: Arc<str>,
    /// Where failures are noted.
    pub registry: Arc<Registry>,
    /// Completes when the process must end now; waited for by the whole stream at once, not event by event.
    pub cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The request's id.
    pub id: String,
}

impl Relay {
    /// The bytes for the client. Dropping the stream drops the connection to the backend at once.
    pub fn into_stream(self) -> impl Stream<Item = Bytes> + Send {
        stream::unfold(Some(Box::new(self)), |relay| async {
            let (bytes, relay) = relay?.step().await?;
            Some((bytes, relay))
        })
    }

    async fn step(mut self: Box<Self>) -> Option<(Bytes, Option<Box<Self>>)> {
        let piece = tokio::select! {
            biased;
            () = self.cut.as_mut() => None,
            piece = self.live.next() => Some(piece),
        };
        self.ticket.report(self.live.usage());
        match piece {
            None => Some((self.cut_off(), None)),
            Some(Ok(Piece::Events(bytes))) => Some((bytes, Some(self))),
            Some(Ok(Piece::End)) => {
                let outcome = self.ticket.succeed(self.live.finish());
                self.journey.end(outcome);
                None
            }
            Some(Err(miss)) => Some((self.broken(&miss), None)),
        }
    }

    /// The stream broke after its first content: a typed event ends it, without `[DONE]`.
    fn broken(mut self, miss: &Miss) -> Bytes {
        self.registry.errors.note(&self.backend, &miss.classified.error);
        self.journey.end(miss.classified.error.kind().as_str());
        self.ticket.fail(miss);
        answer::event(&miss.failure(&self.backend), &self.id)
    }

    /// The process ends before the stream does. Dropping the guard books what was reserved as uncertain and judges nobody.
    fn cut_off(mut self) -> Bytes {
        let error = shut_down();
        self.journey.end(error.kind().as_str());
        answer::event(&Failure::from(error), &self.id)
    }
}
