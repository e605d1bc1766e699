//! The money of one process of one replica: leases that the controller granted to it, and what it reserved of them (design section 8).
//!
//! A purse never has more than what the ledger says was granted to it, and nothing comes into it but by a projection of the ledger. What
//! it gives back it first takes away from itself.

mod demand;
mod lease;
mod report;
#[cfg(test)]
mod tests;
mod waiting;

use std::time::Duration;

use jiff::Timestamp;

use demand::Demand;
pub use lease::Held;
use report::WantState;
use waiting::Waiting;

use super::Settled;
use crate::api::{Denied, EndedProcess, NanoUsd, ReplicaBudget, WindowEnd};

/// A process that reserved nothing for so long gives everything back.
const IDLE: Duration = Duration::from_secs(30);

/// What time it is.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// On the wall: windows end by it.
    pub wall: Timestamp,
    /// Since the process started.
    pub since_start: Duration,
}

/// Money set aside for one request. It ends in exactly one of [`Purse::settle`], [`Purse::release`], [`Purse::uncertain`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a reservation that is dropped stays reserved"]
pub struct Claim {
    lease: u64,
    amount: u64,
}

impl Claim {
    /// The amount set aside.
    #[must_use]
    pub const fn amount(&self) -> NanoUsd {
        NanoUsd(self.amount)
    }
}

/// Why nothing was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMoney {
    /// No lease has that much: more is wanted, and the request may wait for it.
    NotYet,
    /// The window has no money for a request like this, whatever comes back.
    Denied,
    /// The process ends.
    Closed,
}

/// The purse.
#[derive(Debug)]
pub struct Purse {
    boot_id: String,
    sequence: u64,
    window: WindowEnd,
    leases: Vec<Held>,
    denied: Option<Denied>,
    ended: Vec<EndedProcess>,
    waiting: Waiting,
    demand: Demand,
    /// The least that a request of this window was to reserve.
    cheapest: Option<NanoUsd>,
    want: WantState,
    hurry: bool,
    closed: bool,
}

impl Purse {
    /// An empty purse of the process `boot_id`; `ended` is what the journal says of its predecessors.
    #[must_use]
    pub fn new(boot_id: String, ended: Vec<EndedProcess>) -> Self {
        Self {
            boot_id,
            sequence: 0,
            window: WindowEnd::default(),
            leases: Vec::new(),
            denied: None,
            ended,
            waiting: Waiting::default(),
            demand: Demand::default(),
            cheapest: None,
            want: WantState::default(),
            hurry: false,
            closed: false,
        }
    }

    /// Takes what the controller says. An older word than the last one is no news. False when it was.
    pub fn take(&mut self, told: &ReplicaBudget) -> bool {
        if told.sequence < self.sequence || self.closed {
            return false;
        }
        self.sequence = told.sequence;
        self.cheapest.take_if(|_| self.window.number != told.window.number);
        self.window = told.window.clone();
        self.denied.clone_from(&told.denied);
        let mine = || told.leases.iter().filter(|lease| lease.boot_id == self.boot_id);
        // What is no longer listed was accounted for by the controller: nobody may spend it.
        self.leases.retain(|held| mine().any(|lease| lease.id == held.id));
        for lease in mine() {
            match self.leases.iter_mut().find(|held| held.id == lease.id) {
                Some(held) => {
                    held.told(lease);
                    // Others wait: what was spent since the last report may be all that there is to say.
                    self.hurry |= held.is_recalled();
                }
                None => self.leases.push(Held::new(lease)),
            }
        }
        if mine().next().is_some() {
            // The controller knows this process, and gives no more to its predecessors.
            let open = |boot: &str| told.leases.iter().any(|lease| lease.boot_id == boot);
            self.ended.retain(|ended| open(&ended.boot_id));
        }
        self.give_back();
        true
    }

