//! Leader election without a clock of its own: `now` is the time since the process started, on the monotonic clock. The times in the
//! Lease are for people: another machine's clock is never compared with ours.

use std::time::Duration;

/// How long others wait after the last renewal that they saw.
pub const LEASE: Duration = Duration::from_secs(15);
/// How long the holder works on without a renewal: less than [`LEASE`], so that it stops before another one starts.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Time between two tries.
pub const RETRY: Duration = Duration::from_secs(2);

/// The Lease as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who holds it; empty when released.
    pub holder: String,
    /// Changes with every write.
    pub resource_version: String,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none: create it.
    Create,
    /// Write our name into it, if it still is as it was seen.
    Take,
    /// Somebody else holds it.
    Wait,
}

/// One candidate.
#[derive(Debug)]
pub struct Election {
    identity: String,
    /// What was seen last, and since when it has not changed.
    observed: Option<(Seen, Duration)>,
    /// Start of the last successful write, while we lead.
    renewed: Option<Duration>,
}

impl Election {
    /// A candidate that has seen nothing.
    pub const fn new(identity: String) -> Self {
        Self {
            identity,
            observed: None,
            renewed: None,
        }
    }

    /// Decides after a read. A Lease that did not change for [`LEASE`] since we first saw it so is free.
    pub fn observe(&mut self, seen: Option<Seen>, now: Duration) -> Step {
        let Some(seen) = seen else {
            self.observed = None;
            return Step::Create;
        };
        let since = match &self.observed {
            Some((before, since)) if *before == seen => *since,
            _ => now,
        };
        let free = seen.holder.is_empty() || seen.holder == self.identity || now.saturating_sub(since) >= LEASE;
        self.observed = Some((seen, since));
        if free { Step::Take } else { Step::Wait }
    }

    /// A write that was begun at `began` succeeded: we lead from then.
    pub const fn wrote(&mut self, began: Duration) {
        self.renewed = Some(began);
    }

    /// True while we lead.
    pub fn leads(&self, now: Duration) -> bool {
        self.renewed.is_some_and(|at| now.saturating_sub(at) < RENEW_DEADLINE)
    }

    /// True when we led and do no more: the process must end, for another one may have begun.
    pub fn lost(&self, now: Duration) -> bool {
        self.renewed.is_some() && !self.leads(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn seen(holder: &str, version: &str) -> Seen {
        Seen {
            holder: holder.into(),
            resource_version: version.into(),
        }
    }

    #[test]
    fn a_free_lease_is_taken_and_a_held_one_is_not() {
        let mut me = Election::new("me".into());
        assert_eq!(me.observe(None, at(0)), Step::Create);
        assert_eq!(me.observe(Some(seen("", "1")), at(0)), Step::Take);
        assert_eq!(me.observe(Some(seen("me", "2")), at(0)), Step::Take);
        assert_eq!(me.observe(Some(seen("other", "3")), at(0)), Step::Wait);
    }

    #[test]
    fn only_a_lease_that_stands_still_for_its_whole_duration_is_taken_over() {
        let mut me = Election::new("me".into());
        assert_eq!(me.observe(Some(seen("other", "1")), at(100)), Step::Wait);
        assert_eq!(
            me.observe(Some(seen("other", "2")), at(114)),
            Step::Wait,
            "it was renewed"
        );
        assert_eq!(me.observe(Some(seen("other", "2")), at(128)), Step::Wait);
        assert_eq!(me.observe(Some(seen("other", "2")), at(129)), Step::Take);
    }

    #[test]
    fn the_holder_stops_before_another_can_start() {
        let mut me = Election::new("me".into());
        assert!(!me.leads(at(0)) && !me.lost(at(0)));
        me.wrote(at(5));
        assert!(me.leads(at(14)) && !me.lost(at(14)));
        assert!(me.lost(at(15)));
        assert!(RENEW_DEADLINE < LEASE);
    }
}
