//! The budget of a process that runs alone (`--file`): one account a window, reserved before sending, settled exactly once.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use jiff::{Timestamp, tz::TimeZone};
use tracing::error;

use crate::{
    api::{Budget, BudgetPeriod, BudgetStatus, BudgetWindow, NanoUsd},
    policy::{
        budget::{Account, Reservation, Window, window},
        pricing::{Prices, Usage},
    },
    runtime::sync::lock,
};

/// Why a budget cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("spec.budget.timeZone: {zone:?} is not known here ({error}); write an IANA name such as Europe/Berlin")]
pub struct UnknownZone {
    zone: String,
    error: jiff::Error,
}

/// The money of this process.
#[derive(Debug)]
pub struct Money {
    limit: NanoUsd,
    period: BudgetPeriod,
    zone: TimeZone,
    current: Mutex<(Window, Arc<Mutex<Account>>)>,
}

impl Money {
    /// An untouched account in the window of `now`.
    pub fn new(budget: &Budget, now: Timestamp) -> Result<Self, UnknownZone> {
        let zone = TimeZone::get(budget.time_zone()).map_err(|error| UnknownZone {
            zone: budget.time_zone().to_owned(),
            error,
        })?;
        let limit = budget.limit.usd();
        let first = (window(budget.period(), &zone, now), account(limit));
        Ok(Self {
            limit,
            period: budget.period(),
            zone,
            current: Mutex::new(first),
        })
    }

    /// Sets `amount` aside in the window of `now`; `None` when there is not that much left.
    pub fn reserve(&self, amount: NanoUsd, prices: Prices, violated: &Arc<AtomicBool>, now: Timestamp) -> Option<Hold> {
        let account = self.account_at(now);
        let reservation = lock(&account).reserve(amount)?;
        Some(Hold {
            account,
            reservation: Some(reservation),
            prices,
            violated: Arc::clone(violated),
        })
    }

    /// When the window of `now` ends; `None` when it never does.
    #[must_use]
    pub fn window_end(&self, now: Timestamp) -> Option<Timestamp> {
        drop(self.account_at(now));
        lock(&self.current).0.end
    }

    fn account_at(&self, now: Timestamp) -> Arc<Mutex<Account>> {
        let mut current = lock(&self.current);
        let (held, account_now) = &mut *current;
        // Windows only advance: a clock that was set back finds the newest one.
        if held.end.is_some_and(|end| now >= end) {
            *held = window(self.period, &self.zone, now);
            *account_now = account(self.limit);
        }
        Arc::clone(account_now)
    }

    /// The account as status shows it.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> BudgetStatus {
        let totals = lock(&self.account_at(now)).totals();
        let held = lock(&self.current).0;
        let time = |at: Option<Timestamp>| at.map(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time);
        BudgetStatus {
            window: BudgetWindow {
                start: time(held.start),
                end: time(held.end),
                ..BudgetWindow::default()
            },
            limit: totals.limit,
            settled: totals.settled,
            uncertain: totals.uncertain,
            leased: totals.reserved,
            remaining: totals.remaining,
            ..BudgetStatus::default()
        }
    }
}

fn account(limit: NanoUsd) -> Arc<Mutex<Account>> {
    Arc::new(Mutex::new(Account::new(limit)))
}

/// Money set aside for one attempt. It ends exactly once; dropped without word it is uncertain.
#[derive(Debug)]
#[must_use = "a hold that is dropped is booked as uncertain"]
pub struct Hold {
    account: Arc<Mutex<Account>>,
    reservation: Option<Reservation>,
    prices: Prices,
    violated: Arc<AtomicBool>,
}

impl Hold {
    /// Books what the provider reported, in full, and gives the rest back.
    pub fn settle(mut self, usage: &Usage) {
        let Some(reservation) = self.reservation.take() else {
            return;
        };
        let cost = self.prices.cost(usage).unwrap_or(NanoUsd(u64::MAX));
        let reserved = reservation.amount();
        if lock(&self.account).settle(reservation, cost).bound_violated {
            self.violated.store(true, Ordering::Relaxed);
            error!(%reserved, %cost, "the provider reported more than the bound allows: the backend is stopped");
        }
    }

    /// Gives all of it back: nothing was sent, or the answer was a complete error.
    pub fn release(mut self) {
        if let Some(reservation) = self.reservation.take() {
            lock(&self.account).release(reservation);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(reservation) = self.reservation.take() {
            lock(&self.account).uncertain(reservation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::PicoUsd;

    const PRICES: Prices = Prices::flat(PicoUsd(1_000_000), PicoUsd(1_000_000));

    fn money(limit: &str, period: BudgetPeriod) -> Money {
        let budget = Budget {
            limit: limit.parse().unwrap(),
            period: Some(period),
            time_zone: None,
            on_exhausted: None,
            warn_at_percent: vec![],
        };
        Money::new(&budget, at("2026-11-23T10:30:00Z")).unwrap()
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
        assert!(reserve().is_none(), "the fourth does not fit");
        one.release();
        drop(two);
        three.settle(&Usage {
            input_tokens: 1,
            ..Usage::default()
        });
        let status = money.status(now);
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
        assert_eq!(money.status(next).leased, NanoUsd(0));
        hold.settle(&Usage {
            input_tokens: 1,
            ..Usage::default()
        });
        assert_eq!(money.status(next).settled, NanoUsd(0));
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
        assert_eq!(money.status(now).settled, NanoUsd(5_000));
        assert!(violated.load(Ordering::Relaxed));
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
        let error = Money::new(&budget, at("2026-11-23T10:30:00Z")).unwrap_err();
        assert!(error.to_string().contains("Mars/Olympus"), "{error}");
    }
}
