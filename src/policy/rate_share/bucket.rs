//! The token bucket of one share. Exact: levels are whole numbers, so shares that sum up to a limit send no more than it.

use std::time::Duration;

use super::{MILLI, Rate};

/// Nanoseconds of a minute. A level counts thousandths times this, so that a rate times nanoseconds is a level.
const MINUTE: i128 = 60_000_000_000;
/// A whole request, or a whole token.
const ONE: i128 = MILLI as i128 * MINUTE;
/// Nanoseconds of the share that may be saved up. Design section 8 allows 1 s; with half of it the first minute after a rest stays
/// within 1 % of a limit of some hundred requests.
const BURST: i128 = 500_000_000;

/// A bucket. It begins empty and has no share. What is asked of it may be more than it ever holds: then it is given when the bucket is
/// full, and the rest is a debt that is worked off first.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Rate,
    level: i128,
    at: Duration,
    spilled: i128,
}

impl Bucket {
    /// An empty bucket without a share.
    #[must_use]
    pub const fn new(now: Duration) -> Self {
        Self {
            rate: 0,
            level: 0,
            at: now,
            spilled: 0,
        }
    }

    /// The share.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes a new share at once. What was saved up beyond the new burst is lost; a debt stays.
    pub fn set_rate(&mut self, rate: Rate, now: Duration) {
        self.refill(now);
        self.rate = rate;
        self.level = self.level.min(self.capacity());
    }

    /// How long until `units` may be taken when `ahead` others are taken before; nothing when at once, `None` when never at this share.
    #[must_use]
    pub fn wait(&mut self, units: u64, ahead: u64, now: Duration) -> Option<Duration> {
        self.refill(now);
        if self.rate == 0 {
            return None;
        }
        let needed = level_of(ahead).saturating_add(level_of(units).min(self.capacity()));
        let missing = needed.saturating_sub(self.level).max(0).unsigned_abs();
        let nanos = missing.div_ceil(u128::from(self.rate));
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// Takes `units`, whatever the level.
    pub const fn take(&mut self, units: u64) {
        self.level = self.level.saturating_sub(level_of(units));
    }

    /// Gives `units` back.
    pub fn give_back(&mut self, units: u64, now: Duration) {
        self.refill(now);
        self.level = self.level.saturating_add(level_of(units)).min(self.capacity());
    }

    /// Whole units that are owed, rounded up.
    #[must_use]
    pub fn debt(&mut self, now: Duration) -> u64 {
        self.refill(now);
        let owed = self.level.min(0).unsigned_abs().div_ceil(ONE.unsigned_abs());
        u64::try_from(owed).unwrap_or(u64::MAX)
    }

    /// Thousandths that came in and found no place, since the last call: room that nobody used.
    #[must_use]
    pub fn take_spilled(&mut self, now: Duration) -> u64 {
        self.refill(now);
        let whole = self.spilled / MINUTE;
        self.spilled -= whole * MINUTE;
        u64::try_from(whole).unwrap_or(u64::MAX)
    }

    fn refill(&mut self, now: Duration) {
        let elapsed = i128::try_from(now.saturating_sub(self.at).as_nanos()).unwrap_or(i128::MAX);
        self.at = self.at.max(now);
        let unbounded = self.level.saturating_add(i128::from(self.rate).saturating_mul(elapsed));
        self.level = unbounded.min(self.capacity());
        self.spilled = self.spilled.saturating_add(unbounded.saturating_sub(self.level));
    }

    /// One unit at least, or nothing could ever be sent; nothing without a share.
    const fn capacity(&self) -> i128 {
        let burst = self.rate as i128 * BURST;
        match self.rate {
            0 => 0,
            _ if burst > ONE => burst,
            _ => ONE,
        }
    }
}

const fn level_of(units: u64) -> i128 {
    units as i128 * ONE
}
