//! When a context may be rebuilt and when the worker gives up: pure (design section 10).

use std::{collections::VecDeque, time::Duration};

/// Rebuilds within [`WINDOW`] after which the next failure ends the process; also the number of rebuilds in a row that may end before
/// the engine is ready once, however slowly they fail.
pub const REBUILDS: usize = 3;
/// The window of [`REBUILDS`].
pub const WINDOW: Duration = Duration::from_secs(60);

/// The rebuilds so far.
#[derive(Debug, Default)]
pub struct RestartPolicy {
    /// None, ever.
    never: bool,
    recent: VecDeque<Duration>,
    since_ready: usize,
    total: u32,
}

impl RestartPolicy {
    /// The end of a part of an engine is the end of all: the group of pods begins anew as a whole.
    #[must_use]
    pub fn never() -> Self {
        Self {
            never: true,
            ..Self::default()
        }
    }

    /// A context failed at `now`, a time since the worker's start: how many pauses of the back-off to wait before the next one (0, 1, 2),
    /// or `None` to give up.
    pub fn rebuild(&mut self, now: Duration) -> Option<u32> {
        while self
            .recent
            .front()
            .is_some_and(|&then| now.saturating_sub(then) > WINDOW)
        {
            self.recent.pop_front();
        }
        if self.never || self.recent.len() >= REBUILDS || self.since_ready >= REBUILDS {
            return None;
        }
        let pauses = u32::try_from(self.since_ready).unwrap_or(u32::MAX);
        self.recent.push_back(now);
        self.since_ready += 1;
        self.total = self.total.saturating_add(1);
        Some(pauses)
    }

    /// The engine answered its first canary.
    pub const fn ready(&mut self) {
        self.since_ready = 0;
    }

    /// Rebuilds since the worker's start.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_fourth_failure_in_a_minute_gives_up() {
        let mut policy = RestartPolicy::default();
        for second in [0, 10, 20] {
            assert!(policy.rebuild(at(second)).is_some());
            policy.ready();
        }
        assert_eq!(policy.rebuild(at(30)), None);
    }

    #[test]
    fn a_part_is_never_rebuilt_alone() {
        assert_eq!(RestartPolicy::never().rebuild(at(0)), None);
    }

    #[test]
    fn rebuilds_that_are_a_minute_old_are_forgotten() {
        let mut policy = RestartPolicy::default();
        for second in (0..1000).step_by(31) {
            assert!(policy.rebuild(at(second)).is_some(), "at {second} s");
            policy.ready();
        }
    }

    #[test]
    fn an_engine_that_never_gets_ready_is_given_up_however_slowly_it_fails() {
        let mut policy = RestartPolicy::default();
        let pauses: Vec<_> = [0, 600, 1200, 1800]
            .map(at)
            .into_iter()
            .map(|now| policy.rebuild(now))
            .collect();
        assert_eq!(pauses, [Some(0), Some(1), Some(2), None]);
    }
}
