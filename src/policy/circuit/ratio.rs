//! A share of failures in which old calls count ever less.

use std::time::Duration;

/// Calls and failures, each weighted by `exp(-age / window)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct FailureRatio {
    calls: f64,
    failures: f64,
    at: Duration,
}

impl FailureRatio {
    pub(super) const EMPTY: Self = Self {
        calls: 0.0,
        failures: 0.0,
        at: Duration::ZERO,
    };

    pub(super) fn add(&mut self, failed: bool, now: Duration, window: Duration) {
        let age = now.saturating_sub(self.at).as_secs_f64();
        let kept = if window.is_zero() {
            0.0
        } else {
            (-age / window.as_secs_f64()).exp()
        };
        self.calls = self.calls.mul_add(kept, 1.0);
        self.failures = self.failures.mul_add(kept, if failed { 1.0 } else { 0.0 });
        self.at = now;
    }

    /// True when a call was counted within `window`.
    pub(super) fn judged_within(&self, now: Duration, window: Duration) -> bool {
        self.calls > 0.0 && now.saturating_sub(self.at) <= window
    }

    /// True when at least `minimum` weighted calls were seen and the share of failures is `ratio` or more.
    pub(super) fn reaches(&self, ratio: f64, minimum: u32) -> bool {
        // A call loses weight from the moment it is counted: half a call of slack keeps "20 calls" meaning 20 recent calls.
        self.calls + 0.5 >= f64::from(minimum) && self.failures >= ratio * self.calls
    }
}
