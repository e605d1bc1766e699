//! How a circuit behaves, and the times that replicas and controller must agree on.

use std::time::Duration;

use crate::api::{CircuitBreaker, CircuitOverride, RemoteBackend};

/// From a token's acceptance until the controller counts its probe as failed, beyond the time that a first token may take.
const PROBE: Duration = Duration::from_secs(30);
/// The holder judges its probe so much earlier, so that the verdict arrives.
const REPORT: Duration = Duration::from_secs(10);
/// The most that jitter adds to an open time, as a share of it.
const JITTER_SHARE: f64 = 0.25;

/// How a circuit behaves; see [`CircuitBreaker`] for the fields.
#[derive(Clone, Debug, PartialEq)]
pub struct CircuitConfig {
    /// Failures in a row that open it.
    pub consecutive_failures: u32,
    /// Share of failures that opens it.
    pub failure_ratio: f64,
    /// Calls below which the ratio does not count.
    pub minimum_requests: u32,
    /// Time constant of the ratio's decay, and how long a judged call gives a vote.
    pub window: Duration,
    /// How long it stays open at first.
    pub open_duration: Duration,
    /// How long it stays open at most.
    pub max_open_duration: Duration,
    /// Requests let through while half-open.
    pub half_open_probes: u32,
    /// What people force.
    pub forced: CircuitOverride,
    /// How long the first token of an answer may take.
    pub first_token: Duration,
}

impl CircuitConfig {
    /// How long a circuit stays open after the trip with this number, from 1: doubled with every trip, up to the maximum; jitter in
    /// `[0, 1)` only lengthens, so that no replica comes early.
    #[must_use]
    pub fn open_for(&self, trips: u32, jitter: f64) -> Duration {
        let doublings = trips.saturating_sub(1).min(31);
        let span = self
            .open_duration
            .saturating_mul(1 << doublings)
            .min(self.max_open_duration);
        span.saturating_add(span.mul_f64(JITTER_SHARE * jitter.clamp(0.0, 1.0)))
    }

    /// The same, with the wait that the backend asked for, and never longer than the maximum.
    #[must_use]
    pub fn wait(&self, trips: u32, asked: Option<Duration>, jitter: f64) -> Duration {
        self.open_for(trips, jitter)
            .max(asked.unwrap_or_default())
            .min(self.max_open_duration)
    }

    /// From a token's acceptance, as the controller sees it, until its probe counts as failed.
    #[must_use]
    pub const fn probe_deadline(&self) -> Duration {
        self.first_token.saturating_add(PROBE)
    }

    /// From the sight of a token until its holder judges the probe: a stream that is healthy then counts as success.
    #[must_use]
    pub const fn verdict_deadline(&self) -> Duration {
        self.probe_deadline().saturating_sub(REPORT)
    }
}

impl From<&CircuitBreaker> for CircuitConfig {
    fn from(spec: &CircuitBreaker) -> Self {
        Self {
            consecutive_failures: spec.consecutive_failures(),
            failure_ratio: spec.failure_ratio(),
            minimum_requests: spec.minimum_requests(),
            window: spec.window(),
            open_duration: spec.open_duration(),
            max_open_duration: spec.max_open_duration(),
            half_open_probes: spec.half_open_probes(),
            forced: spec.forced(),
            first_token: crate::api::Timeouts::default().first_token(),
        }
    }
}

impl From<&RemoteBackend> for CircuitConfig {
    fn from(spec: &RemoteBackend) -> Self {
        let breaker = spec.circuit_breaker.as_ref().map_or_else(Self::default, Self::from);
        Self {
            first_token: spec.timeouts.clone().unwrap_or_default().first_token(),
            ..breaker
        }
    }
}

impl Default for CircuitConfig {
    fn default() -> Self {
        Self::from(&CircuitBreaker::default())
    }
}
