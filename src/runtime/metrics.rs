//! Metrics. Labels are bounded: names of the configured backends and constants.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{
    api::CircuitState,
    policy::pricing::Usage,
    runtime::backends::{self, Kind},
};

/// A backend and how a request ended there: `success`, `cancelled`, or the kind of the error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    backend: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBackend {
    backend: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tokens {
    backend: Arc<str>,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Shortage {
    backend: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCircuit {
    backend: Arc<str>,
    scope: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBudget {
    backend: Arc<str>,
    reason: &'static str,
}

/// Why a request was not sent to a backend for the budget's sake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetRefusal {
    /// There is not that much money left.
    Exhausted,
    /// No money has been granted to this replica yet.
    NoLease,
    /// What the request could cost is not known.
    Unbounded,
    /// The backend once reported more than had been reserved.
    BoundViolated,
}

impl BudgetRefusal {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::NoLease => "no_lease",
            Self::Unbounded => "unbounded",
            Self::BoundViolated => "bound_violated",
        }
    }
}

/// Requests that a backend was not sent for the budget's sake.
const BUDGET_REFUSALS: &str = "budget_refusals";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refusal {
    port: &'static str,
    reason: &'static str,
}

/// Label of requests that no backend took.
pub const NO_BACKEND: &str = "";

/// The metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Outcome, Counter>,
    attempts: Family<Outcome, Counter>,
    retries: Family<OfBackend, Counter>,
    tokens: Family<Tokens, Counter>,
    duration: Family<OfBackend, Histogram, fn() -> Histogram>,
    first_token: Family<OfBackend, Histogram, fn() -> Histogram>,
    circuits: Family<OfCircuit, Gauge>,
    share: Family<Tokens, Gauge<f64, AtomicU64>>,
    share_short: Family<Shortage, Counter>,
    queue_depth: Gauge,
    held: Gauge,
    in_flight: Gauge,
    shed: Family<Reason, Counter>,
    refused: Family<Refusal, Counter>,
    budget_refusals: Family<OfBudget, Counter>,
    malformed: Counter,
    unfiltered: Counter,
    nobody: Arc<str>,
}

