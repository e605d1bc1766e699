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
    flights: Arc<Flights>,
    beats: AtomicU64,
    doubts: Notify,
    load: watch::Sender<Option<Duration>>,
    /// Milliseconds that an answer may take by the configuration.
    answer: AtomicU64,
}

impl Activity {
    /// A request goes to the engine; it is in flight until the guard is dropped. That it begins or ends is no sign of life: clients come
    /// and go at an engine that hangs, too.
    #[must_use]
    pub fn begin(&self) -> InFlight {
        self.flights.silent.fetch_add(1, Ordering::Relaxed);
        InFlight {
            flights: Arc::clone(&self.flights),
            speaks: false,
        }
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
        self.flights.speaking.load(Ordering::Relaxed) + self.silent()
    }

    /// Requests in flight of whose answers nothing has come: answers in one piece, and streams whose prompt is still worked on.
    #[must_use]
    pub fn silent(&self) -> u64 {
        self.flights.silent.load(Ordering::Relaxed)
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

/// Requests in flight, by whether something of their answers has come.
#[derive(Debug, Default)]
struct Flights {
    silent: AtomicU64,
    speaking: AtomicU64,
}

/// A request in flight.
#[derive(Debug)]
pub struct InFlight {
    flights: Arc<Flights>,
    speaks: bool,
}

impl InFlight {
    /// The first content of its answer has come.
    pub fn speaks(&mut self) {
        if !std::mem::replace(&mut self.speaks, true) {
            self.flights.silent.fetch_sub(1, Ordering::Relaxed);
            self.flights.speaking.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let count = if self.speaks {
            &self.flights.speaking
        } else {
            &self.flights.silent
        };
        count.fetch_sub(1, Ordering::Relaxed);
    }
}
