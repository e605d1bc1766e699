//! Whether the process takes requests, and when it must stop.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

/// Whether the process takes requests.
#[derive(Debug, Default)]
pub struct Lifecycle {
    configured: AtomicBool,
    draining: AtomicBool,
    /// Cancelled when streams must end now.
    pub cut: CancellationToken,
}

impl Lifecycle {
    /// The front can answer: configured, and in a local pod the engine has answered its first canary.
    pub fn configured(&self) {
        self.configured.store(true, Ordering::Relaxed);
    }

    /// SIGTERM came: not ready from now on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// What `/readyz` says. Circuits, budget and engine rebuilds never change it (design section 10).
    #[must_use]
    pub fn ready(&self) -> bool {
        self.configured.load(Ordering::Relaxed) && !self.draining.load(Ordering::Relaxed)
    }
}
