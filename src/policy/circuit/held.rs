//! A circuit that is open for all, as one replica holds it: nothing is sent without a probe token, and a token allows nothing before
//! its acceptance stands in the object that carries it. What was open for all stays so until the merged circuit closes.

use std::time::Duration;

use super::{
    CircuitConfig, OpenForAll,
    probes::Probes,
    types::{CircuitView, Permit, Verdict},
};
use crate::api::{CircuitState, ProbeOutcome, ProbeReport, ProbeToken};

/// A token that found no request for so long after it came is handed back.
const HOLD: Duration = Duration::from_secs(15);
/// A refused request is demand for so long.
const DEMAND: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) opened_at: Duration,
    pub(super) retry_at: Duration,
    refused_at: Option<Duration>,
    turn: Option<Turn>,
}

/// A token and what was made of it.
#[derive(Clone, Copy, Debug)]
struct Turn {
    token: ProbeToken,
    seen_at: Duration,
    accepted: bool,
    probes: Probes,
    ended: Option<ProbeReport>,
}

/// What a word changed about the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    Nothing,
    /// There is another one.
    Token,
    /// It was taken back.
    Gone,
}

impl Held {
    pub(super) const fn new(open: &OpenForAll) -> Self {
        Self {
            opened_at: open.opened_at,
            retry_at: open.retry_at,
            refused_at: None,
            turn: None,
        }
    }

    /// Takes a word; `recorded` is the probe report that the same state of the object holds.
    pub(super) fn update(&mut self, open: &OpenForAll, recorded: Option<ProbeReport>, now: Duration) -> Update {
        self.opened_at = open.opened_at;
        self.retry_at = open.retry_at;
        let recorded = recorded.filter(|r| open.token.is_some_and(|token| token.sequence == r.sequence));
        let same = |turn: &Turn| Some(turn.token) == open.token;
        if let Some(turn) = self.turn.as_mut().filter(|turn| same(turn)) {
            turn.accepted |= recorded.is_some();
            return Update::Nothing;
        }
        let had = self.turn.is_some();
        self.turn = open.token.map(|token| Turn::new(token, recorded, now));
        match &self.turn {
            Some(_) => Update::Token,
            None if had => Update::Gone,
            None => Update::Nothing,
        }
    }

    /// The acceptance of a token stands in the object, over the state that carried it.
    pub(super) fn accepted(&mut self, sequence: u64) {
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.token.sequence == sequence) {
            turn.accepted = true;
        }
    }

    /// Leave to probe; a refusal is demand.
    pub(super) fn admit(&mut self, now: Duration) -> bool {
        let admitted = self.turn.as_mut().is_some_and(|turn| turn.admit(now));
        if !admitted {
            self.refused_at = Some(now);
        }
        admitted
    }

    /// Takes the verdict on a probe. True when the token's outcome is there.
    pub(super) fn record(&mut self, permit: &Permit, verdict: Verdict, now: Duration, config: &CircuitConfig) -> bool {
        let Some(turn) = &mut self.turn else { return false };
        match verdict {
            Verdict::Success => turn.probes.succeed(permit.begun),
            Verdict::NotCounted => turn.probes.lose(permit.begun),
            Verdict::Unsent => turn.probes.give_back(permit.begun),
            Verdict::Failure { retry_after, .. } => {
                turn.end(ProbeOutcome::Failed, retry_after);
                return true;
            }
        }
        turn.settle(now, config)
    }

    pub(super) const fn begun(&mut self) {
        if let Some(turn) = &mut self.turn {
            turn.probes.begin();
        }
    }

    /// Time has passed. True when the token's outcome is there now.
    pub(super) fn tick(&mut self, now: Duration, config: &CircuitConfig) -> bool {
        self.turn.as_mut().is_some_and(|turn| turn.settle(now, config))
    }

    pub(super) fn demand(&self, now: Duration) -> bool {
        self.refused_at.is_some_and(|at| now.saturating_sub(at) < DEMAND)
    }

    /// True while no verdict on a probe counts any more.
    pub(super) fn is_over(&self) -> bool {
        self.turn.as_ref().is_none_or(|turn| turn.ended.is_some())
    }

    pub(super) fn describe(&self, now: Duration, view: CircuitView) -> CircuitView {
        let probing = self.turn.as_ref().is_some_and(|t| t.accepted && t.ended.is_none());
        CircuitView {
            state: if probing {
                CircuitState::HalfOpen
            } else {
                CircuitState::Open
            },
            opened_at: Some(self.opened_at),
            retry_at: Some(self.retry_at),
            demand: self.demand(now),
            probe: self.turn.as_ref().map(Turn::report),
            accepting: self.turn.as_ref().is_some_and(|t| !t.accepted && t.ended.is_none()),
            ..view
        }
    }
}

impl Turn {
    /// A token that comes with a report was an earlier process's: its outcome stands, and a probe without one counts as failed.
    fn new(token: ProbeToken, earlier: Option<ProbeReport>, now: Duration) -> Self {
        let ended = earlier.map(|report| match report.outcome {
            ProbeOutcome::Accepted => ProbeReport {
                outcome: ProbeOutcome::Failed,
                ..report
            },
            _ => report,
        });
        Self {
            token,
            seen_at: now,
            accepted: false,
            probes: Probes::new(token.calls),
            ended,
        }
    }

    fn admit(&mut self, now: Duration) -> bool {
        let in_time = now < self.seen_at.saturating_add(HOLD);
        self.accepted && self.ended.is_none() && in_time && self.probes.take()
    }

    fn end(&mut self, outcome: ProbeOutcome, retry_after: Option<Duration>) {
        let seconds = |wait: Duration| wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.ended = Some(ProbeReport {
            sequence: self.token.sequence,
            outcome,
            succeeded: self.probes.succeeded(),
            retry_after_seconds: retry_after.map(|wait| u32::try_from(seconds(wait)).unwrap_or(u32::MAX)),
        });
    }

    /// Ends when all probes are judged, when no request came, or when the time for a verdict is over.
    fn settle(&mut self, now: Duration, config: &CircuitConfig) -> bool {
        if self.ended.is_some() {
            return false;
        }
        let age = now.saturating_sub(self.seen_at);
        let over = match self.probes.in_flight() {
            0 => self.probes.spent() || age >= HOLD,
            _ if age < config.verdict_deadline() => false,
            _ if self.probes.conclude() => true,
            _ => {
                self.end(ProbeOutcome::Failed, None);
                return true;
            }
        };
        if over {
            let lost = self.probes.any_lost();
            self.end(
                if lost {
                    ProbeOutcome::Inconclusive
                } else {
                    ProbeOutcome::Done
                },
                None,
            );
        }
        over
    }

    fn report(&self) -> ProbeReport {
        self.ended.unwrap_or(ProbeReport {
            sequence: self.token.sequence,
            outcome: ProbeOutcome::Accepted,
            succeeded: 0,
            retry_after_seconds: None,
        })
    }
}
