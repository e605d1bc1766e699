//! The breaker of one backend, as one process sees it (design section 9).
//!
//! Closed → Open (exponential, jittered, never shortened by a later failure) → HalfOpen with exactly `half_open_probes` requests →
//! Closed with slow start, or Open again for longer. A verdict counts only in the epoch its permit was given in, so the success of a
//! request sent before the trip never closes the circuit.

use std::time::Duration;

use crate::{
    api::{CircuitBreaker, CircuitOverride, CircuitState},
    error::ErrorKind,
};

mod ratio;
#[cfg(test)]
mod tests;

use ratio::FailureRatio;

/// Requests that slow start lets through at once before it ends.
const SLOW_START_END: u32 = 64;
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
    /// Time constant of the ratio's decay.
    pub window: Duration,
    /// How long it stays open at first.
    pub open_duration: Duration,
    /// How long it stays open at most.
    pub max_open_duration: Duration,
    /// Requests let through while half-open.
    pub half_open_probes: u32,
    /// What people force.
    pub forced: CircuitOverride,
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
        }
    }
}

impl Default for CircuitConfig {
    fn default() -> Self {
        Self::from(&CircuitBreaker::default())
    }
}

/// Leave to send one request. It must come back through [`Circuit::record`], as [`Verdict::NotCounted`] when nothing was learnt.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is never recorded holds a probe for ever"]
pub struct Permit {
    epoch: u64,
    probe: bool,
}

impl Permit {
    /// True for a request that decides whether the circuit closes.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.probe
    }
}

/// No leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// When the circuit opened.
    pub opened_at: Duration,
    /// When it may be asked again.
    pub retry_at: Duration,
}

/// What a finished request says of its backend, judged at the end of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The backend works.
    Success,
    /// The backend is sick.
    Failure {
        /// How.
        kind: ErrorKind,
        /// The wait that the backend asked for.
        retry_after: Option<Duration>,
    },
    /// Nothing was learnt: a rate limit, the caller's fault, a local refusal, an own cancellation.
    NotCounted,
}

/// A change that people and peers must hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Closed or HalfOpen → Open.
    Opened,
    /// HalfOpen → Closed.
    Closed,
}

/// The circuit for status and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitView {
    /// State, the override included.
    pub state: CircuitState,
    /// When it opened.
    pub opened_at: Option<Duration>,
    /// When the next probe may be sent.
    pub retry_at: Option<Duration>,
    /// Times it opened since it was last healthy.
    pub trips: u32,
    /// What opened it.
    pub last_error: Option<ErrorKind>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed {
        in_flight: u32,
        slow_start: Option<u32>,
    },
    Open {
        opened_at: Duration,
        until: Duration,
    },
    HalfOpen {
        opened_at: Duration,
        in_flight: u32,
        succeeded: u32,
    },
}

const HEALTHY: State = State::Closed {
    in_flight: 0,
    slow_start: None,
};

/// The breaker.
#[derive(Debug)]
pub struct Circuit {
    config: CircuitConfig,
    state: State,
    epoch: u64,
    consecutive: u32,
    ratio: FailureRatio,
    trips: u32,
    last_error: Option<ErrorKind>,
}

impl Circuit {
    /// A closed circuit.
    #[must_use]
    pub const fn new(config: CircuitConfig) -> Self {
        Self {
            config,
            state: HEALTHY,
            epoch: 0,
            consecutive: 0,
            ratio: FailureRatio::EMPTY,
            trips: 0,
            last_error: None,
        }
    }

    /// Takes a new configuration and forgets nothing.
    pub fn reconfigure(&mut self, config: CircuitConfig) {
        self.config = config;
    }

    /// Asks for leave to send one request.
    ///
    /// # Errors
    /// [`Refused`] while open, while all probes are out, while slow start is full, or when forced open.
    pub fn admit(&mut self, now: Duration) -> Result<Permit, Refused> {
        match self.config.forced {
            CircuitOverride::ForceOpen => return Err(self.refuse(now)),
            CircuitOverride::ForceClosed => return Ok(self.permit(false)),
            CircuitOverride::Auto => {}
        }
        if let State::Open { opened_at, until } = self.state
            && now >= until
        {
            self.epoch += 1;
            self.state = State::HalfOpen {
                opened_at,
                in_flight: 0,
                succeeded: 0,
            };
        }
        self.admit_auto(now)
    }

    fn admit_auto(&mut self, now: Duration) -> Result<Permit, Refused> {
        match &mut self.state {
            State::Closed { in_flight, slow_start } if slow_start.is_none_or(|most| *in_flight < most) => {
                *in_flight = in_flight.saturating_add(1);
                Ok(self.permit(false))
            }
            State::HalfOpen {
                in_flight, succeeded, ..
            } if *in_flight + *succeeded < self.config.half_open_probes => {
                *in_flight += 1;
                Ok(self.permit(true))
            }
            _ => Err(self.refuse(now)),
        }
    }

    const fn permit(&self, probe: bool) -> Permit {
        Permit {
            epoch: self.epoch,
            probe,
        }
    }

    const fn refuse(&self, now: Duration) -> Refused {
        match self.state {
            State::Open { opened_at, until } => Refused {
                opened_at,
                retry_at: until,
            },
            State::HalfOpen { opened_at, .. } => Refused {
                opened_at,
                retry_at: now,
            },
            State::Closed { .. } => Refused {
                opened_at: now,
                retry_at: now,
            },
        }
    }

