//! Grants follow demand: what waiting requests lack first, then what replicas see coming, then up to a hundredth of the limit ahead.

use super::{
    Holder, Situation,
    rows::{attainable, free, leased, outstanding},
};
use crate::api::{BudgetReport, BudgetStatus, LeaseRow, NanoUsd, Want};

/// Rows that a ledger may have.
const ROWS: usize = 2048;
/// Ids that one write of the ledger may use.
const IDS: u64 = 4096;

/// A replica that wants money.
#[derive(Debug)]
struct Asker<'a> {
    pod: &'a str,
    pod_uid: &'a str,
    boot_id: &'a str,
    /// Its row in this window.
    row: Option<usize>,
    /// Wanted beyond the row, all in all.
    amount: u64,
    /// Of that, what the cheapest waiting request lacks.
    least: u64,
    given: u64,
}

/// What was granted, and what was not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Granted {
    /// Waiting requests got something.
    pub urgent: bool,
    /// What the first of those lacks for whom nothing was there; the rest waits behind it.
    pub unmet: u64,
    /// A first grant to a process needs a live read.
    pub look: bool,
}

/// Grants what is wanted as far as there is money.
pub(super) fn grant(ledger: &mut BudgetStatus, situation: &Situation<'_>) -> Granted {
    let mut result = Granted::default();
    let mut askers = askers(ledger, situation);
    let mut left = free(ledger);
    let chunk = chunk(ledger, situation, left);
    result.unmet = serve_waiting(&mut askers, &mut left);
    if result.unmet == 0 {
        share_out(&mut askers, &mut left);
        ahead(&mut askers, &mut left, chunk);
    }
    let first = askers.iter().any(|a| a.given > 0 && a.row.is_none());
    if first && !situation.live {
        result.look = true;
        return result;
    }
    result.urgent = askers.iter().any(|a| a.given > 0 && a.least > 0);
    let base = ledger.sequence.saturating_add(1).saturating_mul(IDS);
    for (asker, id) in askers.iter().filter(|a| a.given > 0).zip(base..) {
        enter(ledger, asker, id);
    }
    result
}

/// True when somebody wants what only a grant can give.
pub(super) fn wanted(ledger: &BudgetStatus, situation: &Situation<'_>) -> bool {
    askers(ledger, situation).iter().any(|a| a.amount > 0)
}

/// Those who want, the smallest lack first: money that is there goes where it is of use.
fn askers<'a>(ledger: &BudgetStatus, situation: &Situation<'a>) -> Vec<Asker<'a>> {
    let most = attainable(ledger);
    let askers = situation.holders.iter().filter_map(|h| asker(ledger, h, most));
    let mut askers: Vec<_> = askers.collect();
    askers.sort_by_key(|asker| (asker.least, asker.pod_uid));
    askers
}

fn asker<'a>(ledger: &BudgetStatus, holder: &Holder<'a>, most: u64) -> Option<Asker<'a>> {
    let (want, report, boot_id) = payable(holder, most)?;
    let of_process = |row: &LeaseRow| row.pod_uid == holder.pod_uid && row.boot_id == boot_id;
    if ledger.leases.iter().any(|row| of_process(row) && row.closed) {
        return None;
    }
    let current = |row: &LeaseRow| of_process(row) && row.window == ledger.window.number;
    let row = ledger.leases.iter().position(current);
    let unseen = row.and_then(|row| ledger.leases.get(row)).map_or(0, |row| {
        let seen = report.leases.iter().find(|lease| lease.id == row.id);
        row.granted.0.saturating_sub(seen.map_or(0, |lease| lease.granted.0))
    });
    Some(Asker {
        pod: holder.pod,
        pod_uid: holder.pod_uid,
        boot_id,
        row,
        amount: want.amount.0.saturating_sub(unseen),
        least: want.least.0.saturating_sub(unseen),
        given: 0,
    })
}

/// What a replica wants that `most` can pay for. A want whose cheapest request is dearer is denied, and nobody gives anything back for it.
pub(super) fn payable<'a>(holder: &Holder<'a>, most: u64) -> Option<(&'a Want, &'a BudgetReport, &'a str)> {
    want(holder).filter(|(want, ..)| want.request.0 <= most)
}

/// What a replica wants that may be granted something.
pub(super) fn want<'a>(holder: &Holder<'a>) -> Option<(&'a Want, &'a BudgetReport, &'a str)> {
    let object = holder.object.filter(|object| holder.pod_lives && !object.deleting)?;
    let report = object.report.filter(|report| !report.is_final)?;
    Some((report.want.as_ref()?, report, object.boot_id?))
}

/// At least so much is given to who wants anything: a hundredth of the limit, unless too many share what is left.
fn chunk(ledger: &BudgetStatus, situation: &Situation<'_>, free: u64) -> u64 {
    let holds = |uid: &str| {
        let current = |row: &&LeaseRow| row.window == ledger.window.number && row.pod_uid == uid;
        ledger.leases.iter().filter(current).any(|row| outstanding(row) > 0)
    };
    let most = attainable(ledger);
    let active = situation
        .holders
        .iter()
        .filter(|h| payable(h, most).is_some() || holds(h.pod_uid));
    let active = u64::try_from(active.count()).unwrap_or(u64::MAX).max(1);
    let remaining = free.saturating_add(leased(ledger));
    (ledger.limit.0 / 100).min(remaining / active.saturating_mul(2))
}

/// Gives each what its cheapest waiting request lacks, the smallest first. Returns what the first lacks for whom it was not enough.
fn serve_waiting(askers: &mut [Asker<'_>], left: &mut u64) -> u64 {
    for asker in askers.iter_mut().filter(|a| a.least > 0) {
        if asker.least > *left {
            return asker.least.saturating_sub(*left);
        }
        asker.take(asker.least, left);
    }
    0
}

/// Shares the rest out evenly, to nobody more than he wants.
fn share_out(askers: &mut [Asker<'_>], left: &mut u64) {
    let mut open: Vec<&mut Asker<'_>> = askers.iter_mut().filter(|a| a.amount > a.given).collect();
    open.sort_by_key(|asker| (asker.amount.saturating_sub(asker.given), asker.pod_uid));
    let mut still = u64::try_from(open.len()).unwrap_or(u64::MAX);
    for asker in open {
        let part = *left / still.max(1);
        asker.take(part.min(asker.amount.saturating_sub(asker.given)), left);
        still = still.saturating_sub(1);
    }
}

/// Tops up, so that not every request asks again.
fn ahead(askers: &mut [Asker<'_>], left: &mut u64, chunk: u64) {
    for asker in askers.iter_mut().filter(|a| a.given > 0 && a.given < chunk) {
        asker.take(chunk.saturating_sub(asker.given).min(*left), left);
    }
}

impl Asker<'_> {
    const fn take(&mut self, amount: u64, left: &mut u64) {
        self.given = self.given.saturating_add(amount);
        *left = left.saturating_sub(amount);
    }
}

fn enter(ledger: &mut BudgetStatus, asker: &Asker<'_>, id: u64) {
    if let Some(row) = asker.row.and_then(|row| ledger.leases.get_mut(row)) {
        row.granted.0 = row.granted.0.saturating_add(asker.given);
    } else if ledger.leases.len() < ROWS {
        ledger.leases.push(LeaseRow {
            id,
            pod: asker.pod.to_owned(),
            pod_uid: asker.pod_uid.to_owned(),
            boot_id: asker.boot_id.to_owned(),
            window: ledger.window.number,
            granted: NanoUsd(asker.given),
            ..LeaseRow::default()
        });
    }
}
