//! The process's own monotonic clock, which policy runs on, and its translation for people.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// Time since the process started. Wall-clock times are derived from one reading, so that they never run backwards.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_at: Timestamp,
}

impl Clock {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            started_at: Timestamp::now(),
        }
    }

    /// Time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The wall-clock time of an instant, whole seconds: what status shows.
    #[must_use]
    pub fn timestamp(&self, at: Duration) -> Timestamp {
        let exact = self.started_at.checked_add(at).unwrap_or(Timestamp::MAX);
        Timestamp::from_second(exact.as_second()).unwrap_or(exact)
    }

    /// The instant of a wall-clock time; the process's start when it was before that.
    #[must_use]
    pub fn instant(&self, at: Timestamp) -> Duration {
        Duration::try_from(at.duration_since(self.started_at)).unwrap_or_default()
    }

    /// The wall-clock time of an instant in milliseconds since 1970 UTC.
    #[must_use]
    pub fn unix_ms(&self, at: Duration) -> i64 {
        self.started_at
            .checked_add(at)
            .unwrap_or(Timestamp::MAX)
            .as_millisecond()
    }
}

/// A random number in `[0, 1)` for jitter.
#[must_use]
pub fn jitter() -> f64 {
    rand::random()
}
