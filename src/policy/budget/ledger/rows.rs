//! Arithmetic of rows and totals. Sums saturate: that is always on the side of spending less.

use crate::api::{BudgetStatus, LeaseReport, LeaseRow, NanoUsd};

/// What a lease may still cost.
#[must_use]
pub const fn outstanding(row: &LeaseRow) -> u64 {
    if row.closed {
        return 0;
    }
    let left = row.granted.0.saturating_sub(row.surrendered.0);
    left.saturating_sub(row.settled.0).saturating_sub(row.uncertain.0)
}

/// Outstanding in the current window, and reserved for GPU time.
pub(super) fn leased(ledger: &BudgetStatus) -> u64 {
    let current = ledger.leases.iter().filter(|row| row.window == ledger.window.number);
    current.map(outstanding).fold(gpu_reserved(ledger), u64::saturating_add)
}

/// Reserved for GPU time.
fn gpu_reserved(ledger: &BudgetStatus) -> u64 {
    let Some(time) = &ledger.gpu_time else { return 0 };
    let pods = time.pods.iter().map(|pod| pod.reserved.0);
    pods.fold(time.ahead.0, u64::saturating_add)
}

/// Spent in the current window, or nobody knows.
pub(super) const fn spent(ledger: &BudgetStatus) -> u64 {
    ledger.settled.0.saturating_add(ledger.uncertain.0)
}

/// What requests can still spend in this window once everything has come back that can: of this a denial is made. GPU time that is
/// reserved does not come back while its pods run.
#[must_use]
pub fn attainable(ledger: &BudgetStatus) -> u64 {
    ledger
        .limit
        .0
        .saturating_sub(spent(ledger).saturating_add(gpu_reserved(ledger)))
}

/// What may be granted now.
pub(super) fn free(ledger: &BudgetStatus) -> u64 {
    ledger
        .limit
        .0
        .saturating_sub(spent(ledger).saturating_add(leased(ledger)))
}

/// The totals of a window: settled and uncertain. A window that is forgotten has none.
pub(super) fn totals(ledger: &mut BudgetStatus, window: u64) -> Option<(&mut NanoUsd, &mut NanoUsd)> {
    if window == ledger.window.number {
        return Some((&mut ledger.settled, &mut ledger.uncertain));
    }
    let closed = ledger.closed_windows.iter_mut().find(|w| w.number == window)?;
    Some((&mut closed.settled, &mut closed.uncertain))
}

/// Takes a report in. Reports only grow, so an older one changes nothing. Returns by how much settled and uncertain rose.
pub(super) fn merge(row: &mut LeaseRow, report: &LeaseReport) -> (u64, u64) {
    row.surrendered = row.surrendered.max(report.surrendered).min(row.granted);
    (
        raise(&mut row.settled, report.settled),
        raise(&mut row.uncertain, report.uncertain),
    )
}

fn raise(total: &mut NanoUsd, to: NanoUsd) -> u64 {
    let rise = to.0.saturating_sub(total.0);
    total.0 += rise;
    rise
}

/// The process has ended and what is left was not spent.
pub(super) const fn close(row: &mut LeaseRow) {
    row.surrendered.0 = row.surrendered.0.saturating_add(outstanding(row));
    row.recall_to = None;
    row.closed = true;
}

/// The process is gone without a word: what is left may have been spent. Returns that.
pub(super) const fn write_off(row: &mut LeaseRow) -> u64 {
    let left = outstanding(row);
    row.uncertain.0 = row.uncertain.0.saturating_add(left);
    row.recall_to = None;
    row.closed = true;
    left
}

/// Adds to the totals of a window.
pub(super) fn book(ledger: &mut BudgetStatus, window: u64, (settled, uncertain): (u64, u64)) {
    if let Some((all_settled, all_uncertain)) = totals(ledger, window) {
        all_settled.0 = all_settled.0.saturating_add(settled);
        all_uncertain.0 = all_uncertain.0.saturating_add(uncertain);
    }
}
