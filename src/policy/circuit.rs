//! The breaker of one backend, as one process sees it (design section 9).
//!
//! Closed → Open (exponential, jittered, never shortened by a later failure) → HalfOpen with exactly `half_open_probes` requests →
//! Closed with slow start, or Open again for longer. A verdict counts only in the round its permit was given in, so the success of a
//! request sent before the trip never closes the circuit. Above it is the circuit of all replicas ([`merge`]): while that is open this
//! one is held and probes only with a token.

use std::time::Duration;

use crate::{
    api::{CircuitOverride, CircuitState, ProbeReport},
    error::ErrorKind,
};

mod config;
mod held;
pub mod marks;
pub mod merge;
mod probes;
mod ratio;
mod refusal;
#[cfg(test)]
mod tests;
mod types;
mod wire;

pub use config::CircuitConfig;
pub use refusal::Refusal;
pub use types::{CircuitView, OpenForAll, Permit, Refused, Transition, Verdict, Word};
pub use wire::Label;

use held::{Held, Update};
use probes::Probes;
use ratio::FailureRatio;
use types::PermitKind;

/// Requests that slow start lets through at once before it ends.
const SLOW_START_END: u32 = 64;

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
        probes: Probes,
        /// A stream that is healthy then counts as success.
        verdict_by: Option<Duration>,
    },
    /// Open for all replicas.
    Held(Held),
}

const HEALTHY: State = State::Closed {
    in_flight: 0,
    slow_start: None,
};

/// Where the merged circuit stands, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
struct Followed {
    epoch: u64,
    sequence: u64,
}

/// The breaker.
#[derive(Debug)]
pub struct Circuit {
    config: CircuitConfig,
    state: State,
    round: u64,
    consecutive: u32,
    ratio: FailureRatio,
    trips: u32,
    last_error: Option<ErrorKind>,
    followed: Option<Followed>,
}

impl Circuit {
    /// A closed circuit.
    #[must_use]
    pub const fn new(config: CircuitConfig) -> Self {
        Self {
            config,
            state: HEALTHY,
            round: 0,
            consecutive: 0,
            ratio: FailureRatio::EMPTY,
            trips: 0,
            last_error: None,
            followed: None,
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
            CircuitOverride::ForceOpen => Err(self.refuse(now)),
            CircuitOverride::ForceClosed => {
                Ok(self.admit_auto(now).unwrap_or_else(|_| self.permit(PermitKind::Forced)))
            }
            CircuitOverride::Auto => self.admit_auto(now),
        }
    }

    fn admit_auto(&mut self, now: Duration) -> Result<Permit, Refused> {
        if let State::Open { opened_at, until } = self.state
            && now >= until
        {
            self.round += 1;
            self.state = State::HalfOpen {
                opened_at,
                probes: Probes::new(self.config.half_open_probes),
                verdict_by: None,
            };
        }
        let kind = self.take(now).ok_or_else(|| self.refuse(now))?;
        Ok(self.permit(kind))
    }

    fn take(&mut self, now: Duration) -> Option<PermitKind> {
        match &mut self.state {
            State::Closed { in_flight, slow_start } => {
                if slow_start.is_some_and(|most| *in_flight >= most) {
                    return None;
                }
                *in_flight = in_flight.saturating_add(1);
                Some(PermitKind::Regular)
            }
            State::HalfOpen { probes, verdict_by, .. } => probes.take().then(|| {
                verdict_by.get_or_insert(now.saturating_add(self.config.probe_deadline()));
                PermitKind::Probe
            }),
            State::Held(held) => held.admit(now).then_some(PermitKind::Probe),
            State::Open { .. } => None,
        }
    }

    const fn permit(&self, kind: PermitKind) -> Permit {
        Permit {
            round: self.round,
            kind,
            begun: false,
        }
    }

    fn refuse(&self, now: Duration) -> Refused {
        let (opened_at, retry_at) = match self.state {
            State::Open { opened_at, until } => (opened_at, until),
            State::Held(held) => (held.opened_at, held.retry_at.max(now)),
            State::HalfOpen { opened_at, .. } => (opened_at, now),
            State::Closed { .. } => (now, now),
        };
        Refused { opened_at, retry_at }
    }

