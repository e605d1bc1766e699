//! A circuit that several requests share.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tracing::{info, warn};

use super::Signals;
use crate::{
    api::{MergedCircuit, ProbeReport, ReplicaCircuit},
    error::ErrorKind,
    policy::circuit::{Circuit, CircuitConfig, CircuitView, Label, Permit, Refused, Transition, Verdict, Word},
    runtime::{
        clock::{Clock, jitter},
        remote::classify::scrub::shown,
        sync::lock,
    },
};

/// A circuit with its clock. Changes are signalled.
#[derive(Debug)]
pub struct Breaker {
    label: String,
    inner: Mutex<Inner>,
    clock: Clock,
    signals: Arc<Signals>,
}

#[derive(Debug)]
struct Inner {
    circuit: Circuit,
    /// Mark of the key in use; of a credential's circuit.
    key: Option<String>,
    /// The merged circuit as it was told last.
    merged: Option<MergedCircuit>,
    /// What was said by the failure that opened it, scrubbed; empty while it is closed, and when others opened it.
    said: String,
}

impl Inner {
    fn obey(&mut self, recorded: Option<ProbeReport>, clock: Clock) -> Option<Transition> {
        let merged = self.merged.as_ref()?;
        let word = Word::of(merged, self.key.as_ref(), |at| clock.instant(at));
        self.circuit.obey(&word, recorded, clock.now())
    }
}

impl Breaker {
    /// A closed circuit; `label` names it in logs.
    #[must_use]
    pub fn new(label: String, config: CircuitConfig, clock: Clock, signals: Arc<Signals>) -> Self {
        Self {
            label,
            inner: Mutex::new(Inner {
                circuit: Circuit::new(config),
                key: None,
                merged: None,
                said: String::new(),
            }),
            clock,
            signals,
        }
    }

    /// Takes a new configuration and forgets nothing.
    pub fn reconfigure(&self, config: CircuitConfig) {
        lock(&self.inner).circuit.reconfigure(config);
    }

    /// Leave to send one request.
    pub fn admit(self: &Arc<Self>) -> Result<Leave, Refused> {
        let now = self.clock.now();
        let (ticked, admitted, wanted) = {
            let circuit = &mut lock(&self.inner).circuit;
            let (ticked, before) = (circuit.tick(now), circuit.demand(now));
            (ticked, circuit.admit(now), !before && circuit.demand(now))
        };
        self.tell(ticked);
        match admitted {
            Ok(permit) => Ok(Leave {
                breaker: Arc::clone(self),
                permit: Some(permit),
                sent: false,
            }),
            Err(refused) => {
                if wanted && now >= refused.retry_at {
                    self.signals.urgent();
                } else if wanted {
                    self.signals.routine();
                }
                Err(refused)
            }
        }
    }

    /// Opens at once: a refused credential, of which `said` is what the provider said.
    pub fn open_now(&self, kind: ErrorKind, said: &str) {
        self.judge(said, |circuit| circuit.open_now(kind, self.clock.now(), jitter()));
    }

    /// Another key is in use: what is known of the one before does not bind it, and it may be probed at once.
    pub fn rekey(&self, key: Option<String>) {
        let mut inner = lock(&self.inner);
        if inner.key == key {
            return;
        }
        inner.key = key;
        // Closes nothing and opens nothing that people must hear of: the first probe tells.
        inner.obey(None, self.clock);
        if inner.circuit.earn_probe(self.clock.now()) {
            self.signals.urgent();
        }
    }

    /// Follows the merged circuit; `recorded` is the probe report that the same state of our object holds.
    pub fn obey(&self, merged: &MergedCircuit, recorded: Option<ProbeReport>) {
        self.change(|inner| {
            inner.merged = Some(merged.clone());
            inner.obey(recorded, self.clock)
        });
    }

    /// The acceptance of a probe token stands in our object.
    pub fn accepted(&self, sequence: u64) {
        lock(&self.inner).circuit.accepted(sequence);
    }

    /// The circuit for status and metrics.
    #[must_use]
    pub fn view(&self) -> CircuitView {
        let now = self.clock.now();
        self.change(|inner| inner.circuit.tick(now));
        lock(&self.inner).circuit.view(now)
    }

    /// What the controller merges, and whether it accepts a probe token.
    #[must_use]
    pub fn report(&self, label: Label<'_>) -> (Option<ReplicaCircuit>, bool) {
        let view = self.view();
        let (key, message) = {
            let inner = lock(&self.inner);
            (inner.key.clone(), inner.said.clone())
        };
        let report = view.report(label, key, |at| self.clock.timestamp(at));
        (
            report.map(|report| ReplicaCircuit { message, ..report }),
            view.accepting,
        )
    }

    fn record(&self, permit: Permit, verdict: Verdict, said: &str) {
        self.judge(said, |circuit| {
            circuit.record(permit, verdict, self.clock.now(), jitter())
        });
    }

    /// What is said is kept of the failure that opens it, or ends a probe, alone: that is news in any case, and every other one is not.
    fn judge(&self, said: &str, judge: impl FnOnce(&mut Circuit) -> Option<Transition>) {
        self.change(|inner| {
            let transition = judge(&mut inner.circuit);
            if transition.is_some() && !said.is_empty() {
                inner.said = shown(said);
            }
            transition
        });
    }

