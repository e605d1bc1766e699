//! When to try again, and how often at most (design section 7).

use std::time::Duration;

use crate::api::Retry;

/// Retries of one request at one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries after the first attempt.
    pub max_retries: u32,
    /// Upper bound of the first wait.
    pub initial_backoff: Duration,
    /// Upper bound of every wait.
    pub max_backoff: Duration,
}

impl From<&Retry> for RetryPolicy {
    fn from(spec: &Retry) -> Self {
        Self {
            max_retries: spec.max_retries(),
            initial_backoff: spec.initial_backoff(),
            max_backoff: spec.max_backoff(),
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::from(&Retry::default())
    }
}

impl RetryPolicy {
    /// The wait before retry number `attempt` (0 for the first), or `None` to give up.
    ///
    /// Full jitter: uniform in `[0, min(max_backoff, initial_backoff × 2^attempt))`; a wait that the backend asked for is kept
    /// whole and never shortened. A wait that does not fit into `remaining`, the request's time left, gives up at once.
    #[must_use]
    pub fn next(
        &self,
        attempt: u32,
        retry_after: Option<Duration>,
        remaining: Duration,
        jitter: f64,
    ) -> Option<Duration> {
        if attempt >= self.max_retries {
            return None;
        }
        let bound = self
            .initial_backoff
            .saturating_mul(1 << attempt.min(20))
            .min(self.max_backoff);
        let wait = retry_after.unwrap_or_else(|| bound.mul_f64(jitter.clamp(0.0, 1.0)));
        (wait < remaining).then_some(wait)
    }
}

/// Retries as a share of traffic: 10 % of the requests, and at most [`RetryBudget::MOST`] saved up.
///
/// A sick provider then sees at most 1.1 times the traffic, however many clients there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    tenths: u32,
}

impl RetryBudget {
    /// Retries that may be saved up; a fresh process has them too, so that the first request may be retried.
    pub const MOST: u32 = 10;

    /// A full budget.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            tenths: Self::MOST * 10,
        }
    }

    /// A request was sent for the first time.
    pub const fn deposit(&mut self) {
        if self.tenths < Self::MOST * 10 {
            self.tenths += 1;
        }
    }

    /// Takes one retry; false when there is none.
    #[must_use]
    pub const fn withdraw(&mut self) -> bool {
        let enough = self.tenths >= 10;
        if enough {
            self.tenths -= 10;
        }
        enough
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn gives_up_after_the_last_retry() {
        let policy = RetryPolicy::default();
        assert!(policy.next(2, None, LONG, 0.5).is_some());
        assert_eq!(policy.next(3, None, LONG, 0.5), None);
    }

    #[test]
    fn a_wait_that_was_asked_for_is_kept_or_given_up() {
        let policy = RetryPolicy::default();
        let asked = Some(Duration::from_millis(3890));
        assert_eq!(policy.next(0, asked, LONG, 0.0), asked);
        assert_eq!(
            policy.next(0, asked, Duration::from_secs(3), 0.0),
            None,
            "longer than the deadline"
        );
    }

    #[test]
    fn retries_are_a_tenth_of_the_traffic() {
        let mut budget = RetryBudget::new();
        let mut retried = 0;
        for _ in 0..10_000 {
            budget.deposit();
            while budget.withdraw() {
                retried += 1;
            }
        }
        // The ten saved up go with the first request, which finds the budget full; the other 9,999 earn a tenth each.
        assert_eq!(retried, RetryBudget::MOST + 999);
    }

    proptest! {
        #[test]
        fn jitter_is_full_and_bounded(attempt in 0..10_u32, jitter in 0.0..1.0_f64) {
            let policy = RetryPolicy { max_retries: 10, ..RetryPolicy::default() };
            let wait = policy.next(attempt, None, LONG, jitter).unwrap();
            let bound = Duration::from_secs(1).saturating_mul(1 << attempt).min(Duration::from_secs(60));
            prop_assert!(wait <= bound);
            prop_assert!((wait.as_secs_f64() - bound.as_secs_f64() * jitter).abs() < 1e-6);
        }
    }
}