    /// The first content of an answer has come. A probe that has come so far is healthy as long as it does not fail.
    pub fn begun(&mut self, permit: &mut Permit) {
        if permit.round != self.round || !permit.is_probe() || permit.begun {
            return;
        }
        permit.begun = true;
        match &mut self.state {
            State::HalfOpen { probes, .. } => probes.begin(),
            State::Held(held) => held.begun(),
            State::Closed { .. } | State::Open { .. } => {}
        }
    }

    /// Takes the verdict on a request. `jitter` is a random number in `[0, 1)`.
    pub fn record(&mut self, permit: Permit, verdict: Verdict, now: Duration, jitter: f64) -> Option<Transition> {
        if permit.round != self.round {
            return None;
        }
        match (&mut self.state, permit.kind) {
            (State::Closed { .. }, PermitKind::Regular) => {
                self.leave_slow_start(verdict);
                self.count(verdict, now, jitter)
            }
            (State::Closed { .. }, _) => self.count(verdict, now, jitter),
            (State::HalfOpen { .. }, PermitKind::Probe) => self.record_probe(&permit, verdict, now, jitter),
            (State::Held(held), PermitKind::Probe) if !held.is_over() => {
                let over = held.record(&permit, verdict, now, &self.config);
                if let Verdict::Failure { kind, .. } = verdict {
                    self.last_error = Some(kind);
                }
                over.then_some(Transition::Probe)
            }
            _ => None,
        }
    }

