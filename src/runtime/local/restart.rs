//! When a context may be rebuilt and when the worker gives up: pure (design section 10).

use std::{collections::VecDeque, time::Duration};

/// Rebuilds within [`WINDOW`] after which the next failure ends the process; also the number of rebuilds in a row that may end before
/// the engine is ready once, however slowly they fail.
pub const REBUILDS: usize = 3;
/// The window of [`REBUILDS`], of time in which a context served: loading takes minutes, and proves nothing.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The rebuilds so far.
#[derive(Debug, Default)]
pub struct RestartPolicy {
    /// None, ever.
    never: bool,
    serves_since: Option<Duration>,
    /// By all contexts together: the clock of the window.
    served: Duration,
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

    /// A context failed: how many pauses of the back-off to wait before the next one (0, 1, 2), or `None` to give up.
    pub fn rebuild(&mut self) -> Option<u32> {
        while self
            .recent
            .front()
            .is_some_and(|&then| self.served.saturating_sub(then) > WINDOW)
        {
            self.recent.pop_front();
        }
        if self.never || self.recent.len() >= REBUILDS || self.since_ready >= REBUILDS {
            return None;
        }
        let pauses = u32::try_from(self.since_ready).unwrap_or(u32::MAX);
        self.recent.push_back(self.served);
        self.since_ready += 1;
        self.total = self.total.saturating_add(1);
        Some(pauses)
    }

    /// The engine answered its first canary at `now`, a time since the worker's start.
    pub const fn ready(&mut self, now: Duration) {
        self.since_ready = 0;
        self.serves_since = Some(now);
    }

    /// The context serves no more, if it did.
    pub fn lost(&mut self, now: Duration) {
        if let Some(since) = self.serves_since.take() {
            self.served = self.served.saturating_add(now.saturating_sub(since));
        }
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

    /// How many rebuilds an engine gets that loads and serves so long, again and again; no more than 100 are tried.
    fn rebuilds(loads: u64, serves: u64) -> usize {
        let (mut policy, mut now) = (RestartPolicy::default(), 0);
        let life = |_: &usize| {
            now += loads;
            policy.ready(at(now));
            now += serves;
            policy.lost(at(now));
            policy.rebuild().is_some()
        };
        (0..100).take_while(life).count()
    }

    #[test]
    fn the_fourth_failure_in_a_minute_of_serving_gives_up_however_long_it_loads() {
        for loads in [0, 1, 21, 34, 600] {
            assert_eq!(rebuilds(loads, 1), REBUILDS, "loads for {loads} s");
            assert_eq!(rebuilds(loads, 20), REBUILDS, "loads for {loads} s");
        }
    }

    #[test]
    fn rebuilds_are_forgotten_after_a_minute_of_serving() {
        assert_eq!(rebuilds(0, 31), 100);
        assert_eq!(rebuilds(34, 31), 100);
        let mut policy = RestartPolicy::default();
        for _ in 0..10 {
            policy.ready(at(0));
            policy.lost(at(61));
            assert_eq!(policy.rebuild(), Some(0));
            assert_eq!(policy.rebuild(), Some(1), "the next one does not get ready");
        }
    }

    #[test]
    fn a_part_is_never_rebuilt_alone() {
        assert_eq!(RestartPolicy::never().rebuild(), None);
    }

    #[test]
    fn an_engine_that_never_gets_ready_is_given_up_however_slowly_it_fails() {
        let mut policy = RestartPolicy::default();
        let pauses: Vec<_> = (0..4).map(|_| policy.rebuild()).collect();
        assert_eq!(pauses, [Some(0), Some(1), Some(2), None]);
    }
}
