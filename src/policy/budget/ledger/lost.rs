//! A ledger that is missing or older than what replicas have seen: its status was wiped, or restored from a backup.
//!
//! Nothing is granted. A new window begins for the ledger, whatever the calendar says, so that all leases of before belong to an
//! earlier one and are given back; every replica's spec is written anew, which also fences writes of the time before. Once nothing is
//! outstanding an annotation may state what was spent, and the ledger goes on from there.

use super::{Mark, Situation, Terms, rows::outstanding, windows};
use crate::api::{BudgetStatus, LeaseGrant, LeaseRow, LostLedger};

/// Sequences that are skipped after a loss: more than any lost ledger can have been ahead of all that was seen of it.
const GAP: u64 = 1_000_000;

/// Whether the ledger is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It is as it should be.
    None,
    /// It seems so; a live read tells.
    Suspected,
    /// It is.
    Certain,
}

/// Compares the ledger with its traces.
pub(super) fn loss(situation: &Situation<'_>) -> Loss {
    let seen = seen(situation);
    let lost = match situation.ledger {
        Some(ledger) => seen > ledger.sequence,
        None => seen > 0 || mark(situation).is_some(),
    };
    match (lost, situation.live) {
        (false, _) => Loss::None,
        (true, false) => Loss::Suspected,
        (true, true) => Loss::Certain,
    }
}

fn seen(situation: &Situation<'_>) -> u64 {
    let objects = situation.holders.iter().filter_map(|h| h.object);
    objects.map(|object| object.seen()).max().unwrap_or(0)
}

/// The mark, when it is this deployment's.
pub(super) fn mark<'a>(situation: &Situation<'a>) -> Option<&'a Mark> {
    situation.marks.window.as_ref().filter(|mark| mark.uid == situation.uid)
}

/// The first ledger after a loss.
pub(super) fn begin(situation: &Situation<'_>, terms: &Terms, now: jiff::Timestamp) -> BudgetStatus {
    let mut ledger = situation.ledger.cloned().unwrap_or_default();
    let specs = situation.holders.iter().filter_map(|h| h.object?.spec);
    let told = specs.flat_map(|spec| spec.leases.iter().map(|lease| lease.window).chain([spec.window.number]));
    let number = told.chain(mark(situation).map(|mark| mark.number)).max().unwrap_or(0);
    let number = number.max(ledger.window.number);
    windows::turn(
        &mut ledger,
        windows::next(number, &terms.calendar, terms.calendar.window(now)),
        now,
    );
    ledger.sequence = ledger.sequence.max(seen(situation)).saturating_add(GAP);
    // The amount that will be stated says what pods have used until then.
    ledger.gpu_time = None;
    // Every write raises the sequence, this one too.
    let since = ledger.sequence.saturating_add(1);
    ledger.lost = Some(LostLedger { since, adopting: None });
    ledger
}

/// Takes up leases that only the specs still know.
pub(super) fn collect(ledger: &mut BudgetStatus, situation: &Situation<'_>) {
    let Some(since) = ledger.lost.as_ref().map(|lost| lost.since) else {
        return;
    };
    for holder in situation.holders {
        let spec = holder.object.and_then(|object| object.spec);
        for lease in spec
            .iter()
            .filter(|spec| spec.sequence < since)
            .flat_map(|spec| &spec.leases)
        {
            take_up(ledger, holder.pod, holder.pod_uid, lease);
        }
    }
}

fn take_up(ledger: &mut BudgetStatus, pod: &str, pod_uid: &str, lease: &LeaseGrant) {
    if let Some(row) = ledger.leases.iter_mut().find(|row| row.id == lease.id) {
        row.granted = row.granted.max(lease.granted);
        return;
    }
    ledger.leases.push(LeaseRow {
        id: lease.id,
        pod: pod.to_owned(),
        pod_uid: pod_uid.to_owned(),
        boot_id: lease.boot_id.clone(),
        window: lease.window,
        granted: lease.granted,
        ..LeaseRow::default()
    });
}

/// Goes on from the amount that the annotation states, once no lease of before can be spent. In three writes, so that the annotation
/// works once: the amount, then the annotation's removal, then the first grants. True when only a live read can tell.
pub(super) fn adopt(ledger: &mut BudgetStatus, situation: &Situation<'_>) -> bool {
    let Some(lost) = &mut ledger.lost else { return false };
    match (situation.marks.adopt, lost.adopting) {
        (None, Some(_)) => ledger.lost = None,
        (Some(stated), adopting) if adopting != Some(stated) => {
            let quiet = ledger.leases.iter().all(|row| outstanding(row) == 0);
            if !quiet || !fenced(situation, lost.since) {
                return false;
            }
            if !situation.live {
                return true;
            }
            lost.adopting = Some(stated);
            ledger.settled = stated;
        }
        _ => {}
    }
    false
}

/// The annotation with the amount is carried out. One that was set without a loss is none: it must not lie in wait for the next.
pub(super) fn is_done(ledger: &BudgetStatus, situation: &Situation<'_>) -> bool {
    let recorded = situation.ledger.and_then(|ledger| ledger.lost.as_ref()?.adopting);
    let taken = ledger.lost.is_none() || (recorded.is_some() && recorded == situation.marks.adopt);
    situation.marks.adopt.is_some() && taken
}

/// Every replica was told of the loss.
fn fenced(situation: &Situation<'_>, since: u64) -> bool {
    let mut objects = situation.holders.iter().filter_map(|h| h.object);
    objects.all(|object| object.spec.is_some_and(|spec| spec.sequence >= since))
}
