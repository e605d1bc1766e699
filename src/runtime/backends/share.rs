//! This process's share of a backend's rate limit (design section 8), as requests find it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::{Notify, futures::Notified};

use super::Signals;
use crate::{
    api::{RateLimit, ReportedRate, ShareOrder, ShareReport},
    policy::rate_share::{Line, MILLI, Meter, Rate, Rates, Told},
    runtime::{clock::Clock, sync::lock},
};

/// Tokens of an answer as long as none was reported yet.
const FIRST_ANSWER: u64 = 256;
/// The newest report is this part of the running mean of answers.
const NEWEST: u64 = 8;

#[derive(Debug)]
struct State {
    meter: Meter,
    order: Option<ShareOrder>,
    answer: u64,
}

/// The share of one backend.
#[derive(Debug)]
pub struct Share {
    state: Mutex<State>,
    changed: Notify,
    clock: Clock,
    signals: Arc<Signals>,
}

impl Share {
    /// Nothing may be sent before there is an order.
    #[must_use]
    pub fn new(limit: &RateLimit, clock: Clock, signals: Arc<Signals>) -> Self {
        let state = State {
            meter: Meter::new(limits(limit), clock.now()),
            order: None,
            answer: FIRST_ANSWER,
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            clock,
            signals,
        }
    }

    /// Takes a changed limit.
    pub fn limit(&self, limit: &RateLimit) {
        lock(&self.state).meter.limit(limits(limit), self.clock.now());
        self.changed.notify_waiters();
    }

    /// Takes the controller's order; none means that nothing may be sent. An order whose confirmation is awaited is confirmed
    /// at once.
    pub fn obey(&self, order: Option<&ShareOrder>) {
        let rates = order.map_or_else(Rates::default, |order| Rates {
            requests: order.requests.map(|rate| rate.milli_per_minute),
            tokens: order.tokens.map(|rate| rate.milli_per_minute),
        });
        let contended = order.is_some_and(|order| order.contended);
        let awaited = order.is_some_and(|order| order.awaited);
        let mut state = lock(&self.state);
        if state.order.as_ref() == order {
            return;
        }
        state.order = order.cloned();
        state.meter.obey(rates, contended, self.clock.now());
        drop(state);
        self.changed.notify_waiters();
        self.tell(if awaited { Told::Urgent } else { Told::Changed });
    }

    /// The process runs alone: the whole limit is its own.
    pub fn take_whole(&self) {
        let most = Rates {
            requests: Some(Rate::MAX),
            tokens: Some(Rate::MAX),
        };
        lock(&self.state).meter.obey(most, false, self.clock.now());
    }

    /// A request that may use `tokens` wants to be sent: counted as demand, whatever becomes of it. Gives its part when there is room and
    /// nobody waits.
    pub fn ask(self: &Arc<Self>, tokens: u64) -> Option<Part> {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        state.meter.want(tokens, now);
        let taken = state.meter.take(tokens, now);
        drop(state);
        taken.then(|| self.part(tokens))
    }

    /// Joins the line for at most `patience`; gives how many were in it before.
    pub fn join(self: &Arc<Self>, tokens: u64, patience: Duration) -> (InLine, Line, u64) {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let before = state.meter.waiting();
        let line = state.meter.join(tokens, patience, now);
        drop(state);
        let place = InLine {
            share: Arc::clone(self),
            tokens,
        };
        (place, line, before)
    }

    /// Tokens of an answer, by what was reported so far.
    #[must_use]
    pub fn usual_answer(&self) -> u64 {
        lock(&self.state).answer
    }

    /// Looks whether what is told of the demand still holds.
    pub fn judge(&self) {
        let told = lock(&self.state).meter.judge(self.clock.now());
        self.tell(told);
    }

    /// For the status of the replica.
    #[must_use]
    pub fn report(&self, backend: &str) -> ShareReport {
        let state = lock(&self.state);
        let (kept, demand) = (state.meter.kept(), state.meter.demand());
        let rate = |kept: Option<Rate>, demand: Option<Rate>| {
            Some(ReportedRate {
                milli_per_minute: kept?,
                demand_milli_per_minute: demand?,
            })
        };
        ShareReport {
            backend: backend.to_owned(),
            sequence: state.order.as_ref().map_or(0, |order| order.sequence),
            requests: rate(kept.requests, demand.requests),
            tokens: rate(kept.tokens, demand.tokens),
        }
    }

    /// What is kept to, `requests` and `tokens` a minute, as far as they are limited.
    pub fn kept(&self) -> impl Iterator<Item = (&'static str, f64)> + use<> {
        let kept = lock(&self.state).meter.kept();
        #[expect(clippy::cast_precision_loss, reason = "shown to people")]
        let per_minute = |rate: Rate| rate as f64 / MILLI as f64;
        [("requests", kept.requests), ("tokens", kept.tokens)]
            .into_iter()
            .filter_map(move |(kind, rate)| Some((kind, per_minute(rate?))))
    }

    fn part(self: &Arc<Self>, tokens: u64) -> Part {
        Part {
            share: Arc::clone(self),
            tokens,
            sent: false,
        }
    }

    fn tell(&self, told: Told) {
        match told {
            Told::Same => {}
            Told::Changed => self.signals.routine(),
            Told::Urgent => self.signals.urgent(),
        }
    }
}

fn limits(limit: &RateLimit) -> Rates {
    let milli = |limit: u32| u64::from(limit) * MILLI;
    Rates {
        requests: limit.requests_per_minute.map(milli),
        tokens: limit.tokens_per_minute.map(milli),
    }
}

/// A place in line. Dropped, it is given up.
#[derive(Debug)]
pub struct InLine {
    share: Arc<Share>,
    tokens: u64,
}

impl InLine {
    /// Takes the part of the first in line.
    ///
    /// # Errors
    /// How long until there is room, unless the share changes.
    pub fn take(&self) -> Result<Part, Duration> {
        let mut state = lock(&self.share.state);
        state.meter.take_first(self.tokens, self.share.clock.now())?;
        drop(state);
        Ok(self.share.part(self.tokens))
    }

    /// Completes when the share has changed after the future was made.
    pub fn changed(&self) -> Notified<'_> {
        self.share.changed.notified()
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        lock(&self.share.state).meter.leave(self.tokens);
    }
}

/// What one request takes of the share. Dropped before it was sent it is given back; dropped after that, all of it is used.
#[derive(Debug)]
#[must_use = "a part that is dropped is given back"]
pub struct Part {
    share: Arc<Share>,
    tokens: u64,
    sent: bool,
}

impl Part {
    /// The request goes out.
    pub const fn send(mut self) -> Self {
        self.sent = true;
        self
    }

    /// It did not go out after all.
    pub fn unsent(mut self) {
        self.sent = false;
    }

    /// The backend reported what it used.
    pub fn used(self, input: u64, output: u64) {
        let mut state = lock(&self.share.state);
        state.answer = (state.answer * (NEWEST - 1)).saturating_add(output) / NEWEST;
        let used = input.saturating_add(output);
        state.meter.correct(self.tokens, used, self.share.clock.now());
    }

    /// The backend refused: that was a request, but it used no tokens.
    pub fn refused(self) {
        lock(&self.share.state)
            .meter
            .correct(self.tokens, 0, self.share.clock.now());
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.sent {
            lock(&self.share.state)
                .meter
                .give_back(self.tokens, self.share.clock.now());
        }
    }
}
