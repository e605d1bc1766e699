//! Probe tokens: to whom, until when, and what came of them.

use std::time::Duration;

use super::{ACCEPT, Machine, Replica};
use crate::api::{CircuitProbe, ProbeOutcome, ProbePhase, ProbeReport, ReplicaCircuit};

/// What came of the tokens that have ended.
#[derive(Default)]
struct Tally {
    succeeded: u32,
    failed: Option<Failed>,
    inconclusive: bool,
}

#[derive(Default)]
struct Failed {
    asked: Option<Duration>,
    error: Option<String>,
}

impl<'a> Machine<'a> {
    /// Looks at the holder of every token, and draws the conclusion from those that have ended.
    pub(super) fn follow_probes(&mut self) {
        let mut tally = Tally::default();
        for probe in std::mem::take(&mut self.row.probes) {
            let kept = self.follow(probe, &mut tally);
            self.row.probes.extend(kept);
        }
        if self.row.is_open() {
            self.conclude(tally);
        }
    }

    fn conclude(&mut self, tally: Tally) {
        if let Some(Failed { asked, error }) = tally.failed {
            let trips = self.row.trips.unwrap_or(0).saturating_add(1);
            let error = error.or_else(|| self.row.last_error.clone());
            return self.open(trips, asked, error);
        }
        self.row.succeeded = self.row.succeeded.saturating_add(tally.succeeded);
        if self.row.succeeded >= self.config.half_open_probes {
            self.close();
        } else if tally.inconclusive {
            self.pause();
        }
    }

    /// The token as it goes on; `None` when it can be used no more.
    fn follow(&mut self, probe: CircuitProbe, tally: &mut Tally) -> Option<CircuitProbe> {
        let holder = self.replicas.iter().find(|r| r.name == probe.replica);
        let report = holder.and_then(|r| r.report);
        let heard = report.and_then(|r| r.probe).filter(|p| p.sequence == probe.sequence);
        match heard.map(|h| h.outcome) {
            Some(ProbeOutcome::Accepted) => self.follow_accepted(probe, holder, tally),
            None => self.follow_offered(probe, holder, tally),
            Some(_) => {
                if let (true, Some(heard), Some(report)) = (self.in_round(&probe), heard, report) {
                    tally.add(&probe, heard, report);
                }
                None
            }
        }
    }

    /// A token that was taken back when its round ended decides nothing any more.
    const fn in_round(&self, probe: &CircuitProbe) -> bool {
        probe.sequence > self.row.changed
    }

    fn follow_accepted(
        &self,
        mut probe: CircuitProbe,
        holder: Option<&Replica<'a>>,
        tally: &mut Tally,
    ) -> Option<CircuitProbe> {
        let told = holder.and_then(|r| r.told);
        let carried = told.and_then(|t| t.probe).is_some_and(|t| t.sequence == probe.sequence);
        match probe.phase {
            ProbePhase::Withdrawn if !(self.in_round(&probe) && carried) => {
                let report = holder.and_then(|r| r.report);
                let follows = report.is_some_and(|r| Some(r.sequence) >= probe.withdrawn);
                if follows {
                    None
                } else {
                    self.unless_overdue(probe, tally)
                }
            }
            // It was taken back and accepted at once, and the acceptance came first.
            ProbePhase::Offered | ProbePhase::Withdrawn => {
                probe.phase = ProbePhase::Accepted;
                probe.withdrawn = None;
                probe.since = self.instant();
                Some(probe)
            }
            ProbePhase::Accepted => self.unless_overdue(probe, tally),
        }
    }

    fn follow_offered(
        &mut self,
        mut probe: CircuitProbe,
        holder: Option<&Replica<'a>>,
        tally: &mut Tally,
    ) -> Option<CircuitProbe> {
        let told = holder.and_then(|r| r.told).map(|t| t.sequence);
        match (probe.phase, holder) {
            // Seen in one state of the object: without the token, and not accepted. It cannot be any more.
            (ProbePhase::Withdrawn, Some(_)) if told >= probe.withdrawn => None,
            (ProbePhase::Withdrawn, Some(_)) => Some(probe),
            (ProbePhase::Offered, Some(_)) => {
                if self.passed(&probe.since, ACCEPT) {
                    self.row.sequence += 1;
                    probe.withdraw(self.row.sequence, &self.instant());
                }
                Some(probe)
            }
            (ProbePhase::Accepted, _) | (_, None) => self.unless_overdue(probe, tally),
        }
    }

    /// A holder that is heard no more: a probe of this round has failed.
    fn unless_overdue(&self, probe: CircuitProbe, tally: &mut Tally) -> Option<CircuitProbe> {
        if !self.passed(&probe.since, self.config.probe_deadline()) {
            return Some(probe);
        }
        if self.in_round(&probe) {
            tally.failed.get_or_insert_default();
        }
        None
    }

    /// Gives what may still be probed in this round to replicas that refuse requests, once it is time.
    pub(super) fn offer(&mut self) {
        let due = self.row.retry_at.as_ref().is_none_or(|at| self.now >= at.0);
        let out: u32 = self.row.probes.iter().map(|p| p.calls).sum();
        let left = self
            .config
            .half_open_probes
            .saturating_sub(out.saturating_add(self.row.succeeded));
        let mut waiting = self.waiting();
        if !due || left == 0 || waiting.is_empty() {
            return;
        }
        // No replica is always the first.
        let count = waiting.len();
        waiting.rotate_left(pick(self.jitter, count));
        let holders = u32::try_from(count).unwrap_or(u32::MAX).min(left);
        for (index, replica) in (0..holders).zip(waiting) {
            let calls = left / holders + u32::from(index < left % holders);
            self.row.sequence += 1;
            self.row.probes.push(CircuitProbe {
                replica,
                sequence: self.row.sequence,
                calls,
                phase: ProbePhase::Offered,
                since: self.instant(),
                withdrawn: None,
            });
        }
    }

    /// Names of the replicas that would find a request to probe with.
    fn waiting(&self) -> Vec<String> {
        let holds = |replica: &Replica<'a>| self.row.probes.iter().any(|p| p.replica == replica.name);
        let wants = |report: &ReplicaCircuit| {
            report.demand && report.epoch == self.row.epoch && self.key(report) == self.row.key_hash
        };
        let mut names: Vec<_> = self
            .replicas
            .iter()
            .filter(|r| r.stays && !holds(r) && r.report.is_some_and(wants))
            .map(|r| r.name.to_owned())
            .collect();
        names.sort();
        names
    }
}

impl Tally {
    fn add(&mut self, probe: &CircuitProbe, heard: ProbeReport, report: &ReplicaCircuit) {
        match heard.outcome {
            ProbeOutcome::Failed => {
                self.failed = Some(Failed {
                    asked: heard.retry_after_seconds.map(|s| Duration::from_secs(s.into())),
                    error: report.last_error.clone(),
                });
            }
            ProbeOutcome::Inconclusive => self.inconclusive = true,
            ProbeOutcome::Done | ProbeOutcome::Accepted => {}
        }
        self.succeeded = self.succeeded.saturating_add(heard.succeeded.min(probe.calls));
    }
}

/// An index below `count`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a few replicas"
)]
fn pick(jitter: f64, count: usize) -> usize {
    ((jitter.clamp(0.0, 1.0) * count as f64) as usize).min(count.saturating_sub(1))
}
