//! What the request path lets the supervisor know: whether requests are in flight, whether tokens flow, whether it doubts the engine.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;

/// Shared between the request path, which writes, and the supervisor, which reads.
#[derive(Debug, Default)]
pub struct Activity {
    in_flight: AtomicU64,
    beats: AtomicU64,
    doubts: Notify,
}

impl Activity {
    /// A request goes to the engine; it is in flight until the guard is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.beat();
        InFlight(Arc::clone(self))
    }

    /// The engine gave a sign of life: bytes of an answer.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// The engine behaved as if it were broken (a stalled stream, a bare 500): ask it for a canary now.
    pub fn doubt(&self) {
        self.doubts.notify_one();
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
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
pub struct InFlight(Arc<Activity>);

impl InFlight {
    /// See [`Activity::beat`].
    pub fn beat(&self) {
        self.0.beat();
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.beat();
    }
}
