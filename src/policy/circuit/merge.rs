//! The circuit of all replicas, as the controller decides it (design section 9). Pure: the merged row, what the replicas say, and the
//! time give the next row; [`project`] says what each replica is told of it.
//!
//! A row is decided on by writing it over the very state it was decided from, so its numbers order all decisions, whoever leads. What a
//! replica is told carries the number of the decision and never goes back to a lower one. A probe token is given to one replica at a
//! time for each call it allows: nobody else gets one until its holder has been seen without it, has told what came of it, or has had
//! longer than any holder takes.

mod probes;
mod project;
mod votes;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{CircuitConfig, marks};
use crate::api::{
    CircuitOverride, CircuitProbe, CircuitScope, CircuitState, CircuitStatus, InferenceReplica, MergedCircuit, ProbePhase,
    RemoteBackend, ReplicaCircuit,
};

pub use project::project;

/// A token that is not accepted for so long is taken back.
const ACCEPT: Duration = Duration::from_secs(5);
/// After a probe that told nothing the next round waits so long.
const PAUSE: Duration = Duration::from_secs(5);

/// One circuit of a deployment's spec.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Name of the backend.
    pub backend: &'a str,
    /// What it breaks.
    pub scope: CircuitScope,
    /// The backend.
    pub remote: &'a RemoteBackend,
}

/// A replica as the API server has it: one state of the object.
#[derive(Clone, Copy, Debug)]
pub struct Replica<'a> {
    /// The object.
    pub object: &'a InferenceReplica,
    /// Its pod is not going: it votes and may be given a token.
    pub stays: bool,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The row; `None` for a circuit of which there is nothing to say.
    pub row: Option<CircuitStatus>,
    /// When to decide again although nothing was heard.
    pub look_again: Option<Timestamp>,
}

/// Decides on one circuit. `jitter` is a random number in `[0, 1)`.
#[must_use]
pub fn merge(
    subject: &Subject<'_>,
    before: Option<&CircuitStatus>,
    replicas: &[Replica<'_>],
    now: Timestamp,
    jitter: f64,
) -> Merged {
    let mut machine = Machine {
        config: CircuitConfig::from(subject.remote),
        target: marks::target(subject.remote),
        subject: *subject,
        replicas,
        now,
        jitter,
        row: CircuitStatus::of(subject, before),
    };
    machine.step();
    Merged {
        look_again: machine.look_again(),
        row: Some(machine.row).filter(says_something),
    }
}

fn says_something(row: &CircuitStatus) -> bool {
    row.sequence > 0 || row.open_replicas.is_some() || row.state != CircuitState::Closed
}

struct Machine<'a> {
    subject: Subject<'a>,
    config: CircuitConfig,
    target: String,
    replicas: &'a [Replica<'a>],
    now: Timestamp,
    jitter: f64,
    row: CircuitStatus,
}

impl CircuitStatus {
    /// The row to go on from. Another endpoint starts anew, in an epoch of its own.
    fn of(subject: &Subject<'_>, before: Option<&Self>) -> Self {
        let Subject { backend, scope, remote } = subject;
        let provider = format!("{:?}", remote.provider);
        let fresh = Self::closed((*backend).to_owned(), *scope, provider, Some(remote.endpoint.clone()));
        let Some(before) = before else { return fresh };
        if before.provider == fresh.provider && before.endpoint == fresh.endpoint {
            return before.clone();
        }
        Self {
            epoch: before.epoch + 1,
            sequence: before.sequence + 1,
            changed: before.sequence + 1,
            ..fresh
        }
    }

    /// Open beneath what is forced.
    const fn is_open(&self) -> bool {
        self.opened_at.is_some()
    }
}

