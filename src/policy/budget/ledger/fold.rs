//! What the replicas say of their leases goes into the rows, and rows of processes that have ended are closed.

use super::{
    Holder, Object, Situation,
    rows::{book, close, merge, outstanding, write_off},
};
use crate::api::{BudgetStatus, EndedProcess, LeaseReport, LeaseRow};

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its process may spend it.
    Keep,
    /// Its process has ended and has said what it spent.
    Close,
    /// Its process is gone without a last word.
    WriteOff,
    /// Nothing is outstanding and nobody can speak of it any more.
    Forget,
    /// Only a live read can tell.
    Look,
}

/// Takes all reports in. True when a row can only be judged by a live read.
pub(super) fn fold(ledger: &mut BudgetStatus, situation: &Situation<'_>) -> bool {
    let mut look = false;
    let mut rows = std::mem::take(&mut ledger.leases);
    rows.retain_mut(|row| {
        let (fate, booked) = settle(row, ledger.window.number, situation);
        book(ledger, row.window, booked);
        look |= fate == Fate::Look;
        fate != Fate::Forget
    });
    ledger.leases = rows;
    look
}

/// Brings one row to what is known. Returns what is to be booked in its window.
fn settle(row: &mut LeaseRow, current: u64, situation: &Situation<'_>) -> (Fate, (u64, u64)) {
    let holder = situation.holders.iter().find(|h| h.pod_uid == row.pod_uid);
    if row.closed {
        return (tombstone(row, holder, situation.live), (0, 0));
    }
    let (fate, report) = judge(row, holder);
    let (settled, mut uncertain) = report.map_or((0, 0), |report| merge(row, report));
    let fate = match fate {
        Fate::WriteOff if !situation.live && !certain(row, holder) => Fate::Look,
        Fate::Keep if outstanding(row) == 0 && idle(report) && leaves(row, holder, current) => Fate::Forget,
        fate => fate,
    };
    match fate {
        Fate::Close => close(row),
        Fate::WriteOff => uncertain = uncertain.saturating_add(write_off(row)),
        Fate::Keep | Fate::Forget | Fate::Look => {}
    }
    (fate, (settled, uncertain))
}

fn judge<'a>(row: &LeaseRow, holder: Option<&Holder<'a>>) -> (Fate, Option<&'a LeaseReport>) {
    let Some(holder) = holder else {
        return (Fate::WriteOff, None);
    };
    let alive = if holder.pod_lives { Fate::Keep } else { Fate::WriteOff };
    let Some(object) = holder.object else {
        return (alive, None);
    };
    if let Some(ended) = ended(row, &object) {
        let listed = ended.leases.iter().find(|lease| lease.id == row.id);
        let known = listed.is_some() || !ended.damaged;
        return (if known { Fate::Close } else { Fate::WriteOff }, listed);
    }
    let (Some(boot), Some(report)) = (object.boot_id, object.report) else {
        // Nothing was said yet, or it was said by a process without a budget.
        return (alive, None);
    };
    if boot != row.boot_id {
        return (Fate::WriteOff, None);
    }
    let fate = if report.is_final { Fate::Close } else { alive };
    (fate, report.leases.iter().find(|lease| lease.id == row.id))
}

/// What a later process of the pod says of the row's.
fn ended<'a>(row: &LeaseRow, object: &Object<'a>) -> Option<&'a EndedProcess> {
    object.report?.ended.iter().find(|ended| ended.boot_id == row.boot_id)
}

/// The write-off rests on the word of a successor and needs no live read.
fn certain(row: &LeaseRow, holder: Option<&Holder<'_>>) -> bool {
    holder
        .and_then(|h| h.object)
        .is_some_and(|object| ended(row, &object).is_some())
}

/// Nothing is in flight, even where a provider reported more than was reserved.
fn idle(report: Option<&LeaseReport>) -> bool {
    report.is_none_or(|report| report.reserved.0 == 0)
}

/// No more will be granted on this row, though its process lives.
fn leaves(row: &LeaseRow, holder: Option<&Holder<'_>>, current: u64) -> bool {
    let deleting = holder.and_then(|h| h.object).is_some_and(|object| object.deleting);
    row.window != current || deleting
}

/// A closed row stays while its process might still be seen in some cache.
fn tombstone(row: &LeaseRow, holder: Option<&Holder<'_>>, live: bool) -> Fate {
    let object = holder.and_then(|h| h.object);
    let boot = object.and_then(|object| object.boot_id);
    let gone = object.is_none() || boot.is_some_and(|boot| boot != row.boot_id);
    match (gone, live) {
        (true, true) => Fate::Forget,
        (true, false) => Fate::Look,
        (false, _) => Fate::Keep,
    }
}
