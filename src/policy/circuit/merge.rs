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
    CircuitOverride, CircuitProbe, CircuitScope, CircuitState, CircuitStatus, InferenceReplica, MergedCircuit,
    ProbePhase, RemoteBackend, ReplicaCircuit,
};

pub use project::project;

/// A token that is not accepted for so long is taken back.
const ACCEPT: Duration = Duration::from_secs(5);
/// After a probe that told nothing the next round waits so long.
const PAUSE: Duration = Duration::from_secs(5);

/// One circuit of a deployment's spec.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Name of the backend.
    pub backend: String,
    /// What it breaks.
    pub scope: CircuitScope,
    /// Provider, as the spec spells it.
    pub provider: String,
    /// The provider's address.
    pub endpoint: String,
    /// Mark of both.
    pub target: String,
    /// How the circuit behaves.
    pub config: CircuitConfig,
}

impl Subject {
    /// A circuit of a backend.
    #[must_use]
    pub fn new(backend: &str, scope: CircuitScope, remote: &RemoteBackend) -> Self {
        Self {
            backend: backend.to_owned(),
            scope,
            provider: format!("{:?}", remote.provider),
            endpoint: remote.endpoint.clone(),
            target: marks::target(remote),
            config: remote.into(),
        }
    }
}

/// A replica as the API server has it: one state of its object.
#[derive(Clone, Copy, Debug)]
pub struct Replica<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it was told of the circuit.
    pub told: Option<&'a MergedCircuit>,
    /// What it reports of the circuit.
    pub report: Option<&'a ReplicaCircuit>,
    /// It has reported anything at all.
    pub speaks: bool,
    /// Its pod is Ready and not going: it votes and may be given a token.
    pub stays: bool,
}

impl<'a> Replica<'a> {
    /// What an object says of a circuit; of another endpoint's it says nothing.
    #[must_use]
    pub fn new(object: &'a InferenceReplica, subject: &Subject, stays: bool) -> Self {
        let about = |backend: &str, scope, target: &str| {
            backend == subject.backend && scope == subject.scope && target == subject.target
        };
        let told = object.spec.circuits.iter();
        let reports = object.status.iter().flat_map(|status| &status.circuits);
        Self {
            name: object.metadata.name.as_deref().unwrap_or_default(),
            told: told.into_iter().find(|c| about(&c.backend, c.scope, &c.target)),
            report: reports.into_iter().find(|c| about(&c.backend, c.scope, &c.target)),
            speaks: object.status.is_some(),
            stays,
        }
    }
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
    subject: &Subject,
    before: Option<&CircuitStatus>,
    replicas: &[Replica<'_>],
    now: Timestamp,
    jitter: f64,
) -> Merged {
    let mut machine = Machine {
        subject,
        config: &subject.config,
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
    subject: &'a Subject,
    config: &'a CircuitConfig,
    replicas: &'a [Replica<'a>],
    now: Timestamp,
    jitter: f64,
    row: CircuitStatus,
}

impl CircuitStatus {
    /// The row to go on from. Another endpoint starts anew, in an epoch of its own.
    fn of(subject: &Subject, before: Option<&Self>) -> Self {
        let same = |row: &&Self| row.provider == subject.provider && row.endpoint.as_ref() == Some(&subject.endpoint);
        if let Some(before) = before.filter(same) {
            return before.clone();
        }
        let (provider, endpoint) = (subject.provider.clone(), Some(subject.endpoint.clone()));
        let fresh = Self::closed(subject.backend.clone(), subject.scope, provider, endpoint);
        let Some(before) = before else { return fresh };
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
        let told = self.replicas.iter().filter_map(|r| r.told);
        let Some(newest) = told.max_by_key(|told| told.sequence) else {
            return;
        };
        if newest.sequence <= self.row.sequence {
            return;
        }
        let patience = self.after(self.config.probe_deadline());
        let open = newest.state != CircuitState::Closed;
        self.row.epoch = newest.epoch;
        self.row.sequence = newest.sequence;
        self.row.opened_at = newest.opened_at.clone().filter(|_| open);
        let retry_at = newest.retry_at.as_ref().filter(|_| open);
        self.row.retry_at = retry_at.map(|at| Time(at.0.max(patience.0)));
        self.row.trips = Some(newest.trips);
        self.row.last_error.clone_from(&newest.last_error);
        self.row.key_hash.clone_from(&newest.key_hash);
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

    /// Now, as status shows it: whole seconds.
    fn instant(&self) -> Time {
        Time(whole(self.now))
    }

    /// An instant to wait for: never early.
    fn after(&self, wait: Duration) -> Time {
        let exact = self.now.checked_add(wait).unwrap_or(Timestamp::MAX);
        let floor = whole(exact);
        let up = if floor < exact {
            Duration::from_secs(1)
        } else {
            Duration::ZERO
        };
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
