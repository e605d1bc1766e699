//! What people are told of the budget: the condition WithinBudget, and a Warning at every percentage they asked for.

use super::{
    transitions::Transition,
    verdict::{FALSE, TRUE, UNKNOWN, Verdict, verdict},
    view::View,
};
use crate::{
    api::{Budget, BudgetStatus, NanoUsd, conditions as types, conditions::reason, names},
    policy::budget::ledger::{attainable, outstanding},
};

/// A part of the limit that is too little to call it a budget when a request was refused for it.
const LITTLE: u64 = 100;

/// Present only with a budget. An annotation that is not carried out is told here, whatever else there is to say.
pub fn within_budget(view: &View<'_>) -> Option<Verdict> {
    let verdict = verdict_of(view)?;
    let message = view.unread.iter().fold(verdict.message, |all, one| all + "; " + one);
    Some(Verdict { message, ..verdict })
}

fn verdict_of(view: &View<'_>) -> Option<Verdict> {
    let budget = view.spec.budget.as_ref()?;
    let says = |status, reason, message: String| Some(verdict(types::WITHIN_BUDGET, status, reason, message));
    let Some(ledger) = view.ledger else {
        return says(UNKNOWN, reason::PENDING, "the ledger has not been begun yet".into());
    };
    if ledger.lost.is_some() {
        return says(FALSE, reason::LEDGER_LOST, lost(ledger));
    }
    if let Some(backend) = bound_violated(view) {
        let message = format!(
            "backend {backend} reported more than the most its request could cost: each replica that saw it has stopped it until its model, \
             contextLength, outputLimitField or price is changed"
        );
        return says(FALSE, reason::BOUND_VIOLATED, message);
    }
    if is_exhausted(view) {
        return says(FALSE, reason::EXHAUSTED, spent(budget, ledger));
    }
    if view.released().is_some() {
        return says(FALSE, reason::EXHAUSTED, released(budget, ledger));
    }
    says(
        TRUE,
        reason::AS_EXPECTED,
        format!("the budget of {} USD is not spent", budget.limit),
    )
}

/// Whether paid requests are let through.
pub fn admits(view: &View<'_>) -> bool {
    let lost = view.ledger.is_some_and(|ledger| ledger.lost.is_some());
    !(view.spec.budget.is_some() && (lost || is_exhausted(view)))
}

/// What is left pays for no request of this window that anybody has heard of and a whole window could pay, or a request was refused and
/// next to nothing is left: a single request that is too dear says nothing of the others.
fn is_exhausted(view: &View<'_>) -> bool {
    let Some(ledger) = view.ledger.filter(|ledger| ledger.lost.is_none()) else {
        return false;
    };
    let left = attainable(ledger);
    let payable = cheapest(view).filter(|cheapest| *cheapest <= ledger.limit);
    let pays = payable.is_none_or(|NanoUsd(cheapest)| left >= cheapest);
    left == 0 || !pays || (view.denied && left <= ledger.limit.0 / LITTLE)
}

/// The least that a request of this window was to reserve anywhere.
fn cheapest(view: &View<'_>) -> Option<NanoUsd> {
    let reports = view.reports().into_iter();
    reports.filter_map(|report| report.budget.as_ref()?.cheapest).min()
}

fn lost(ledger: &BudgetStatus) -> String {
    let open = ledger.leases.iter().filter(|row| outstanding(row) > 0).count();
    let wait = match open {
        0 => "Nothing is outstanding in status.budget.leases: set".to_owned(),
        open => format!("Wait until nothing is outstanding in status.budget.leases (now in {open}), then set"),
    };
    let start = ledger.window.start.as_ref();
    format!(
        "the ledger in the status is missing or older than what replicas have seen: nothing more is granted. {wait} the annotation \
         {} to what was spent since {} in USD",
        names::ANNOTATION_BUDGET_ADOPT,
        start.map_or_else(|| "the budget began".to_owned(), |start| start.0.to_string()),
    )
}

/// Where the money is, in words that stand: amounts are in `status.budget`.
fn spent(budget: &Budget, ledger: &BudgetStatus) -> String {
    let uncertain = if ledger.uncertain > ledger.settled {
        ". More of it is uncertain than settled: what providers turn out not to have billed can be written off (status.budget, docs/budget.md)"
    } else {
        ""
    };
    format!(
        "what is left of {} USD does not pay for another request: paid backends are not asked until {}{uncertain}",
        budget.limit,
        until(ledger)
    )
}

fn released(budget: &Budget, ledger: &BudgetStatus) -> String {
    format!(
        "what is left of {} USD does not pay for GPUs: there are no local pods until {}",
        budget.limit,
        until(ledger)
    )
}

fn until(ledger: &BudgetStatus) -> String {
    let end = ledger.window.end.as_ref();
    end.map_or_else(|| "the limit is raised".to_owned(), |end| end.0.to_string())
}

fn bound_violated<'a>(view: &View<'a>) -> Option<&'a str> {
    let reports = view.reports();
    let mut backends = reports.into_iter().flat_map(|report| &report.backends);
    let found = backends.find(|backend| backend.reason == reason::BOUND_VIOLATED)?;
    Some(&found.name)
}

/// A Warning for every percentage that the new ledger has and the old one of the same window had not.
pub fn warnings(old: Option<&BudgetStatus>, new: Option<&BudgetStatus>) -> Vec<Transition> {
    let Some(new) = new else { return Vec::new() };
    let same = old.filter(|old| old.window.number == new.window.number);
    let told = same.map_or(&[][..], |old| &old.warned);
    let crossed = new.warned.iter().filter(|percent| !told.contains(percent));
    let warning = |percent: &u32| Transition {
        warning: true,
        reason: reason::BUDGET_WARNING.to_owned(),
        condition: types::WITHIN_BUDGET.to_owned(),
        message: format!(
            "{percent} % of the budget of {} USD is spent: {} USD settled, {} USD uncertain",
            new.limit, new.settled, new.uncertain
        ),
    };
    crossed.map(warning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{BudgetWindow, NanoUsd};

    fn ledger(number: u64, warned: &[u32]) -> BudgetStatus {
        BudgetStatus {
            window: BudgetWindow {
                number,
                ..BudgetWindow::default()
            },
            limit: NanoUsd(1_000_000_000),
            warned: warned.to_vec(),
            ..BudgetStatus::default()
        }
    }

    #[test]
    fn a_percentage_is_told_once_a_window() {
        let percents = |old: Option<&BudgetStatus>, new: &BudgetStatus| {
            let all = warnings(old, Some(new));
            all.into_iter()
                .map(|warning| warning.message.split(' ').next().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(percents(Some(&ledger(1, &[50])), &ledger(1, &[50, 80])), ["80"]);
        assert_eq!(
            percents(Some(&ledger(1, &[50, 80])), &ledger(1, &[50, 80])),
            Vec::<String>::new()
        );
        assert_eq!(
            percents(Some(&ledger(1, &[50])), &ledger(2, &[50])),
            ["50"],
            "another window"
        );
        assert_eq!(percents(None, &ledger(1, &[50])), ["50"]);
    }
}
