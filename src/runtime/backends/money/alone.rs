//! The budget of a process that runs alone (`--file`): one account a window, kept in memory.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::UnknownZone;
use crate::{
    api::{Budget, BudgetStatus, BudgetWindow, NanoUsd},
    policy::budget::{Account, Reservation, Window, ledger::Calendar},
    runtime::sync::lock,
};

/// The account of the window in which something was reserved.
pub type Shared = Arc<Mutex<Account>>;

/// The account.
#[derive(Debug)]
pub struct Alone {
    limit: NanoUsd,
    calendar: Calendar,
    current: Mutex<(Window, Shared)>,
}

impl Alone {
    /// An untouched account in the window of `now`.
    pub fn new(budget: &Budget, now: Timestamp) -> Result<Self, UnknownZone> {
        let (limit, calendar) = (budget.limit.usd(), Calendar::new(budget)?);
        let first = (calendar.window(now), account(limit));
        Ok(Self {
            limit,
            calendar,
            current: Mutex::new(first),
        })
    }

    /// Sets `amount` aside in the window of `now`; `None` when there is not that much left.
    pub fn reserve(&self, amount: NanoUsd, now: Timestamp) -> Option<(Shared, Reservation)> {
        let (_, account) = self.at(now);
        let reservation = lock(&account).reserve(amount)?;
        Some((account, reservation))
    }

    /// The window of `now`, and its account.
    fn at(&self, now: Timestamp) -> (Window, Shared) {
        let mut current = lock(&self.current);
        let (window, account_now) = &mut *current;
        // Windows only advance: a clock that was set back finds the newest one.
        if window.end.is_some_and(|end| now >= end) {
            *window = self.calendar.window(now);
            *account_now = account(self.limit);
        }
        (*window, Arc::clone(account_now))
    }

    /// When the window of `now` ends; `None` when it never does.
    pub fn window_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.at(now).0.end
    }

    /// The account as status shows it.
    pub fn status(&self, now: Timestamp) -> BudgetStatus {
        let (window, account) = self.at(now);
        let totals = lock(&account).totals();
        BudgetStatus {
            window: BudgetWindow {
                calendar: self.calendar.name.clone(),
                start: window.start.map(Time),
                end: window.end.map(Time),
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

fn account(limit: NanoUsd) -> Shared {
    Arc::new(Mutex::new(Account::new(limit)))
}