    fn change(&self, change: impl FnOnce(&mut Inner) -> Option<Transition>) {
        let transition = {
            let mut inner = lock(&self.inner);
            let transition = change(&mut inner);
            if transition == Some(Transition::Closed) {
                inner.said.clear();
            }
            transition
        };
        self.tell(transition);
    }

    /// Tells of what people and peers must hear.
    fn tell(&self, transition: Option<Transition>) {
        let Some(transition) = transition else { return };
        let view = lock(&self.inner).circuit.view(self.clock.now());
        let error = view.last_error.map(ErrorKind::as_str);
        match transition {
            Transition::Opened => warn!(circuit = self.label, error, trips = view.trips, "the circuit opened"),
            Transition::Closed => warn!(circuit = self.label, "the circuit closed"),
            Transition::Probe => info!(circuit = self.label, probe = ?view.probe, "a probe token"),
        }
        self.signals.urgent();
    }
}

/// Leave to send one request; dropped without a verdict it counts as nothing learnt.
#[derive(Debug)]
#[must_use = "a leave that is dropped at once judges nothing"]
pub struct Leave {
    breaker: Arc<Breaker>,
    permit: Option<Permit>,
    sent: bool,
}

impl Leave {
    /// The request is sent now. Before this, a dropped leave goes to another request.
    pub const fn send(&mut self) {
        self.sent = true;
    }

    /// The first content of the answer has come.
    pub fn begun(&mut self) {
        if let Some(permit) = self.permit.as_mut() {
            lock(&self.breaker.inner).circuit.begun(permit);
        }
    }

    /// True when the request decides whether the circuit closes.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.permit.as_ref().is_some_and(Permit::is_probe)
    }

    /// The backend works.
    pub fn succeeded(mut self) {
        self.record(Verdict::Success, "");
    }

    /// The backend is sick; `said` is what it said, or what happened.
    pub fn failed(mut self, kind: ErrorKind, retry_after: Option<Duration>, said: &str) {
        self.record(Verdict::Failure { kind, retry_after }, said);
    }

    fn record(&mut self, verdict: Verdict, said: &str) {
        if let Some(permit) = self.permit.take() {
            self.breaker.record(permit, verdict, said);
        }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        let verdict = if self.sent {
            Verdict::NotCounted
        } else {
            Verdict::Unsent
        };
        self.record(verdict, "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{CircuitScope, CircuitState};

    fn breaker(failures: u32) -> (Arc<Breaker>, Arc<Signals>) {
        let signals = Arc::new(Signals::default());
        let config = CircuitConfig {
            consecutive_failures: failures,
            ..CircuitConfig::default()
        };
        let breaker = Breaker::new("openai/Endpoint".into(), config, Clock::start(), Arc::clone(&signals));
        (Arc::new(breaker), signals)
    }

    #[test]
    fn failures_open_it_and_the_opening_is_urgent() {
        let (breaker, signals) = breaker(2);
        for _ in 0..2 {
            breaker.admit().unwrap().failed(ErrorKind::ServerError, None, "");
        }
        assert_eq!(breaker.view().state, CircuitState::Open);
        assert_eq!(signals.count(), 1);
        assert!(breaker.admit().is_err());
    }

    const LABEL: Label<'_> = Label {
        backend: "openai",
        scope: CircuitScope::Endpoint,
        target: "t",
    };

    #[test]
    fn what_was_said_when_it_opened_is_reported_until_it_closes() {
        let (breaker, _signals) = breaker(2);
        let said = || breaker.report(LABEL).0.map(|report| report.message);
        let key = format!("sk-{}", "a1".repeat(20));
        for text in ["the first", &format!("overloaded, {key} {}", "x".repeat(4_000))] {
            breaker.admit().unwrap().failed(ErrorKind::ServerError, None, text);
        }
        let opened = said().unwrap();
        assert!(opened.starts_with("overloaded, ") && !opened.contains(&key), "{opened}");
        assert!(opened.chars().count() <= 400, "what the schema takes");
        breaker.open_now(ErrorKind::ServerError, "a later one");
        assert_eq!(said().unwrap(), opened, "no news while it is open");
        breaker.rekey(Some("another key".into()));
        for _ in 0..2 {
            breaker.admit().unwrap().succeeded();
        }
        assert_eq!(said().unwrap(), "");
    }

    #[test]
    fn what_others_opened_has_no_words_of_ours() {
        let (breaker, _signals) = breaker(1);
        breaker.admit().unwrap().failed(ErrorKind::Timeout, None, "ours");
        breaker.rekey(Some("another key".into()));
        breaker.admit().unwrap().succeeded();
        let merged = serde_json::from_value(
            serde_json::json!({"backend": "openai", "scope": "Endpoint", "target": "t",
            "epoch": 0, "sequence": 1, "state": "Open", "openedAt": "2026-01-01T00:00:00Z", "lastError": "timeout"}),
        );
        breaker.obey(&merged.unwrap(), None);
        let report = breaker.report(LABEL).0.unwrap();
        assert_eq!((report.state, report.message.as_str()), (CircuitState::Open, ""));
    }

    #[test]
    fn a_dropped_leave_gives_its_probe_back() {
        let (breaker, _signals) = breaker(1);
        breaker.admit().unwrap().failed(ErrorKind::Timeout, None, "");
        breaker.rekey(Some("another key".into()));
        let probe = breaker.admit().unwrap();
        assert!(breaker.admit().is_err(), "one probe only");
        drop(probe);
        breaker.admit().unwrap().succeeded();
        assert_eq!(breaker.view().state, CircuitState::Closed);
    }
}
