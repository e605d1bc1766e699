//! One decision: from what is known to the next state of the ledger.

use super::{
    Mark, Situation, Terms,
    fold::fold,
    gpu,
    grant::{grant, wanted},
    lost::{self, Loss},
    recall::recall,
    rows::{free, leased, spent},
    windows,
};
use crate::api::{BudgetStatus, NanoUsd};

/// What to do. The order matters: what is to be read anew first; then the ledger by a conditional write, the annotations over that, and
/// the replicas' specs at last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Something can only be decided on a live read: read everything anew and decide again.
    pub look: bool,
    /// The window is to be marked before anything is granted in it: write the annotation after the ledger (a mark without one says that
    /// it was lost) and decide again.
    pub mark: Option<Mark>,
    /// The next ledger, when it differs from the one that was read.
    pub ledger: Option<BudgetStatus>,
    /// The write cannot wait for its turn: requests wait for it.
    pub urgent: bool,
    /// Annotations that are carried out.
    pub remove: Remove,
    /// The clocks do not agree: no window begins.
    pub clocks_disagree: bool,
}

/// Annotations to be removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remove {
    /// That with the amount to go on from.
    pub adopt: bool,
    /// That with the amount to write off.
    pub write_off: bool,
}

/// Decides.
#[must_use]
pub fn decide(situation: &Situation<'_>) -> Decision {
    let mut decision = Decision::default();
    let now = situation.clocks.agreed();
    decision.clocks_disagree = now.is_none();
    let Some(mut ledger) = open(situation, now, &mut decision) else {
        return decision;
    };
    lost::collect(&mut ledger, situation);
    decision.look |= fold(&mut ledger, situation);
    write_off(&mut ledger, situation, &mut decision);
    decision.remove.adopt = lost::is_done(&ledger, situation);
    if let Some(terms) = situation.terms {
        decision.look |= lost::adopt(&mut ledger, situation);
        spend(&mut ledger, situation, (terms, now), &mut decision);
    } else if let Some(now) = now {
        gpu::charge(&mut ledger, situation, None, now);
    }
    windows::forget(&mut ledger);
    show(&mut ledger);
    if situation.ledger != Some(&ledger) {
        ledger.sequence = ledger.sequence.saturating_add(1);
        decision.ledger = Some(ledger);
    }
    decision
}

/// The ledger to go on with, in the window of `now`. Without a budget in the spec an old one is kept as it is, and nothing begins.
fn open(situation: &Situation<'_>, now: Option<jiff::Timestamp>, decision: &mut Decision) -> Option<BudgetStatus> {
    let Some(terms) = situation.terms else {
        return situation.ledger.cloned();
    };
    let mut ledger = match (lost::loss(situation), situation.ledger, now) {
        (Loss::Suspected, ..) => {
            decision.look = true;
            return None;
        }
        (Loss::Certain, _, now) => lost::begin(situation, terms, now?),
        (Loss::None, Some(ledger), _) => ledger.clone(),
        (Loss::None, None, now) => BudgetStatus {
            window: windows::next(0, &terms.calendar, terms.calendar.window(now?)),
            ..BudgetStatus::default()
        },
    };
    ledger.limit = terms.limit;
    if let Some(now) = now {
        windows::advance(&mut ledger, &terms.calendar, now);
    }
    Some(ledger)
}

/// Writes off what the annotation states beyond what the ledger remembers, which is why it may be read again.
fn write_off(ledger: &mut BudgetStatus, situation: &Situation<'_>, decision: &mut Decision) {
    let Some(asked) = situation.marks.write_off else { return };
    let Ok(due) = asked.due(ledger) else { return };
    ledger.uncertain.0 = ledger.uncertain.0.saturating_sub(due);
    ledger.written_off = Some(asked.amount);
    decision.remove.write_off = true;
}

/// GPU time, grants, recalls and warnings.
fn spend(
    ledger: &mut BudgetStatus,
    situation: &Situation<'_>,
    (terms, now): (&Terms, Option<jiff::Timestamp>),
    decision: &mut Decision,
) {
    if ledger.lost.is_some() {
        return;
    }
    let marked = lost::mark(situation).is_some_and(|mark| mark.number == ledger.window.number);
    let mut unmet = 0;
    if marked {
        let charged = now.map(|now| gpu::charge(ledger, situation, terms.gpu.as_ref(), now));
        let charged = charged.unwrap_or_default();
        let granted = grant(ledger, situation);
        decision.look |= granted.look || charged.look;
        decision.urgent |= granted.urgent || charged.urgent;
        unmet = granted.unmet.max(charged.unmet);
    } else if wanted(ledger, situation) || gpu::wanted(ledger, terms.gpu.as_ref()) {
        decision.mark = Some(Mark {
            uid: situation.uid.to_owned(),
            number: ledger.window.number,
        });
        decision.urgent = true;
    }
    decision.urgent |= recall(ledger, situation, unmet);
    windows::warn(ledger, &terms.warn_at);
}

/// The amounts that people read.
fn show(ledger: &mut BudgetStatus) {
    let leased = leased(ledger);
    let used = spent(ledger).saturating_add(leased);
    ledger.leased = NanoUsd(leased);
    ledger.remaining = NanoUsd(free(ledger));
    let over = used.saturating_sub(ledger.limit.0);
    ledger.over_limit = (over > 0).then_some(NanoUsd(over));
}
