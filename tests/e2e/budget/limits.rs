//! Exactly what the budget is for is spent, whatever comes at once and however many replicas there are.

use super::*;
use crate::harness::figure;

async fn sweep(name: &str, replicas: u32) {
    let mut endpoint = Endpoint::start(name, replicas, 10).await;
    for concurrency in [16, 64, 256] {
        if endpoint.provider.calls() > 0 {
            endpoint.allow(10).await;
        }
        let tally = endpoint.spend_it_all(concurrency).await;
        let over = endpoint.provider.calls() - endpoint.requests;
        figure(
            &format!("overspend, {replicas} replicas, c = {concurrency}, requests"),
            over,
        );
        figure(
            &format!("ends, {replicas} replicas, c = {concurrency}"),
            format!("{:?}", tally.outcomes),
        );
    }
    let refused = endpoint.load(4, 4).await;
    assert_eq!(refused.of(429, "insufficient_quota"), 4, "{refused:?}");
    endpoint
        .namespace
        .wait_reason("assistant", "WithinBudget", "False", "Exhausted")
        .await;
    let (ledger, _) = endpoint.settled().await;
    assert_eq!(
        (ledger.settled, ledger.uncertain),
        (usd(30 * COST), NanoUsd(0)),
        "nothing was killed, hung up or cut"
    );
    endpoint.namespace.done().await;
}

#[tokio::test]
async fn one_replica_spends_its_budget_and_not_one_request_more() {
    sweep("budget-one", 1).await;
}

#[tokio::test]
async fn eight_replicas_spend_their_budget_and_not_one_request_more() {
    sweep("budget-eight", 8).await;
}

#[tokio::test]
async fn a_budget_smaller_than_what_all_replicas_would_hold_serves_until_it_is_spent() {
    let endpoint = Endpoint::start("budget-small", 8, 3).await;
    let tally = endpoint.spend_it_all(8).await;
    assert_eq!(tally.answered(), 3, "{tally:?}");
    figure("requests of a budget for 3 at 8 replicas", tally.answered());
    endpoint.namespace.done().await;
}
