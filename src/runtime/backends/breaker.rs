//! A circuit that several requests share.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tracing::warn;

use super::Signals;
use crate::{
    error::ErrorKind,
    policy::circuit::{Circuit, CircuitConfig, CircuitView, Permit, Refused, Transition, Verdict},
    runtime::{
        clock::{Clock, jitter},
        sync::lock,
    },
};

/// A circuit with its clock. Changes are signalled.
#[derive(Debug)]
pub struct Breaker {
    label: String,
    circuit: Mutex<Circuit>,
    clock: Clock,
    signals: Arc<Signals>,
}

impl Breaker {
    /// A closed circuit; `label` names it in logs.
    #[must_use]
    pub fn new(label: String, config: CircuitConfig, clock: Clock, signals: Arc<Signals>) -> Self {
        Self {
            label,
            circuit: Mutex::new(Circuit::new(config)),
            clock,
            signals,
        }
    }

    /// Takes a new configuration and forgets nothing.
    pub fn reconfigure(&self, config: CircuitConfig) {
        lock(&self.circuit).reconfigure(config);
    }

    /// Leave to send one request.
    pub fn admit(self: &Arc<Self>) -> Result<Leave, Refused> {
        let permit = lock(&self.circuit).admit(self.clock.now())?;
        Ok(Leave {
            breaker: Arc::clone(self),
            permit: Some(permit),
        })
    }

    /// Opens at once: a refused credential.
    pub fn open_now(&self, kind: ErrorKind) {
        let transition = lock(&self.circuit).open_now(kind, self.clock.now(), jitter());
        self.tell(transition);
    }

    /// The cause is mended: one probe at once.
    pub fn earn_probe(&self) {
        if lock(&self.circuit).earn_probe(self.clock.now()) {
            self.signals.urgent();
        }
    }

    /// The circuit for status and metrics.
    #[must_use]
    pub fn view(&self) -> CircuitView {
        lock(&self.circuit).view()
    }

    fn record(&self, permit: Permit, verdict: Verdict) {
        let transition = lock(&self.circuit).record(permit, verdict, self.clock.now(), jitter());
        self.tell(transition);
    }

    fn tell(&self, transition: Option<Transition>) {
        let Some(transition) = transition else { return };
        let view = self.view();
        let error = view.last_error.map(ErrorKind::as_str);
        match transition {
            Transition::Opened => warn!(circuit = self.label, error, trips = view.trips, "the circuit opened"),
            Transition::Closed => warn!(circuit = self.label, "the circuit closed"),
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
}

impl Leave {
    /// The backend works.
    pub fn succeeded(mut self) {
        self.record(Verdict::Success);
    }

    /// The backend is sick.
    pub fn failed(mut self, kind: ErrorKind, retry_after: Option<Duration>) {
        self.record(Verdict::Failure { kind, retry_after });
    }

    fn record(&mut self, verdict: Verdict) {
        if let Some(permit) = self.permit.take() {
            self.breaker.record(permit, verdict);
        }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.record(Verdict::NotCounted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::CircuitState;

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
            breaker.admit().unwrap().failed(ErrorKind::ServerError, None);
        }
        assert_eq!(breaker.view().state, CircuitState::Open);
        assert_eq!(signals.count(), 1);
        assert!(breaker.admit().is_err());
    }

    #[test]
    fn a_dropped_leave_gives_its_probe_back() {
        let (breaker, _signals) = breaker(1);
        breaker.admit().unwrap().failed(ErrorKind::Timeout, None);
        breaker.earn_probe();
        let probe = breaker.admit().unwrap();
        assert!(breaker.admit().is_err(), "one probe only");
        drop(probe);
        breaker.admit().unwrap().succeeded();
        assert_eq!(breaker.view().state, CircuitState::Closed);
    }
}
