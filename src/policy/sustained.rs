//! Whether trouble lasts: of what happens many times a second a status tells only that (design section 5, "when sustained").

use std::time::Duration;

/// Judged so often: what is told changes at most once a minute.
const MINUTE: Duration = Duration::from_secs(60);
/// Fewer cases of trouble in a minute may be chance.
const LEAST: u32 = 5;

/// Cases of the minute under way, and the verdict on the one before.
#[derive(Clone, Copy, Debug)]
pub struct Sustained {
    one_in: u32,
    began: Duration,
    cases: u32,
    trouble: u32,
    lasts: bool,
}

impl Sustained {
    /// No trouble yet. It lasts once more than one in `one_in` cases of a minute were trouble, and until they are fewer than half of that.
    #[must_use]
    pub const fn new(one_in: u32) -> Self {
        Self {
            one_in,
            began: Duration::ZERO,
            cases: 0,
            trouble: 0,
            lasts: false,
        }
    }

    /// One more case.
    pub fn note(&mut self, is_trouble: bool, now: Duration) {
        self.turn(now);
        self.cases = self.cases.saturating_add(1);
        self.trouble = self.trouble.saturating_add(u32::from(is_trouble));
    }

    /// The verdict on the last minute that is over.
    pub fn lasts(&mut self, now: Duration) -> bool {
        self.turn(now);
        self.lasts
    }

    fn turn(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.began);
        if passed < MINUTE {
            return;
        }
        let (least, one_in) = if self.lasts {
            (1, self.one_in.saturating_mul(2))
        } else {
            (LEAST, self.one_in)
        };
        let many = self.trouble >= least && self.trouble.saturating_mul(one_in) > self.cases;
        // When nobody has looked for longer, nothing has happened since either.
        self.lasts = many && passed < MINUTE * 2;
        (self.began, self.cases, self.trouble) = (now, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Verdicts after minutes with so much trouble among so many cases.
    fn verdicts<const N: usize>(one_in: u32, minutes: [(u32, u32); N]) -> [bool; N] {
        let (mut sustained, mut now) = (Sustained::new(one_in), Duration::ZERO);
        minutes.map(|(trouble, cases)| {
            let before = sustained.lasts(now);
            for case in 0..cases {
                sustained.note(case < trouble, now + MINUTE * case / cases);
                assert_eq!(sustained.lasts(now), before, "nothing changes within a minute");
            }
            now += MINUTE;
            sustained.lasts(now)
        })
    }

    #[test]
    fn trouble_lasts_from_a_half_down_to_a_quarter() {
        let minutes = [(50, 100), (51, 100), (26, 100), (25, 100), (26, 100), (60, 100)];
        assert_eq!(verdicts(2, minutes), [false, true, true, false, false, true]);
    }

    #[test]
    fn a_few_cases_are_chance_and_keep_what_lasts() {
        let minutes = [(4, 4), (5, 5), (1, 1), (0, 0), (1, 1)];
        assert_eq!(verdicts(2, minutes), [false, true, true, false, false]);
    }

    #[test]
    fn what_was_long_ago_is_over() {
        let mut sustained = Sustained::new(10);
        for _ in 0..100 {
            sustained.note(true, Duration::ZERO);
        }
        assert!(!sustained.lasts(MINUTE * 2), "nobody has asked since");
    }

    #[test]
    fn a_storm_changes_the_verdict_once_a_minute_at_most() {
        let (mut sustained, mut changes, mut before) = (Sustained::new(2), 0, false);
        for case in 0..60_000_u32 {
            let now = Duration::from_millis(10) * case;
            sustained.note(case / 3_000 % 2 == 0, now);
            let lasts = sustained.lasts(now);
            changes += u32::from(lasts != before);
            before = lasts;
        }
        assert!(changes <= 10, "{changes} changes in ten minutes");
    }
}
