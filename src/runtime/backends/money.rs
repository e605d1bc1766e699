//! Money on the way of a request: set aside before it is sent, settled exactly once after it (design section 8). Alone, a process keeps
//! an account of its own; in a cluster it spends leases of the controller's ledger.

mod alone;
mod journal;
mod leased;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tracing::error;

use alone::{Alone, Shared};
pub use journal::{Journal, kernel};
pub use leased::Leased;

pub use crate::policy::budget::{ledger::UnknownZone, purse::NoMoney};
use crate::{
    api::{Budget, BudgetStatus, NanoUsd},
    policy::{
        budget::{Reservation, Settled, purse::Claim},
        pricing::{Prices, Usage},
    },
    runtime::sync::lock,
};

/// The money of this process.
#[derive(Debug)]
pub struct Money(Source);

#[derive(Debug)]
enum Source {
    Alone(Alone),
    Leased(Arc<Leased>),
}

impl Money {
    /// An untouched account of a process that runs alone, in the window of `now`.
    pub fn alone(budget: &Budget, now: Timestamp) -> Result<Self, UnknownZone> {
        Alone::new(budget, now).map(|alone| Self(Source::Alone(alone)))
    }

    /// Leases.
    #[must_use]
    pub const fn leased(leased: Arc<Leased>) -> Self {
        Self(Source::Leased(leased))
    }

    /// The leases, in a cluster.
    #[must_use]
    pub const fn leases(&self) -> Option<&Arc<Leased>> {
        match &self.0 {
            Source::Alone(_) => None,
            Source::Leased(leased) => Some(leased),
        }
    }

    /// Sets `amount` aside in the window of `now`.
    pub fn reserve(
        &self,
        amount: NanoUsd,
        prices: Prices,
        violated: &Arc<AtomicBool>,
        now: Timestamp,
    ) -> Result<Hold, NoMoney> {
        let claimed = match &self.0 {
            // It needs no lease, and waits for none.
            _ if amount.0 == 0 => Some(Claimed::Nothing),
            Source::Alone(alone) => alone
                .reserve(amount, now)
                .map(|(account, it)| Claimed::Account(account, it)),
            Source::Leased(leased) => Some(Claimed::Lease(Arc::clone(leased), leased.reserve(amount, now)?)),
        };
        Ok(Hold {
            claimed: Some(claimed.ok_or(NoMoney::Denied)?),
            prices,
            violated: Arc::clone(violated),
        })
    }

    /// Waits until `amount` could be set aside, until it never can, or for as long as `patience`.
    pub async fn wait(
        &self,
        amount: NanoUsd,
        prices: Prices,
        violated: &Arc<AtomicBool>,
        patience: Duration,
    ) -> Result<Hold, NoMoney> {
        match &self.0 {
            Source::Alone(_) => self.reserve(amount, prices, violated, Timestamp::now()),
            Source::Leased(leased) => {
                let claim = leased.wait(amount, patience).await?;
                Ok(Hold {
                    claimed: Some(Claimed::Lease(Arc::clone(leased), claim)),
                    prices,
                    violated: Arc::clone(violated),
                })
            }
        }
    }

    /// When the window of `now` ends; `None` when it never does, or nobody knows.
    #[must_use]
    pub fn window_end(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.0 {
            Source::Alone(alone) => alone.window_end(now),
            Source::Leased(leased) => leased.window_end(),
        }
    }

    /// The account as status shows it; in a cluster that is the ledger's.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> Option<BudgetStatus> {
        match &self.0 {
            Source::Alone(alone) => Some(alone.status(now)),
            Source::Leased(_) => None,
        }
    }
}

/// Where something was set aside.
#[derive(Debug)]
enum Claimed {
    /// The worst case costs nothing.
    Nothing,
    Account(Shared, Reservation),
    Lease(Arc<Leased>, Claim),
}

impl Claimed {
    const fn amount(&self) -> NanoUsd {
        match self {
            Self::Nothing => NanoUsd(0),
            Self::Account(_, reservation) => reservation.amount(),
            Self::Lease(_, claim) => claim.amount(),
        }
    }

    fn settle(self, cost: NanoUsd) -> Settled {
        match self {
            // No account has a reservation to book more than nothing on: the backend is stopped for it.
            Self::Nothing => Settled {
                bound_violated: cost.0 > 0,
            },
            Self::Account(account, reservation) => lock(&account).settle(reservation, cost),
            Self::Lease(leased, claim) => leased.settle(claim, cost),
        }
    }

    fn release(self) {
        match self {
            Self::Nothing => {}
            Self::Account(account, reservation) => lock(&account).release(reservation),
            Self::Lease(leased, claim) => leased.release(claim),
        }
    }

    fn uncertain(self) {
        match self {
            Self::Nothing => {}
            Self::Account(account, reservation) => lock(&account).uncertain(reservation),
            Self::Lease(leased, claim) => leased.uncertain(claim),
        }
    }
}

