//! Metrics of the controller. All labels are closed sets, but for the deployments that have a budget.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use super::call::CallError;
use crate::api::BudgetStatus;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabel {
    verb: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// What became of money.
const STATES: [&str; 4] = ["limit", "settled", "uncertain", "leased"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeploymentLabel {
    namespace: String,
    name: String,
}

impl DeploymentLabel {
    fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AmountLabel {
    namespace: String,
    name: String,
    state: &'static str,
}

impl AmountLabel {
    fn new(namespace: &str, name: &str, state: &'static str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            state,
        }
    }
}

/// A write to the API server.
#[derive(Clone, Copy, Debug)]
pub enum Verb {
    /// A child was created.
    Create,
    /// A child was applied.
    Apply,
    /// managedFields were taken over.
    Patch,
    /// A child was deleted.
    Delete,
    /// A status was applied.
    Status,
}

impl Verb {
    const fn label(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Apply => "apply",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::Status => "status",
        }
    }
}

/// What became of an event.
#[derive(Clone, Copy, Debug)]
pub enum EventResult {
    /// Written.
    Published,
    /// Held back by the limits or because the queue was full.
    Dropped,
    /// Refused by the API server.
    Failed,
}

/// The controller's metrics and their registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Family<ResultLabel, Counter>,
    duration: Histogram,
    writes: Family<VerbLabel, Counter>,
    errors: Family<ReasonLabel, Counter>,
    events: Family<ResultLabel, Counter>,
    leader: Gauge<i64, AtomicI64>,
    budget: Family<AmountLabel, Gauge<f64, AtomicU64>>,
    denials: Family<DeploymentLabel, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("inference_controller"),
            reconciles: Family::default(),
            duration: Histogram::new(exponential_buckets(0.001, 4.0, 8)),
            writes: Family::default(),
            errors: Family::default(),
            events: Family::default(),
            leader: Gauge::default(),
            budget: Family::default(),
            denials: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("reconciles", "Reconciles by result", self.reconciles.clone());
        registry.register(
            "reconcile_duration_seconds",
            "Time a reconcile took",
            self.duration.clone(),
        );
        registry.register("writes", "Writes to the API server by verb", self.writes.clone());
        registry.register(
            "api_errors",
            "Failed calls to the API server by reason",
            self.errors.clone(),
        );
        registry.register("events", "Events by what became of them", self.events.clone());
        registry.register("leader", "1 while this process holds the Lease", self.leader.clone());
        registry.register(
            "budget_usd",
            "Money of the current window by what became of it",
            self.budget.clone(),
        );
        registry.register(
            "budget_refused_wants",
            "Wants of replicas for which a window had no money left",
            self.denials.clone(),
        );
    }

    /// Counts a reconcile of `seconds`.
    pub fn reconciled(&self, result: &'static str, seconds: f64) {
        self.reconciles.get_or_create(&ResultLabel { result }).inc();
        self.duration.observe(seconds);
    }

    /// Counts a write.
    pub fn wrote(&self, verb: Verb) {
        self.writes.get_or_create(&VerbLabel { verb: verb.label() }).inc();
    }

    /// Counts a failed call.
    pub fn call_failed(&self, error: &CallError) {
        self.errors.get_or_create(&ReasonLabel { reason: error.label() }).inc();
    }

    /// Counts an interrupted watch.
    pub fn watch_failed(&self) {
        self.errors.get_or_create(&ReasonLabel { reason: "watch" }).inc();
    }

    /// Counts an event.
    pub fn event(&self, result: EventResult) {
        let result = match result {
            EventResult::Published => "published",
            EventResult::Dropped => "dropped",
            EventResult::Failed => "failed",
        };
        self.events.get_or_create(&ResultLabel { result }).inc();
    }

    /// Says whether this process leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Says how the budget of a deployment stands.
    pub fn budget(&self, namespace: &str, name: &str, ledger: &BudgetStatus) {
        let BudgetStatus {
            limit,
            settled,
            uncertain,
            leased,
            ..
        } = ledger;
        let amounts = [*limit, *settled, *uncertain, *leased];
        for (state, amount) in STATES.into_iter().zip(amounts) {
            let label = AmountLabel::new(namespace, name, state);
            self.budget.get_or_create(&label).set(amount.as_usd());
        }
        // Shown from the beginning, so that the first denial is a rise.
        drop(self.denials.get_or_create(&DeploymentLabel::new(namespace, name)));
    }

    /// Counts a want that was denied.
    pub fn denied(&self, namespace: &str, name: &str) {
        self.denials.get_or_create(&DeploymentLabel::new(namespace, name)).inc();
    }

    /// Forgets a deployment that is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        for state in STATES {
            self.budget.remove(&AmountLabel::new(namespace, name, state));
        }
        self.denials.remove(&DeploymentLabel::new(namespace, name));
    }

    /// The text form of all metrics.
    ///
    /// # Errors
    /// When formatting fails, which it does not for a String.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::NanoUsd, documented};

    #[test]
    fn the_document_has_all_metrics() {
        let metrics = Metrics::default();
        // Each by its name: a new one is missed here. One without a series is not in the text.
        let Metrics {
            registry,
            reconciles,
            duration: _,
            writes,
            errors,
            events,
            leader: _,
            budget,
            denials,
        } = &metrics;
        drop(reconciles.get_or_create(&ResultLabel { result: "" }));
        drop(writes.get_or_create(&VerbLabel { verb: "" }));
        drop(errors.get_or_create(&ReasonLabel { reason: "" }));
        drop(events.get_or_create(&ResultLabel { result: "" }));
        drop(budget.get_or_create(&AmountLabel::new("", "", "")));
        drop(denials.get_or_create(&DeploymentLabel::new("", "")));
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        assert_eq!(documented::controller(), documented::exposed(&text));
    }

    #[test]
    fn the_text_has_the_names_that_dashboards_know() {
        let metrics = Metrics::default();
        metrics.wrote(Verb::Create);
        metrics.reconciled("ok", 0.01);
        metrics.event(EventResult::Dropped);
        metrics.leads(true);
        let ledger = BudgetStatus {
            settled: NanoUsd(1_500_000_000),
            ..BudgetStatus::default()
        };
        metrics.budget("prod", "gone", &ledger);
        metrics.forget("prod", "gone");
        metrics.budget("prod", "assistant", &ledger);
        metrics.denied("prod", "assistant");
        let text = metrics.text().unwrap();
        for line in [
            "inference_controller_writes_total{verb=\"create\"} 1",
            "inference_controller_reconciles_total{result=\"ok\"} 1",
            "inference_controller_events_total{result=\"dropped\"} 1",
            "inference_controller_leader 1",
            "inference_controller_budget_usd{namespace=\"prod\",name=\"assistant\",state=\"settled\"} 1.5",
            "inference_controller_budget_refused_wants_total{namespace=\"prod\",name=\"assistant\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("gone"), "{text}");
    }
}