    /// Takes the verdict on a request. `jitter` is a random number in `[0, 1)`.
    pub fn record(&mut self, permit: Permit, verdict: Verdict, now: Duration, jitter: f64) -> Option<Transition> {
        let Permit { epoch, probe: _ } = permit;
        if epoch != self.epoch {
            return None;
        }
        match self.state {
            State::Closed { .. } => self.record_closed(verdict, now, jitter),
            State::HalfOpen { .. } => self.record_probe(verdict, now, jitter),
            State::Open { .. } => None,
        }
    }

    fn record_closed(&mut self, verdict: Verdict, now: Duration, jitter: f64) -> Option<Transition> {
        self.leave_slow_start(verdict);
        match verdict {
            Verdict::NotCounted => None,
            Verdict::Success => {
                self.consecutive = 0;
                self.ratio.add(false, now, self.config.window);
                None
            }
            Verdict::Failure { kind, retry_after } => {
                self.consecutive = self.consecutive.saturating_add(1);
                self.ratio.add(true, now, self.config.window);
                self.must_open().then(|| self.open(kind, retry_after, now, jitter))
            }
        }
    }

    /// Every success lets one more request through at once; past [`SLOW_START_END`] the circuit counts as healthy.
    fn leave_slow_start(&mut self, verdict: Verdict) {
        let State::Closed { in_flight, slow_start } = &mut self.state else {
            return;
        };
        *in_flight = in_flight.saturating_sub(1);
        if let (Some(most), Verdict::Success) = (slow_start.as_mut(), verdict) {
            *most += 1;
            if *most > SLOW_START_END {
                *slow_start = None;
                self.trips = 0;
                self.last_error = None;
            }
        }
    }

    fn must_open(&self) -> bool {
        self.consecutive >= self.config.consecutive_failures
            || self
                .ratio
                .reaches(self.config.failure_ratio, self.config.minimum_requests)
    }

    fn record_probe(&mut self, verdict: Verdict, now: Duration, jitter: f64) -> Option<Transition> {
        let State::HalfOpen {
            in_flight, succeeded, ..
        } = &mut self.state
        else {
            return None;
        };
        *in_flight = in_flight.saturating_sub(1);
        match verdict {
            Verdict::NotCounted => None,
            Verdict::Failure { kind, retry_after } => Some(self.open(kind, retry_after, now, jitter)),
            Verdict::Success => {
                *succeeded += 1;
                (*succeeded >= self.config.half_open_probes).then(|| self.close())
            }
        }
    }

    fn close(&mut self) -> Transition {
        self.epoch += 1;
        self.consecutive = 0;
        self.ratio = FailureRatio::EMPTY;
        self.state = State::Closed {
            in_flight: 0,
            slow_start: Some(self.config.half_open_probes.max(1) * 2),
        };
        Transition::Closed
    }

    /// Opens at once, whatever the counts say: a refused credential, a poisoned context. An open circuit stays as it is.
    pub fn open_now(&mut self, kind: ErrorKind, now: Duration, jitter: f64) -> Option<Transition> {
        if matches!(self.state, State::Open { .. }) {
            return None;
        }
        Some(self.open(kind, None, now, jitter))
    }

    fn open(&mut self, kind: ErrorKind, retry_after: Option<Duration>, now: Duration, jitter: f64) -> Transition {
        self.epoch += 1;
        self.trips = self.trips.saturating_add(1);
        self.last_error = Some(kind);
        self.consecutive = 0;
        self.ratio = FailureRatio::EMPTY;
        let wait = self
            .open_for(jitter)
            .max(retry_after.unwrap_or_default())
            .min(self.config.max_open_duration);
        self.state = State::Open {
            opened_at: now,
            until: now.saturating_add(wait),
        };
        Transition::Opened
    }

    /// Doubles with every trip, up to the maximum; jitter only lengthens, so that no replica comes early.
    fn open_for(&self, jitter: f64) -> Duration {
        let doublings = self.trips.saturating_sub(1).min(31);
        let span = self
            .config
            .open_duration
            .saturating_mul(1 << doublings)
            .min(self.config.max_open_duration);
        span.saturating_add(span.mul_f64(JITTER_SHARE * jitter.clamp(0.0, 1.0)))
    }

    /// The cause is mended (a key changed): an open circuit may be probed at once. Returns true when that changed anything.
    pub fn earn_probe(&mut self, now: Duration) -> bool {
        match &mut self.state {
            State::Open { until, .. } if *until > now => {
                *until = now;
                true
            }
            _ => false,
        }
    }

    /// The circuit for status and metrics.
    #[must_use]
    pub fn view(&self) -> CircuitView {
        let (state, opened_at, retry_at) = match self.state {
            State::Closed { .. } => (CircuitState::Closed, None, None),
            State::Open { opened_at, until } => (CircuitState::Open, Some(opened_at), Some(until)),
            State::HalfOpen { opened_at, .. } => (CircuitState::HalfOpen, Some(opened_at), None),
        };
        let state = match self.config.forced {
            CircuitOverride::Auto => state,
            CircuitOverride::ForceOpen => CircuitState::ForcedOpen,
            CircuitOverride::ForceClosed => CircuitState::ForcedClosed,
        };
        CircuitView {
            state,
            opened_at,
            retry_at,
            trips: self.trips,
            last_error: self.last_error,
        }
    }
}