    fn count(&mut self, verdict: Verdict, now: Duration, jitter: f64) -> Option<Transition> {
        match verdict {
            Verdict::NotCounted | Verdict::Unsent => None,
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

    fn record_probe(&mut self, permit: &Permit, verdict: Verdict, now: Duration, jitter: f64) -> Option<Transition> {
        let State::HalfOpen { probes, .. } = &mut self.state else {
            return None;
        };
        match verdict {
            Verdict::Failure { kind, retry_after } => return Some(self.open(kind, retry_after, now, jitter)),
            Verdict::NotCounted | Verdict::Unsent => probes.give_back(permit.begun),
            Verdict::Success => probes.succeed(permit.begun),
        }
        probes.spent().then(|| self.close())
    }

    /// Time has passed: a probe's stream that is still healthy counts as success, a token without traffic is handed back.
    pub fn tick(&mut self, now: Duration) -> Option<Transition> {
        match &mut self.state {
            State::Held(held) => held.tick(now, &self.config).then_some(Transition::Probe),
            State::HalfOpen { probes, verdict_by, .. } => {
                if verdict_by.is_none_or(|by| now < by) || probes.in_flight() == 0 || !probes.conclude() {
                    return None;
                }
                *verdict_by = None;
                // What these streams come to later counts no more.
                self.round += 1;
                probes.spent().then(|| self.close())
            }
            State::Closed { .. } | State::Open { .. } => None,
        }
    }

    fn close(&mut self) -> Transition {
        self.round += 1;
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
        match self.state {
            State::Open { .. } | State::Held(_) => None,
            State::Closed { .. } | State::HalfOpen { .. } => Some(self.open(kind, None, now, jitter)),
        }
    }

    fn open(&mut self, kind: ErrorKind, retry_after: Option<Duration>, now: Duration, jitter: f64) -> Transition {
        self.round += 1;
        self.trips = self.trips.saturating_add(1);
        self.last_error = Some(kind);
        self.consecutive = 0;
        self.ratio = FailureRatio::EMPTY;
        self.state = State::Open {
            opened_at: now,
            until: now.saturating_add(self.config.wait(self.trips, retry_after, jitter)),
        };
        Transition::Opened
    }

    /// The cause is mended (a key changed): a circuit that this replica holds open by itself may be probed at once. Returns true when
    /// that changed anything.
    pub fn earn_probe(&mut self, now: Duration) -> bool {
        match &mut self.state {
            State::Open { until, .. } if *until > now => {
                *until = now;
                true
            }
            _ => false,
        }
    }

    /// Follows the merged circuit. What is older than what was followed before is ignored; `recorded` is the probe report that the same
    /// state of the object holds.
    pub fn obey(&mut self, word: &Word, recorded: Option<ProbeReport>, now: Duration) -> Option<Transition> {
        if self.followed.is_some_and(|f| word.sequence < f.sequence) {
            return None;
        }
        let newer = self.followed.is_none_or(|f| word.sequence > f.sequence);
        let transition = match (&word.open, word.binds) {
            (Some(open), true) => self.hold(open, recorded, now),
            (Some(_), false) => self.release(now),
            (None, _) if newer => self.follow_closed(word.epoch),
            (None, _) => None,
        };
        self.followed = Some(Followed {
            epoch: word.epoch,
            sequence: word.sequence,
        });
        transition
    }

    fn hold(&mut self, open: &OpenForAll, recorded: Option<ProbeReport>, now: Duration) -> Option<Transition> {
        let was_closed = matches!(self.state, State::Closed { .. });
        if !matches!(self.state, State::Held(_)) {
            self.round += 1;
            self.state = State::Held(Held::new(open));
        }
        self.trips = open.trips;
        self.last_error = open.last_error.or(self.last_error);
        let State::Held(held) = &mut self.state else {
            return None;
        };
        let update = held.update(open, recorded, now);
        if update != Update::Nothing {
            // Verdicts on probes of an earlier token count no more.
            self.round += 1;
        }
        if was_closed {
            Some(Transition::Opened)
        } else {
            (update == Update::Token).then_some(Transition::Probe)
        }
    }

    /// The acceptance of a probe token stands in our object: written over the state that carried the token.
    pub fn accepted(&mut self, sequence: u64) {
        if let State::Held(held) = &mut self.state {
            held.accepted(sequence);
        }
    }

    /// The merged circuit speaks of another key: ours may be probed at once.
    fn release(&mut self, now: Duration) -> Option<Transition> {
        if let State::Held(held) = self.state {
            self.round += 1;
            self.state = State::Open {
                opened_at: held.opened_at,
                until: now,
            };
        }
        None
    }

    /// Closed for all: what was held, or opened in an earlier epoch, closes with slow start. What this replica opened for itself stays.
    fn follow_closed(&mut self, epoch: u64) -> Option<Transition> {
        let stale = self.followed.is_some_and(|f| epoch > f.epoch);
        let closes = match self.state {
            State::Held(_) => true,
            State::Open { .. } | State::HalfOpen { .. } => stale,
            State::Closed { .. } => false,
        };
        closes.then(|| self.close())
    }

    /// True when requests were refused of late while the circuit is open for all.
    #[must_use]
    pub fn demand(&self, now: Duration) -> bool {
        matches!(&self.state, State::Held(held) if held.demand(now))
    }

    /// The circuit for status and metrics.
    #[must_use]
    pub fn view(&self, now: Duration) -> CircuitView {
        let followed = self.followed.unwrap_or_default();
        let plain = CircuitView {
            state: CircuitState::Closed,
            opened_at: None,
            retry_at: None,
            trips: self.trips,
            last_error: self.last_error,
            epoch: followed.epoch,
            sequence: followed.sequence,
            judged: self.ratio.judged_within(now, self.config.window),
            demand: false,
            probe: None,
            accepting: false,
        };
        let view = self.describe(now, plain);
        CircuitView {
            state: match self.config.forced {
                CircuitOverride::Auto => view.state,
                CircuitOverride::ForceOpen => CircuitState::ForcedOpen,
                CircuitOverride::ForceClosed => CircuitState::ForcedClosed,
            },
            ..view
        }
    }

    fn describe(&self, now: Duration, view: CircuitView) -> CircuitView {
        match &self.state {
            State::Closed { .. } => view,
            State::Open { opened_at, until } => CircuitView {
                state: CircuitState::Open,
                opened_at: Some(*opened_at),
                retry_at: Some(*until),
                ..view
            },
            State::HalfOpen { opened_at, .. } => CircuitView {
                state: CircuitState::HalfOpen,
                opened_at: Some(*opened_at),
                ..view
            },
            State::Held(held) => held.describe(now, view),
        }
    }
}
