//! Money is called back when a waiting request lacks it, or when the limit was lowered: from those who do not need it first.

use super::{
    Situation,
    grant::payable,
    rows::{attainable, leased, outstanding, spent},
};
use crate::api::{BudgetStatus, LeaseRow, NanoUsd};

/// A row that may be called back from.
struct Victim {
    row: usize,
    /// 0: its process wants nothing that can be paid. 1: it wants more ahead of time. 2: its requests wait.
    need: u8,
    outstanding: u64,
    /// Not reserved, as far as is known.
    idle: u64,
    take: u64,
}

/// Sets what every lease is to shrink to, so that `unmet` or what is over the limit comes back. True when somebody is newly asked.
pub(super) fn recall(ledger: &mut BudgetStatus, situation: &Situation<'_>, unmet: u64) -> bool {
    let over = spent(ledger)
        .saturating_add(leased(ledger))
        .saturating_sub(ledger.limit.0);
    let wanted = unmet.max(over);
    let mut victims = if wanted == 0 {
        Vec::new()
    } else {
        victims(ledger, situation, over > 0)
    };
    choose(&mut victims, wanted);
    let mut newly = false;
    let current = ledger.window.number;
    for (index, row) in ledger.leases.iter_mut().enumerate() {
        let victim = victims.iter().find(|victim| victim.row == index && victim.take > 0);
        let to = victim.map(|victim| NanoUsd(victim.outstanding.saturating_sub(victim.take)));
        newly |= to.is_some() && row.recall_to != to;
        row.recall_to = to.filter(|_| row.window == current);
    }
    newly
}

/// Rows of this window, those first that need their money least. The one who lacks least keeps his, unless all is over the limit.
fn victims(ledger: &BudgetStatus, situation: &Situation<'_>, all: bool) -> Vec<Victim> {
    let most = attainable(ledger);
    let waiting = situation
        .holders
        .iter()
        .filter_map(|h| Some((payable(h, most)?.0.least, h.pod_uid)));
    let first = waiting.filter(|(least, _)| least.0 > 0).min().map(|(_, uid)| uid);
    let current = |row: &LeaseRow| row.window == ledger.window.number && outstanding(row) > 0;
    let rows = ledger.leases.iter().enumerate().filter(|(_, row)| current(row));
    let rows = rows.filter(|(_, row)| all || first != Some(row.pod_uid.as_str()));
    let mut victims: Vec<Victim> = rows.map(|(index, row)| victim(index, row, situation, most)).collect();
    victims.sort_by_key(|victim| (victim.need, u64::MAX - victim.idle, victim.row));
    victims
}

fn victim(index: usize, row: &LeaseRow, situation: &Situation<'_>, most: u64) -> Victim {
    let holder = situation.holders.iter().find(|h| h.pod_uid == row.pod_uid);
    let report = holder.and_then(|h| h.object).and_then(|object| object.report);
    let lease = report.and_then(|report| report.leases.iter().find(|lease| lease.id == row.id));
    let outstanding = outstanding(row);
    Victim {
        row: index,
        need: match holder.and_then(|holder| payable(holder, most)) {
            None => 0,
            Some((want, ..)) if want.least.0 == 0 => 1,
            Some(_) => 2,
        },
        outstanding,
        idle: outstanding.saturating_sub(lease.map_or(0, |lease| lease.reserved.0)),
        take: 0,
    }
}

/// Takes idle money first; what is in flight comes back when its request has ended.
fn choose(victims: &mut [Victim], mut wanted: u64) {
    for idle_only in [true, false] {
        for victim in victims.iter_mut() {
            let there = if idle_only { victim.idle } else { victim.outstanding };
            let take = there.saturating_sub(victim.take).min(wanted);
            victim.take = victim.take.saturating_add(take);
            wanted = wanted.saturating_sub(take);
        }
    }
}
