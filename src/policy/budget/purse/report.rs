//! What the process says of its money.

use super::{Held, Moment, Purse};
use crate::api::{BudgetReport, NanoUsd, Want};

/// The want as it was said last.
#[derive(Debug, Default)]
pub(super) struct WantState {
    sequence: u64,
    said: Option<Want>,
}

impl WantState {
    /// The want with its number: a changed one gets the next.
    fn say(&mut self, amount: u64, least: u64, request: u64) -> Option<Want> {
        let (amount, least, request) = (NanoUsd(amount), NanoUsd(least), NanoUsd(request));
        let same = |said: &Want| (said.amount, said.least, said.request) == (amount, least, request);
        if !self.said.as_ref().is_some_and(same) {
            self.sequence += 1;
            let want = Want {
                sequence: self.sequence,
                amount,
                least,
                request,
            };
            self.said = (amount.0 > 0).then_some(want);
        }
        self.said.clone()
    }
}

impl Purse {
    /// A request of that size begins to wait for money; it ends with [`Purse::wait_ends`]. True when the controller should hear of it at
    /// once: another request is now the cheapest.
    pub fn wait_begins(&mut self, amount: NanoUsd) -> bool {
        let before = self.waiting.least();
        self.waiting.add(amount.0);
        self.waiting.least() != before
    }

    /// It waits no longer. True when another request is now the cheapest of those that still wait.
    pub fn wait_ends(&mut self, amount: NanoUsd) -> bool {
        let before = self.waiting.least();
        self.waiting.remove(amount.0);
        !self.waiting.is_empty() && self.waiting.least() != before
    }

    /// True while requests wait.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The report as it should read now.
    pub fn report(&mut self, now: Moment) -> BudgetReport {
        BudgetReport {
            sequence: self.sequence,
            leases: self.leases.iter().map(Held::report).collect(),
            ended: self.ended.clone(),
            cheapest: self.cheapest,
            want: self.want(now),
            is_final: self.closed,
        }
    }

    /// What is wanted: what the waiting requests lack, or what the next half minute needs if that is more.
    fn want(&mut self, now: Moment) -> Option<Want> {
        if self.closed {
            return None;
        }
        let (free, in_flight) = (self.free(), self.in_flight());
        let ahead = self.demand.ahead(in_flight, free, now.since_start);
        let request = self.waiting.least().unwrap_or(0);
        let least = request.saturating_sub(free);
        let amount = self.waiting.sum().saturating_sub(free).max(ahead).max(least);
        let before = self.want.sequence;
        let want = self.want.say(amount, least, request);
        // A grant may have been taken by another request of the same size: this one still waits.
        self.hurry |= least > 0 && self.want.sequence != before;
        want
    }
}
