//! What one replica is told.

use super::{Holder, grant::want, rows::attainable};
use crate::api::{BudgetStatus, Denied, LeaseGrant, LeaseRow, NanoUsd, ReplicaBudget, WindowEnd};

/// Leases that a replica is told of, the newest.
const LEASES: usize = 64;

/// What the replica's spec must say; `None` when it says so already, or when it was written from a newer ledger than this.
#[must_use]
pub fn projection(ledger: &BudgetStatus, holder: &Holder<'_>) -> Option<ReplicaBudget> {
    let told = holder.object?.spec;
    if told.is_some_and(|told| told.sequence > ledger.sequence) {
        return None;
    }
    let rows = ledger
        .leases
        .iter()
        .filter(|row| row.pod_uid == holder.pod_uid && !row.closed);
    let mut leases: Vec<_> = rows.map(grant).collect();
    leases.drain(..leases.len().saturating_sub(LEASES));
    let next = ReplicaBudget {
        sequence: ledger.sequence,
        window: WindowEnd {
            number: ledger.window.number,
            end: ledger.window.end.clone(),
        },
        leases,
        denied: denied(ledger, holder),
    };
    // For the number alone nothing is written.
    let same = told
        .is_some_and(|told| (&told.window, &told.leases, &told.denied) == (&next.window, &next.leases, &next.denied));
    (!same).then_some(next)
}

fn grant(row: &LeaseRow) -> LeaseGrant {
    LeaseGrant {
        id: row.id,
        boot_id: row.boot_id.clone(),
        window: row.window,
        granted: row.granted,
        recall_to: row.recall_to,
    }
}

/// The cheapest waiting request is denied when not even everything that can come back would pay for it. What can come back only
/// shrinks, so a denial stays true until the limit, the window or an annotation changes that.
pub(super) fn denied(ledger: &BudgetStatus, holder: &Holder<'_>) -> Option<Denied> {
    if ledger.lost.is_some() {
        return None;
    }
    let above = attainable(ledger);
    let told = holder.object?.spec.and_then(|spec| spec.denied.as_ref());
    let asked = want(holder)
        .map(|(want, ..)| want)
        .filter(|want| want.request.0 > above);
    match (asked, told) {
        (Some(want), Some(told)) if told.above.0 >= want.request.0 || above > told.above.0 => {
            Some(deny(want.sequence, above))
        }
        (Some(want), None) => Some(deny(want.sequence, above)),
        (_, Some(told)) if above <= told.above.0 => Some(told.clone()),
        _ => None,
    }
}

const fn deny(want: u64, above: u64) -> Denied {
    Denied {
        want,
        above: NanoUsd(above),
    }
}

/// Whether the finalizer of the pod's `InferenceReplica` may go: every row of the pod is folded. Only after a live read.
#[must_use]
pub fn may_release(ledger: Option<&BudgetStatus>, pod_uid: &str) -> bool {
    ledger.is_none_or(|ledger| ledger.leases.iter().all(|row| row.closed || row.pod_uid != pod_uid))
}
