//! A rate that forgets.

use std::time::Duration;

/// What is left of earlier ones counts as nothing when it is less than this part of a new one.
const FORGOTTEN: f64 = 0.1;
/// Nothing is taken to be younger.
const YOUNGEST: Duration = Duration::from_secs(1);

/// A sum that decays with a time constant, and what is known of its scatter.
#[derive(Clone, Copy, Debug)]
pub struct Decayed {
    sum: f64,
    squares: f64,
    since: Duration,
    at: Duration,
    over: f64,
}

impl Decayed {
    /// Nothing yet; `over` is the time constant.
    pub const fn new(over: Duration, now: Duration) -> Self {
        Self {
            sum: 0.0,
            squares: 0.0,
            since: now,
            at: now,
            over: over.as_secs_f64(),
        }
    }

    /// Adds; less than nothing takes back.
    pub fn add(&mut self, units: f64, now: Duration) {
        self.forget(now);
        if self.sum < units * FORGOTTEN {
            self.since = now;
        }
        self.sum = (self.sum + units).max(0.0);
        self.squares += units.max(0.0).powi(2);
    }

    /// Units a minute.
    pub fn per_minute(&mut self, now: Duration) -> f64 {
        self.forget(now);
        self.a_minute(self.sum)
    }

    /// Units a minute that it is at least, if the single ones come by chance: a handful proves little. `doubt` is how far below the
    /// measured rate the true one may lie, in standard deviations. What has just begun is not taken for an average over the whole time.
    pub fn at_least_per_minute(&mut self, doubt: f64, now: Duration) -> f64 {
        self.forget(now);
        let age = now.saturating_sub(self.since).max(YOUNGEST).as_secs_f64();
        let seen = 1.0 - (-age / self.over).exp();
        self.a_minute((self.sum - doubt * self.squares.sqrt()).max(0.0) / seen)
    }

    /// How large a single one is; 1 when there was none.
    pub fn typical(&self) -> f64 {
        if self.sum > 0.0 {
            (self.squares / self.sum).max(1.0)
        } else {
            1.0
        }
    }

    /// Sets the rate, units a minute.
    pub fn set_per_minute(&mut self, rate: f64, now: Duration) {
        self.forget(now);
        let sum = rate / 60.0 * self.over;
        if self.sum > 0.0 {
            self.squares *= sum / self.sum;
        }
        self.sum = sum;
    }

    /// Another time constant, seconds.
    pub const fn set_over(&mut self, over: f64) {
        self.over = over;
    }

    fn forget(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let left = (-passed / self.over).exp();
        self.sum *= left;
        self.squares *= left;
    }

    fn a_minute(&self, sum: f64) -> f64 {
        sum / self.over * 60.0
    }
}
