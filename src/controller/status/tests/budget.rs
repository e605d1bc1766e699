//! When a budget of 100 USD is said to be spent.

use super::*;

fn ledger(settled: &str) -> Value {
    json!({"window": {"number": 1}, "limit": "100", "settled": settled, "uncertain": "0", "leased": "0", "remaining": "0", "sequence": 1})
}

/// Reasons of WithinBudget and Ready with so much spent, by whether somebody was denied and the cheapest request of each replica.
fn reasons(settled: &str, denied: bool, cheapest: [Option<&str>; 3]) -> [String; 2] {
    let mut case = Case::new();
    case.spec = fixtures::remote().spec;
    case.spec.budget = Some(parse(json!({"limit": "100", "period": "Total"})));
    let price = json!({"inputPerMillionTokens": "1", "outputPerMillionTokens": "1"});
    case.spec.backends[0].remote.as_mut().unwrap().price = Some(parse(price));
    for (replica, cheapest) in case.live.replicas.iter_mut().zip(cheapest) {
        let report = json!({"sequence": 1, "cheapest": cheapest});
        replica.status.as_mut().unwrap().budget = Some(parse(report));
    }
    if denied {
        let told = json!({"sequence": 1, "window": {"number": 1}, "denied": {"want": 1, "above": "99"}});
        case.live.replicas[0].spec.budget = Some(parse(told));
    }
    let old = InferenceDeploymentStatus {
        budget: Some(parse(ledger(settled))),
        ..InferenceDeploymentStatus::default()
    };
    let conditions = case.status(&old, "2026-01-01T00:00:00Z").conditions;
    ["WithinBudget", "Ready"].map(|type_| {
        let found = conditions.iter().find(|c| c.type_ == type_).unwrap();
        format!("{} {}", found.status, found.reason)
    })
}

#[test]
fn a_budget_is_spent_when_it_pays_for_nothing_that_anybody_asks_for() {
    let (spent, fine) = (["False Exhausted"; 2], ["True AsExpected", "True Available"]);
    for (settled, denied, cheapest, expected, why) in [
        ("0", false, [None; 3], fine, "nobody has asked yet"),
        ("100", false, [None; 3], spent, "there is nothing"),
        (
            "60",
            true,
            [Some("50"), Some("0.05"), None],
            fine,
            "one request is too dear",
        ),
        ("60", true, [None; 3], fine, "by a report of the time before this field"),
        ("60", true, [Some("50"), None, None], spent, "all that was asked for"),
        (
            "97",
            false,
            [Some("4"), Some("4"), None],
            spent,
            "the last ones cost less than they might",
        ),
        ("96", true, [Some("4"), None, None], fine, "one more"),
        (
            "0",
            false,
            [Some("120"), None, None],
            fine,
            "no window pays for it, whatever else is asked for",
        ),
        ("99.5", false, [Some("0.05"), None, None], fine, "ten more"),
        (
            "99.5",
            true,
            [Some("0.05"), None, None],
            spent,
            "next to nothing is left",
        ),
    ] {
        assert_eq!(reasons(settled, denied, cheapest), expected, "{why}");
    }
}

/// Else the 95 of 100 that nobody was billed for look like a mistake.
#[test]
fn an_exhausted_budget_says_where_the_money_is() {
    let mut case = Case::new();
    case.spec.budget = Some(parse(json!({"limit": "100", "period": "Total"})));
    let mut ledger = ledger("5");
    ledger["uncertain"] = json!("95");
    let old = InferenceDeploymentStatus {
        budget: Some(parse(ledger)),
        ..InferenceDeploymentStatus::default()
    };
    let conditions = case.status(&old, "2026-01-01T00:00:00Z").conditions;
    let found = conditions.iter().find(|c| c.type_ == "WithinBudget").unwrap();
    assert!(
        found.message.contains("More of it is uncertain than settled"),
        "{}",
        found.message
    );
}

#[test]
fn a_broken_bound_says_what_to_change() {
    let mut case = Case::new();
    case.spec.budget = Some(parse(json!({"limit": "100", "period": "Total"})));
    case.edit(|replica| {
        replica.status.as_mut().unwrap().backends[1].reason = reason::BOUND_VIOLATED.into();
    });
    let old = InferenceDeploymentStatus {
        budget: Some(parse(ledger("1"))),
        ..InferenceDeploymentStatus::default()
    };
    let conditions = case.status(&old, "2026-01-01T00:00:00Z").conditions;
    let found = conditions.iter().find(|c| c.type_ == "WithinBudget").unwrap();
    assert_eq!(found.reason, reason::BOUND_VIOLATED);
    for field in ["backend openai", "model", "contextLength", "outputLimitField", "price"] {
        assert!(found.message.contains(field), "{field}: {}", found.message);
    }
}
