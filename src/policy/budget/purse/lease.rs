//! A lease in the hand of its process.

use crate::api::{LeaseGrant, LeaseReport, NanoUsd};

/// A lease. `reserved` goes up and down, everything else only up. Amounts in nano-USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Its id.
    pub id: u64,
    pub(super) window: u64,
    pub(super) granted: u64,
    pub(super) surrendered: u64,
    /// Reported by providers.
    pub settled: u64,
    /// Reserved by requests that ended without a report.
    pub uncertain: u64,
    /// Reserved by requests in flight.
    pub reserved: u64,
    recall_to: Option<u64>,
}

impl Held {
    pub(super) fn new(lease: &LeaseGrant) -> Self {
        let mut held = Self {
            id: lease.id,
            window: lease.window,
            ..Self::default()
        };
        held.told(lease);
        held
    }

    pub(super) fn told(&mut self, lease: &LeaseGrant) {
        self.granted = self.granted.max(lease.granted.0);
        self.recall_to = lease.recall_to.map(|to| to.0);
    }

    const fn outstanding(&self) -> u64 {
        let left = self.granted.saturating_sub(self.surrendered);
        left.saturating_sub(self.settled).saturating_sub(self.uncertain)
    }

    /// The controller waits to hear what became of it.
    pub(super) const fn is_recalled(&self) -> bool {
        self.recall_to.is_some()
    }

    /// Number of its window.
    #[must_use]
    pub const fn window(&self) -> u64 {
        self.window
    }

    /// What may be reserved.
    #[must_use]
    pub const fn free(&self) -> u64 {
        self.outstanding().saturating_sub(self.reserved)
    }

    /// Gives back what was recalled, or everything when the lease is not of the window `current`: as much of it as is not in flight.
    /// True when that was something.
    pub(super) fn give_back(&mut self, current: u64) -> bool {
        let to = if self.window == current {
            self.recall_to
        } else {
            Some(0)
        };
        let Some(to) = to else { return false };
        let back = self.outstanding().saturating_sub(to).min(self.free());
        self.surrendered += back;
        back > 0
    }

    pub(super) const fn surrender_all(&mut self) -> bool {
        let free = self.free();
        self.surrendered += free;
        free > 0
    }

    /// What is in flight is uncertain, the rest is given back.
    pub(super) const fn abandon(&mut self) {
        self.uncertain = self.uncertain.saturating_add(self.reserved);
        self.reserved = 0;
        self.surrender_all();
    }

    pub(super) const fn report(&self) -> LeaseReport {
        LeaseReport {
            id: self.id,
            granted: NanoUsd(self.granted),
            surrendered: NanoUsd(self.surrendered),
            settled: NanoUsd(self.settled),
            uncertain: NanoUsd(self.uncertain),
            reserved: NanoUsd(self.reserved),
        }
    }
}
