//! What the request path lets the supervisor know: whether requests are in flight, whether tokens flow, whether it doubts the engine; and
//! of the configuration how long a model may load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, watch};

/// Shared between the request path, which writes, and the supervisor, which reads.
#[derive(Debug, Default)]
pub struct Activity {
    /// Requests in flight whose answers are streamed.
    streams: Arc<AtomicU64>,
    /// Requests in flight whose answers come whole, and give no sign of life until then.
    silent: Arc<AtomicU64>,
    beats: AtomicU64,
    doubts: Notify,
    load: watch::Sender<Option<Duration>>,
    /// Milliseconds that an answer may take by the configuration.
    answer: AtomicU64,
}

impl Activity {
    /// A request goes to the engine; it is in flight until the guard is dropped. `silent`: its answer comes whole. That it begins or ends
    /// is no sign of life: clients come and go at an engine that hangs, too.
    #[must_use]
    pub fn begin(&self, silent: bool) -> InFlight {
        let count = if silent { &self.silent } else { &self.streams };
        count.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(count))
    }

    /// The engine gave a sign of life: content of an answer.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// The engine behaved as if it were broken (a stalled stream, a bare 500): ask it for a canary now.
    pub fn doubt(&self) {
        self.doubts.notify_one();
    }

    /// The configuration lets the model load for so long from the engine's start, also the one that loads now.
    pub fn may_load(&self, limit: Duration) {
        self.load.send_replace(Some(limit));
    }

    /// How long the model may load, once the configuration has said.
    #[must_use]
    pub fn load(&self) -> watch::Receiver<Option<Duration>> {
        self.load.subscribe()
    }

    /// The configuration lets an answer take so long.
    pub fn may_answer(&self, limit: Duration) {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.answer.store(limit, Ordering::Relaxed);
    }

    /// How long an answer may take; zero until the configuration has said.
    #[must_use]
    pub fn answer(&self) -> Duration {
        Duration::from_millis(self.answer.load(Ordering::Relaxed))
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.streams.load(Ordering::Relaxed) + self.silent()
    }

    /// Requests in flight whose answers come whole.
    #[must_use]
    pub fn silent(&self) -> u64 {
        self.silent.load(Ordering::Relaxed)
    }

    /// Signs of life so far: unchanged means that none came.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Until somebody doubts the engine.
    pub async fn doubted(&self) {
        self.doubts.notified().await;
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct InFlight(Arc<AtomicU64>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