fn buckets() -> Histogram {
    Histogram::new([
        0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
    ])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("inference"),
            requests: Family::default(),
            attempts: Family::default(),
            retries: Family::default(),
            tokens: Family::default(),
            duration: Family::new_with_constructor(buckets),
            first_token: Family::new_with_constructor(buckets),
            circuits: Family::default(),
            share: Family::default(),
            share_short: Family::default(),
            queue_depth: Gauge::default(),
            held: Gauge::default(),
            in_flight: Gauge::default(),
            shed: Family::default(),
            refused: Family::default(),
            budget_refusals: Family::default(),
            malformed: Counter::default(),
            unfiltered: Counter::default(),
            nobody: NO_BACKEND.into(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register(
            "requests",
            "Requests by the backend that answered and by outcome",
            self.requests.clone(),
        );
        r.register(
            "upstream_attempts",
            "Attempts at a backend by outcome",
            self.attempts.clone(),
        );
        r.register(
            "upstream_retries",
            "Attempts after the first at the same backend",
            self.retries.clone(),
        );
        r.register("tokens", "Tokens that backends reported", self.tokens.clone());
        let (seconds, help) = (Unit::Seconds, "From the request's arrival to its last byte");
        r.register_with_unit("request_duration", help, seconds.clone(), self.duration.clone());
        let help = "From the request's arrival to the first content";
        r.register_with_unit("time_to_first_token", help, seconds, self.first_token.clone());
        r.register("circuit_state", "0 closed, 1 half-open, 2 open", self.circuits.clone());
        r.register(
            "rate_share",
            "This replica's share of a rate limit, requests or tokens a minute",
            self.share.clone(),
        );
        r.register(
            "rate_share_short",
            "Requests that found no room in the share of a rate limit: those that waited, and those of them that were refused",
            self.share_short.clone(),
        );
        r.register(
            "queue_depth",
            "Requests that wait for their turn",
            self.queue_depth.clone(),
        );
        r.register(
            "requests_held",
            "Requests that wait for a local pod to come back, of scaleToZero",
            self.held.clone(),
        );
        r.register(
            "requests_in_flight",
            "Requests that are worked on",
            self.in_flight.clone(),
        );
        r.register(
            "requests_shed",
            "Requests that were turned away before any backend was asked",
            self.shed.clone(),
        );
        r.register(
            "access_refusals",
            "Callers that were refused, by port and reason",
            self.refused.clone(),
        );
        let help = "Requests that were not sent to a backend for the budget's sake, by reason";
        r.register(BUDGET_REFUSALS, help, self.budget_refusals.clone());
        r.register(
            "malformed_events",
            "Events of upstream streams that were no JSON and were left out",
            self.malformed.clone(),
        );
        r.register(
            "unfiltered_answers",
            "Answers whose provider says that its content filter did not work",
            self.unfiltered.clone(),
        );
    }

    /// A request ended; `None` when no backend took it.
    pub fn request(&self, backend: Option<&Arc<str>>, outcome: &'static str, after: Duration) {
        let backend = backend.unwrap_or(&self.nobody);
        self.requests.get_or_create(&outcome_of(backend, outcome)).inc();
        self.duration.get_or_create(&of(backend)).observe(after.as_secs_f64());
    }

    /// An attempt at a backend ended.
    pub fn attempt(&self, backend: &Arc<str>, outcome: &'static str) {
        self.attempts.get_or_create(&outcome_of(backend, outcome)).inc();
    }

    /// An attempt after the first begins.
    pub fn retry(&self, backend: &Arc<str>) {
        self.retries.get_or_create(&of(backend)).inc();
    }

    /// The first content came.
    pub fn first_token(&self, backend: &Arc<str>, after: Duration) {
        self.first_token
            .get_or_create(&of(backend))
            .observe(after.as_secs_f64());
    }

    /// A backend reported usage.
    pub fn usage(&self, backend: &Arc<str>, usage: &Usage) {
        let counts = [
            ("input", usage.input_tokens),
            ("cached_input", usage.cached_input_tokens),
            ("cache_write_input", usage.cache_write_input_tokens),
            ("output", usage.output_tokens),
            ("reasoning_output", usage.reasoning_output_tokens),
        ];
        for (kind, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            let labels = Tokens {
                backend: Arc::clone(backend),
                kind,
            };
            self.tokens.get_or_create(&labels).inc_by(count);
        }
    }

    /// An event was left out because it was no JSON.
    pub fn malformed_event(&self) {
        self.malformed.inc();
    }

    /// An answer came whose provider says that its content filter was down.
    pub fn unfiltered_answer(&self) {
        self.unfiltered.inc();
    }

    /// A request found no room in the share of a rate limit: it `waited`, or it was `refused` after that.
    pub fn share_short(&self, backend: &Arc<str>, outcome: &'static str) {
        let backend = Arc::clone(backend);
        self.share_short.get_or_create(&Shortage { backend, outcome }).inc();
    }

    /// The admission as it is.
    pub fn admission(&self, waiting: usize, working: usize) {
        self.queue_depth.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.in_flight.set(i64::try_from(working).unwrap_or(i64::MAX));
    }

    /// Requests that wait for a local pod.
    pub fn held(&self, count: usize) {
        self.held.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A request was turned away before any backend was asked.
    pub fn shed(&self, reason: &'static str) {
        self.shed.get_or_create(&Reason { reason }).inc();
    }

    /// A caller was refused.
    pub fn refused(&self, port: &'static str, reason: &'static str) {
        self.refused.get_or_create(&Refusal { port, reason }).inc();
    }

    /// A request was not sent to a backend for the budget's sake.
    pub fn refused_for_budget(&self, backend: &Arc<str>, reason: BudgetRefusal) {
        let labels = OfBudget {
            backend: Arc::clone(backend),
            reason: reason.as_str(),
        };
        self.budget_refusals.get_or_create(&labels).inc();
    }

    /// The text format, circuits and shares read at this moment.
    pub fn text(&self, backends: &backends::Registry) -> Result<String, std::fmt::Error> {
        self.circuits.clear();
        for backend in &backends.routing().backends {
            let Kind::Remote(remote) = &backend.kind else { continue };
            for (scope, breaker) in remote.circuits() {
                let labels = OfCircuit {
                    backend: Arc::clone(&backend.name),
                    scope: scope_label(scope),
                };
                self.circuits.get_or_create(&labels).set(level(breaker.view().state));
            }
        }
        self.share.clear();
        for backend in &backends.routing().backends {
            let Kind::Remote(remote) = &backend.kind else { continue };
            for (kind, per_minute) in remote.share.iter().flat_map(|share| share.kept()) {
                let labels = Tokens {
                    backend: Arc::clone(&backend.name),
                    kind,
                };
                self.share.get_or_create(&labels).set(per_minute);
            }
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

const fn scope_label(scope: crate::api::CircuitScope) -> &'static str {
    match scope {
        crate::api::CircuitScope::Endpoint => "endpoint",
        crate::api::CircuitScope::Credential => "credential",
    }
}

const fn level(state: CircuitState) -> i64 {
    match state {
        CircuitState::Closed | CircuitState::ForcedClosed => 0,
        CircuitState::HalfOpen => 1,
        CircuitState::Open | CircuitState::ForcedOpen => 2,
    }
}

fn of(backend: &Arc<str>) -> OfBackend {
    OfBackend {
        backend: Arc::clone(backend),
    }
}

fn outcome_of(backend: &Arc<str>, outcome: &'static str) -> Outcome {
    Outcome {
        backend: Arc::clone(backend),
        outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn the_document_has_all_metrics() {
        let metrics = Metrics::default();
        // Each by its name: a new one is missed here. One without a series is not in the text.
        let Metrics {
            registry,
            requests,
            attempts,
            retries,
            tokens,
            duration,
            first_token,
            circuits,
            share,
            share_short,
            queue_depth: _,
            held: _,
            in_flight: _,
            shed,
            refused,
            budget_refusals,
            malformed: _,
            unfiltered: _,
            nobody,
        } = &metrics;
        let backend = || Arc::clone(nobody);
        let tokens_of = || Tokens {
            backend: backend(),
            kind: "",
        };
        drop(requests.get_or_create(&outcome_of(nobody, "")));
        drop(attempts.get_or_create(&outcome_of(nobody, "")));
        drop(retries.get_or_create(&of(nobody)));
        drop(tokens.get_or_create(&tokens_of()));
        drop(duration.get_or_create(&of(nobody)));
        drop(first_token.get_or_create(&of(nobody)));
        drop(circuits.get_or_create(&OfCircuit {
            backend: backend(),
            scope: "",
        }));
        drop(share.get_or_create(&tokens_of()));
        drop(share_short.get_or_create(&Shortage {
            backend: backend(),
            outcome: "",
        }));
        drop(shed.get_or_create(&Reason { reason: "" }));
        drop(refused.get_or_create(&Refusal { port: "", reason: "" }));
        drop(budget_refusals.get_or_create(&OfBudget {
            backend: backend(),
            reason: "",
        }));
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        assert_eq!(documented::runtime(), documented::exposed(&text));
    }
}
