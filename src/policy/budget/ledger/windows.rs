//! Windows begin and end. They only advance, and only while the local clock and the API server's agree.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Calendar, gpu, rows::outstanding};
use crate::{
    api::{BudgetStatus, BudgetWindow, ClosedWindow, NanoUsd},
    policy::budget::Window,
};

/// Closed windows that are kept; of an older one nothing more is booked.
const CLOSED: usize = 64;

/// The window that the calendar has for `now`, with the next number.
pub(super) fn next(number: u64, calendar: &Calendar, window: Window) -> BudgetWindow {
    BudgetWindow {
        number: number.saturating_add(1),
        calendar: calendar.name.clone(),
        start: window.start.map(Time),
        end: window.end.map(Time),
    }
}

/// Moves the ledger to `now`. A changed calendar keeps what is spent until the new calendar's next boundary.
pub(super) fn advance(ledger: &mut BudgetStatus, calendar: &Calendar, now: jiff::Timestamp) {
    if ledger.window.start.as_ref().is_some_and(|start| now < start.0) {
        return;
    }
    let over = ledger.window.end.as_ref().is_some_and(|end| now >= end.0);
    if over {
        turn(ledger, next(ledger.window.number, calendar, calendar.window(now)), now);
    } else if ledger.window.calendar != calendar.name {
        ledger.window.calendar.clone_from(&calendar.name);
        ledger.window.end = calendar.window(now).end.map(Time);
    }
}

/// Closes the current window and opens `window`. In another calendar that may have begun before this one ended, or never.
pub(super) fn turn(ledger: &mut BudgetStatus, window: BudgetWindow, now: jiff::Timestamp) {
    let boundary = [&window.start, &ledger.window.end].into_iter().flatten();
    let boundary = boundary.map(|at| at.0).max().unwrap_or(now);
    gpu::turn(ledger, boundary.min(now));
    let old = std::mem::replace(&mut ledger.window, window);
    ledger.closed_windows.push(ClosedWindow {
        number: old.number,
        settled: std::mem::take(&mut ledger.settled),
        uncertain: std::mem::take(&mut ledger.uncertain),
    });
    ledger.written_off = None;
    ledger.warned.clear();
    for row in &mut ledger.leases {
        row.recall_to = None;
    }
}

/// Forgets windows whose leases are all closed, but for the last one.
pub(super) fn forget(ledger: &mut BudgetStatus) {
    let last = ledger.closed_windows.last().map_or(0, |window| window.number);
    let open = |number| {
        ledger
            .leases
            .iter()
            .any(|row| row.window == number && outstanding(row) > 0)
    };
    ledger
        .closed_windows
        .retain(|window| window.number == last || open(window.number));
    let surplus = ledger.closed_windows.len().saturating_sub(CLOSED);
    ledger.closed_windows.drain(..surplus);
}

/// Notes the percentages of the limit that are reached for the first time.
pub(super) fn warn(ledger: &mut BudgetStatus, warn_at: &[u32]) {
    let (spent, NanoUsd(limit)) = (super::rows::spent(ledger), ledger.limit);
    let reached = |percent: u32| u128::from(spent) * 100 >= u128::from(limit) * u128::from(percent);
    let crossed: Vec<u32> = warn_at
        .iter()
        .copied()
        .filter(|percent| reached(*percent) && !ledger.warned.contains(percent))
        .collect();
    ledger.warned.extend(crossed);
}
