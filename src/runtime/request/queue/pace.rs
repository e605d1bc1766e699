//! The measured drain rate.

use std::time::Duration;

/// How fast turns are given back: a moving average of the time that one takes, and how long those have taken that are not back yet.
#[derive(Debug, Default)]
pub struct Pace {
    service: Option<Duration>,
    working: u32,
    /// Sum of the times at which those began that are worked on.
    begun: Duration,
}

/// Share of the newest measurement in the average.
const WEIGHT: f64 = 0.2;

impl Pace {
    /// A turn is taken at `now`.
    pub fn begin(&mut self, now: Duration) {
        self.working += 1;
        self.begun += now;
    }

    /// The turn taken at `begun` is given back unused.
    pub fn undo(&mut self, begun: Duration) {
        self.working = self.working.saturating_sub(1);
        self.begun = self.begun.saturating_sub(begun);
    }

    /// The turn taken at `begun` is given back at `now`.
    pub fn end(&mut self, begun: Duration, now: Duration) {
        self.undo(begun);
        let sample = now.saturating_sub(begun);
        self.service = Some(match self.service {
            None => sample,
            Some(before) => before.mul_f64(1.0 - WEIGHT) + sample.mul_f64(WEIGHT),
        });
    }

    /// How long somebody waits before whom `ahead` others are served, `concurrent` at once. What was never measured takes as long as
    /// those have been at work on average: a backend that stalls is slow before its first answer, too.
    pub fn wait(&self, ahead: usize, concurrent: usize, now: Duration) -> Duration {
        let ages = now.saturating_mul(self.working).saturating_sub(self.begun);
        let age = ages.checked_div(self.working).unwrap_or_default();
        let service = self.service.unwrap_or_default().max(age);
        let turns = u32::try_from(ahead + 1).unwrap_or(u32::MAX);
        let places = u32::try_from(concurrent.max(1)).unwrap_or(u32::MAX);
        service.saturating_mul(turns) / places
    }

    /// How many are worked on.
    pub const fn working(&self) -> usize {
        self.working as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_wait_follows_the_time_that_turns_take() {
        let mut pace = Pace::default();
        assert_eq!(pace.wait(9, 2, s(0)), s(0), "nothing is known");
        let mut told = Vec::new();
        for (begun, ended) in [(0, 1), (1, 2), (2, 12), (12, 22), (22, 32)] {
            pace.begin(s(begun));
            pace.end(s(begun), s(ended));
            told.push(pace.wait(9, 2, s(ended)));
        }
        println!("wait behind 9 others at 2 places after services of 1, 1, 10, 10, 10 s: {told:?}");
        assert_eq!(told[1], s(5));
        assert!(told.is_sorted() && told[4] > s(25), "{told:?}");
    }

    #[test]
    fn a_backend_that_never_answered_is_as_slow_as_its_requests_are_old() {
        let mut pace = Pace::default();
        pace.begin(s(100));
        pace.begin(s(110));
        assert_eq!(
            pace.wait(3, 2, s(120)),
            s(30),
            "15 s on average, four turns, two places"
        );
        pace.undo(s(110));
        assert_eq!(pace.wait(3, 2, s(120)), s(40));
    }
}