    /// Sets `amount` aside.
    pub fn reserve(&mut self, amount: NanoUsd, now: Moment) -> Result<Claim, NoMoney> {
        if self.closed {
            return Err(NoMoney::Closed);
        }
        self.cheapest = self.cheapest.into_iter().chain([amount]).min();
        let (number, over) = (self.window.number, self.is_over(now.wall));
        let usable = |held: &&mut Held| held.window == number && held.free() >= amount.0;
        if let Some(held) = self.leases.iter_mut().filter(|_| !over).find(usable) {
            held.reserved += amount.0;
            let claim = Claim {
                lease: held.id,
                amount: amount.0,
            };
            self.demand.reserved(self.in_flight(), now.since_start);
            return Ok(claim);
        }
        match &self.denied {
            Some(denied) if amount > denied.above && !over => Err(NoMoney::Denied),
            _ => Err(NoMoney::NotYet),
        }
    }

    /// The controller is late: by our clock the window has ended, and the money is not ours to spend in the next.
    fn is_over(&self, now: Timestamp) -> bool {
        self.window.end.as_ref().is_some_and(|end| now >= end.0)
    }

    /// The provider reported the cost.
    pub fn settle(&mut self, claim: Claim, reported: NanoUsd, now: Moment) -> Settled {
        self.end(&claim, |held| held.settled = held.settled.saturating_add(reported.0));
        self.demand.spent(reported.0, now.since_start);
        Settled {
            bound_violated: reported.0 > claim.amount,
        }
    }

    /// The request cost nothing for certain.
    pub fn release(&mut self, claim: Claim) {
        self.end(&claim, |_| {});
    }

    /// Nobody knows what the request cost.
    pub fn uncertain(&mut self, claim: Claim, now: Moment) {
        let amount = claim.amount;
        self.end(&claim, |held| held.uncertain = held.uncertain.saturating_add(amount));
        self.demand.spent(amount, now.since_start);
    }

    /// A lease that is no longer held was written off with all that was in flight; after the last word nothing is said any more.
    fn end(&mut self, claim: &Claim, book: impl FnOnce(&mut Held)) {
        if self.closed {
            return;
        }
        if let Some(held) = self.leases.iter_mut().find(|held| held.id == claim.lease) {
            held.reserved = held.reserved.saturating_sub(claim.amount);
            book(held);
            self.hurry |= held.is_recalled();
        }
        self.give_back();
    }

    /// Surrenders what was recalled and what belongs to another window.
    fn give_back(&mut self) {
        let number = self.window.number;
        for held in &mut self.leases {
            self.hurry |= held.give_back(number) && held.window() == number;
        }
    }

    /// True once after something has changed that the controller waits to hear, or that requests need it to hear.
    pub fn take_hurry(&mut self) -> bool {
        std::mem::take(&mut self.hurry)
    }

    /// Surrenders everything after a while without a request. True when there was something.
    pub fn tick(&mut self, now: Moment) -> bool {
        let quiet = self.waiting.is_empty() && self.in_flight() == 0;
        let idle = quiet && self.demand.idle(now.since_start) >= IDLE;
        idle && self
            .leases
            .iter_mut()
            .map(Held::surrender_all)
            .fold(false, |any, some| any | some)
    }

    /// The last word: what is in flight is uncertain, the rest is given back. Nothing is spent after it.
    pub fn close(&mut self) {
        self.closed = true;
        for held in &mut self.leases {
            held.abandon();
        }
    }

    fn in_flight(&self) -> u64 {
        self.leases
            .iter()
            .map(|held| held.reserved)
            .fold(0, u64::saturating_add)
    }

    /// What may be reserved now.
    fn free(&self) -> u64 {
        let current = self.leases.iter().filter(|held| held.window == self.window.number);
        current.map(Held::free).fold(0, u64::saturating_add)
    }

    /// Number of the window that money is spent in.
    #[must_use]
    pub const fn window(&self) -> u64 {
        self.window.number
    }

    /// When the window ends; `None` when it never does, or nothing was said yet.
    #[must_use]
    pub fn window_end(&self) -> Option<Timestamp> {
        self.window.end.as_ref().map(|end| end.0)
    }

    /// Predecessors whose leases the controller has not folded yet.
    #[must_use]
    pub fn ended(&self) -> &[EndedProcess] {
        &self.ended
    }

    /// The leases, for the journal.
    #[must_use]
    pub fn held(&self) -> &[Held] {
        &self.leases
    }
}