/// Money set aside for one attempt. It ends exactly once; dropped without word it is uncertain.
#[derive(Debug)]
#[must_use = "a hold that is dropped is booked as uncertain"]
pub struct Hold {
    claimed: Option<Claimed>,
    prices: Prices,
    violated: Arc<AtomicBool>,
}

impl Hold {
    /// Books what the provider reported, in full, and gives the rest back.
    pub fn settle(mut self, usage: &Usage) {
        let Some(claimed) = self.claimed.take() else { return };
        let cost = self.prices.cost(usage).unwrap_or(NanoUsd(u64::MAX));
        let reserved = claimed.amount();
        if claimed.settle(cost).bound_violated {
            self.violated.store(true, Ordering::Relaxed);
            error!(%reserved, %cost, "the provider reported more than the bound allows: the backend is stopped");
        }
    }

    /// Gives all of it back: nothing was sent, or the answer was a complete error.
    pub fn release(mut self) {
        if let Some(claimed) = self.claimed.take() {
            claimed.release();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(claimed) = self.claimed.take() {
            claimed.uncertain();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{BudgetPeriod, PicoUsd},
        runtime::clock::Clock,
    };

    const PRICES: Prices = Prices::flat(PicoUsd(1_000_000), PicoUsd(1_000_000));

    fn money(limit: &str, period: BudgetPeriod) -> Money {
        let budget = Budget {
            limit: limit.parse().unwrap(),
            period: Some(period),
            time_zone: None,
            on_exhausted: None,
            warn_at_percent: vec![],
        };
        Money::alone(&budget, at("2026-11-23T10:30:00Z")).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_hold_ends_exactly_once() {
        let money = money("0.000003", BudgetPeriod::Hour);
        let now = at("2026-11-23T10:30:00Z");
        let violated = Arc::new(AtomicBool::new(false));
        let reserve = || money.reserve(NanoUsd(1_000), PRICES, &violated, now);
        let (one, two, three) = (reserve().unwrap(), reserve().unwrap(), reserve().unwrap());
        assert_eq!(reserve().unwrap_err(), NoMoney::Denied, "the fourth does not fit");
        one.release();
        drop(two);
        three.settle(&Usage {
            input_tokens: 1,
            ..Usage::default()
        });
        let status = money.status(now).unwrap();
        let shown =
            [status.settled, status.uncertain, status.leased, status.remaining].map(|amount| amount.to_string());
        assert_eq!(shown, ["0.000001", "0.000001", "0.00", "0.000001"]);
        assert!(!violated.load(Ordering::Relaxed));
    }

    #[test]
    fn a_late_settlement_goes_to_its_own_window() {
        let money = money("1.00", BudgetPeriod::Hour);
        let violated = Arc::new(AtomicBool::new(false));
        let hold = money
            .reserve(NanoUsd(1_000), PRICES, &violated, at("2026-11-23T10:59:59Z"))
            .unwrap();
        let next = at("2026-11-23T11:00:00Z");
        assert_eq!(money.status(next).unwrap().leased, NanoUsd(0));
        hold.settle(&Usage {
            input_tokens: 1,
            ..Usage::default()
        });
        assert_eq!(money.status(next).unwrap().settled, NanoUsd(0));
    }

    #[test]
    fn usage_above_the_bound_is_booked_and_stops_the_backend() {
        let money = money("1.00", BudgetPeriod::Total);
        let violated = Arc::new(AtomicBool::new(false));
        let now = at("2026-11-23T10:30:00Z");
        let hold = money.reserve(NanoUsd(1_000), PRICES, &violated, now).unwrap();
        hold.settle(&Usage {
            input_tokens: 5,
            ..Usage::default()
        });
        assert_eq!(money.status(now).unwrap().settled, NanoUsd(5_000));
        assert!(violated.load(Ordering::Relaxed));
    }

    #[test]
    fn what_costs_nothing_needs_no_lease() {
        let leased = Leased::new("b".into(), None, Clock::start(), Arc::default());
        let money = Money::leased(Arc::new(leased));
        let violated = Arc::new(AtomicBool::new(false));
        let now = at("2026-11-23T10:30:00Z");
        let reserve = |amount| money.reserve(NanoUsd(amount), PRICES, &violated, now);
        assert_eq!(reserve(1).unwrap_err(), NoMoney::NotYet);
        reserve(0).unwrap().settle(&Usage::default());
        reserve(0).unwrap().release();
        drop(reserve(0).unwrap());
        assert!(!violated.load(Ordering::Relaxed));
        reserve(0).unwrap().settle(&Usage {
            output_tokens: 1,
            ..Usage::default()
        });
        assert!(violated.load(Ordering::Relaxed), "it did cost something");
    }

    #[test]
    fn an_unknown_zone_is_named() {
        let budget = Budget {
            limit: "1".parse().unwrap(),
            period: None,
            time_zone: Some("Mars/Olympus".into()),
            on_exhausted: None,
            warn_at_percent: vec![],
        };
        let error = Money::alone(&budget, at("2026-11-23T10:30:00Z")).unwrap_err();
        assert!(error.to_string().contains("Mars/Olympus"), "{error}");
    }
}
