//! Word that something changed, for whoever publishes status.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Word that something changed.
#[derive(Debug, Default)]
pub struct Signals {
    urgent: AtomicU64,
    changed: Notify,
}

impl Signals {
    /// Something that may wait for the next routine write.
    pub fn routine(&self) {
        self.changed.notify_one();
    }

    /// A circuit opened or closed, or a key was refused or changed: written at once.
    pub fn urgent(&self) {
        self.urgent.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Urgent transitions so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.urgent.load(Ordering::Relaxed)
    }

    /// Until the next word.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}