impl Machine<'_> {
    fn step(&mut self) {
        self.restore();
        self.follow_probes();
        if self.row.is_open() {
            self.forget_replaced_key();
        }
        self.count_votes();
        if self.row.is_open() && self.forced() == CircuitOverride::Auto {
            self.offer();
        }
        self.row.state = self.state();
    }

    /// A replica was told of a later decision than the row knows: the status was restored from an older copy. What the replicas were
    /// told goes on, and no token is given while one that nobody remembers could be in use.
    fn restore(&mut self) {
        let told = self.replicas.iter().filter_map(|r| self.told(r));
        let Some(newest) = told.max_by_key(|told| told.sequence).cloned() else {
            return;
        };
        if newest.sequence <= self.row.sequence {
            return;
        }
        let patience = self.after(self.config.probe_deadline());
        let open = newest.state != CircuitState::Closed;
        self.row.epoch = newest.epoch;
        self.row.sequence = newest.sequence;
        self.row.opened_at = newest.opened_at.filter(|_| open);
        self.row.retry_at = newest.retry_at.filter(|_| open).map(|at| Time(at.0.max(patience.0)));
        self.row.trips = Some(newest.trips);
        self.row.last_error = newest.last_error;
        self.row.key_hash = newest.key_hash;
        self.row.probes.clear();
        self.decided();
    }

    /// Numbers a decision that every replica is told.
    fn decided(&mut self) {
        self.row.sequence += 1;
        self.row.changed = self.row.sequence;
        self.row.succeeded = 0;
        let (number, since) = (self.row.sequence, self.instant());
        for probe in &mut self.row.probes {
            probe.withdraw(number, &since);
        }
    }

    /// Opens, or opens again for longer.
    fn open(&mut self, trips: u32, asked: Option<Duration>, error: Option<String>) {
        let wait = self.config.wait(trips, asked, self.jitter);
        self.row.trips = Some(trips);
        self.row.last_error = error;
        self.row.opened_at = Some(self.instant());
        self.row.retry_at = Some(self.after(wait));
        self.decided();
    }

    /// A round that told nothing: the next one soon, and for no longer.
    fn pause(&mut self) {
        self.row.retry_at = Some(self.after(PAUSE.min(self.config.open_duration)));
        self.decided();
    }

    fn close(&mut self) {
        self.row.epoch += 1;
        self.row.opened_at = None;
        self.row.retry_at = None;
        self.row.trips = None;
        self.row.open_replicas = None;
        self.row.last_error = None;
        self.row.key_hash = None;
        self.decided();
    }

    /// A round has begun when anything was decided since it opened.
    fn state(&self) -> CircuitState {
        match self.forced() {
            CircuitOverride::ForceOpen => CircuitState::ForcedOpen,
            CircuitOverride::ForceClosed => CircuitState::ForcedClosed,
            CircuitOverride::Auto if !self.row.is_open() => CircuitState::Closed,
            CircuitOverride::Auto if self.row.sequence > self.row.changed => CircuitState::HalfOpen,
            CircuitOverride::Auto => CircuitState::Open,
        }
    }

    /// The override; its row is that of the endpoint.
    fn forced(&self) -> CircuitOverride {
        match self.subject.scope {
            CircuitScope::Endpoint => self.config.forced,
            CircuitScope::Credential => CircuitOverride::Auto,
        }
    }

    fn told<'r>(&self, replica: &Replica<'r>) -> Option<&'r MergedCircuit> {
        let rows = &replica.object.spec.circuits;
        rows.iter().find(|c| self.is_about(&c.backend, c.scope, &c.target))
    }

    fn report<'r>(&self, replica: &Replica<'r>) -> Option<&'r ReplicaCircuit> {
        let rows = &replica.object.status.as_ref()?.circuits;
        rows.iter().find(|c| self.is_about(&c.backend, c.scope, &c.target))
    }

    fn is_about(&self, backend: &str, scope: CircuitScope, target: &str) -> bool {
        backend == self.subject.backend && scope == self.subject.scope && target == self.target
    }

    /// Now, as status shows it: whole seconds.
    fn instant(&self) -> Time {
        Time(whole(self.now))
    }

    /// An instant to wait for: never early.
    fn after(&self, wait: Duration) -> Time {
        let exact = self.now.checked_add(wait).unwrap_or(Timestamp::MAX);
        let floor = whole(exact);
        let up = if floor < exact { Duration::from_secs(1) } else { Duration::ZERO };
        Time(floor.checked_add(up).unwrap_or(exact))
    }

    fn passed(&self, since: &Time, wait: Duration) -> bool {
        self.now >= since.0.checked_add(wait).unwrap_or(Timestamp::MAX)
    }

    fn look_again(&self) -> Option<Timestamp> {
        let probes = self.row.probes.iter().filter_map(|probe| {
            let wait = match probe.phase {
                ProbePhase::Offered => ACCEPT,
                ProbePhase::Accepted | ProbePhase::Withdrawn => self.config.probe_deadline(),
            };
            probe.since.0.checked_add(wait).ok()
        });
        let retry = self.row.retry_at.as_ref().map(|at| at.0);
        probes.chain(retry).filter(|at| *at > self.now).min()
    }
}

impl CircuitProbe {
    fn withdraw(&mut self, number: u64, since: &Time) {
        if self.phase != ProbePhase::Withdrawn {
            self.phase = ProbePhase::Withdrawn;
            self.withdrawn = Some(number);
            self.since = since.clone();
        }
    }
}

fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
