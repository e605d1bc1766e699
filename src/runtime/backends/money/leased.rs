//! Leases: the purse of this process with its journal, its clock, and the requests that wait for money.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use tracing::error;

use super::{Journal, journal::JournalError};
use crate::{
    api::{BudgetReport, EndedProcess, NanoUsd, ReplicaBudget},
    policy::budget::{
        Settled,
        purse::{Claim, Moment, NoMoney, Purse},
    },
    runtime::{backends::Signals, clock::Clock, sync::lock},
};

/// Counters that moved are told anew after this long; all else at once.
const ROUTINE: Duration = Duration::from_secs(10);

/// The leases of this process.
#[derive(Debug)]
pub struct Leased {
    hand: Mutex<Hand>,
    clock: Clock,
    signals: Arc<Signals>,
    /// Somebody who waits may have a look.
    changed: Notify,
}

#[derive(Debug)]
struct Hand {
    purse: Purse,
    journal: Option<Journal>,
    told: Option<(Duration, BudgetReport)>,
}

impl Leased {
    /// An empty purse. Without a journal everything that is granted and not reported is uncertain when the process dies.
    #[must_use]
    pub fn new(
        boot_id: String,
        journal: Option<(Journal, Vec<EndedProcess>)>,
        clock: Clock,
        signals: Arc<Signals>,
    ) -> Self {
        let (journal, ended) = journal.unzip();
        Self {
            hand: Mutex::new(Hand {
                purse: Purse::new(boot_id, ended.unwrap_or_default()),
                journal,
                told: None,
            }),
            clock,
            signals,
            changed: Notify::new(),
        }
    }

    fn moment(&self, wall: Timestamp) -> Moment {
        Moment {
            wall,
            since_start: self.clock.now(),
        }
    }

    /// Takes what the controller says.
    pub fn told(&self, budget: &ReplicaBudget) {
        let mut hand = lock(&self.hand);
        if hand.purse.take(budget) {
            hand.write(Journal::note);
            hand.write(Journal::tidy);
            self.tell(&mut hand);
            drop(hand);
            self.signals.routine();
            self.changed.notify_waiters();
        }
    }

    /// Sets `amount` aside.
    pub fn reserve(&self, amount: NanoUsd, now: Timestamp) -> Result<Claim, NoMoney> {
        let now = self.moment(now);
        let mut hand = lock(&self.hand);
        let claim = hand.purse.reserve(amount, now)?;
        // Sent is only what the journal knows of, or what it need not know of because it says nothing.
        if hand.write(Journal::note) {
            return Ok(claim);
        }
        hand.purse.release(claim);
        Err(NoMoney::Closed)
    }

    /// Waits until `amount` could be set aside, until it never can, or for as long as `patience`.
    pub async fn wait(&self, amount: NanoUsd, patience: Duration) -> Result<Claim, NoMoney> {
        let deadline = Instant::now() + patience;
        let _waiting = Waiting::begin(self, amount);
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            match self.reserve(amount, Timestamp::now()) {
                Err(NoMoney::NotYet) => {}
                settled => return settled,
            }
            if timeout_at(deadline, changed).await.is_err() {
                return Err(NoMoney::NotYet);
            }
        }
    }

    /// The provider reported the cost.
    pub fn settle(&self, claim: Claim, cost: NanoUsd) -> Settled {
        let now = self.moment(Timestamp::now());
        self.end(|purse| purse.settle(claim, cost, now))
    }

    /// The request cost nothing for certain.
    pub fn release(&self, claim: Claim) {
        self.end(|purse| purse.release(claim));
    }

    /// Nobody knows what the request cost.
    pub fn uncertain(&self, claim: Claim) {
        let now = self.moment(Timestamp::now());
        self.end(|purse| purse.uncertain(claim, now));
    }

    fn end<T>(&self, book: impl FnOnce(&mut Purse) -> T) -> T {
        let mut hand = lock(&self.hand);
        let booked = book(&mut hand.purse);
        hand.write(Journal::note);
        let waited_for = hand.purse.is_waited_for();
        self.tell(&mut hand);
        drop(hand);
        if waited_for {
            self.changed.notify_waiters();
        }
        booked
    }

    /// What the controller waits for is told at once.
    fn tell(&self, hand: &mut Hand) {
        if hand.purse.take_hurry() {
            hand.told = None;
            self.signals.urgent();
        }
    }

    /// Gives back what has not been used for long.
    pub fn tick(&self) {
        let now = self.moment(Timestamp::now());
        let mut hand = lock(&self.hand);
        if hand.purse.tick(now) {
            hand.write(Journal::note);
            drop(hand);
            self.signals.routine();
        }
    }

    /// The report as it should be told now.
    #[must_use]
    pub fn report(&self) -> BudgetReport {
        let now = self.moment(Timestamp::now());
        let hand = &mut *lock(&self.hand);
        let report = hand.purse.report(now);
        self.tell(hand);
        match &hand.told {
            Some((at, told)) if now.since_start < *at + ROUTINE && only_counters_moved(told, &report) => told.clone(),
            _ => {
                hand.told = Some((now.since_start, report.clone()));
                report
            }
        }
    }

    /// The last word: nothing is spent after it.
    pub fn close(&self) {
        let mut hand = lock(&self.hand);
        hand.purse.close();
        hand.write(Journal::note);
        drop(hand);
        self.changed.notify_waiters();
    }

    /// When the window ends, as far as the controller has said.
    #[must_use]
    pub fn window_end(&self) -> Option<Timestamp> {
        lock(&self.hand).purse.window_end()
    }
}

impl Hand {
    /// Writes to the journal. One that cannot be written is abandoned. False when not even that was possible: then it says too little.
    fn write(&mut self, with: impl FnOnce(&mut Journal, &Purse) -> Result<(), JournalError>) -> bool {
        let Some(journal) = &mut self.journal else { return true };
        let Err(failed) = with(journal, &self.purse) else {
            return true;
        };
        error!(error = %failed, "the journal cannot be written: if this process is killed, all that was granted to it is uncertain");
        let abandoned = self.journal.take().is_none_or(|journal| journal.abandon().is_ok());
        if !abandoned {
            self.purse.close();
        }
        abandoned
    }
}

fn only_counters_moved(told: &BudgetReport, now: &BudgetReport) -> bool {
    let rest = |report: &BudgetReport| {
        let leases = report.leases.iter();
        let leases: Vec<_> = leases
            .map(|lease| (lease.id, lease.granted, lease.surrendered))
            .collect();
        (
            report.sequence,
            leases,
            report.ended.len(),
            report.want.clone(),
            report.is_final,
        )
    };
    rest(told) == rest(now)
}

/// A request that waits for money, until it is dropped.
struct Waiting<'a> {
    leased: &'a Leased,
    amount: NanoUsd,
}

impl<'a> Waiting<'a> {
    fn begin(leased: &'a Leased, amount: NanoUsd) -> Self {
        if lock(&leased.hand).purse.wait_begins(amount) {
            leased.signals.urgent();
        }
        Self { leased, amount }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if lock(&self.leased.hand).purse.wait_ends(self.amount) {
            self.leased.signals.urgent();
        }
    }
}

#[cfg(test)]
mod tests;
