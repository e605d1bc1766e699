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
    refused(&endpoint).await;
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
    let row = endpoint.namespace.kubectl(&["get", "infd", "assistant"]);
    let shown = |amount: &str| row.split_whitespace().any(|word| word == amount);
    assert!(shown("120.00") && shown("120"), "Spent and Budget: {row}");
    endpoint.namespace.done().await;
}

/// With everything that a client needs to know.
async fn refused(endpoint: &Endpoint) {
    let answer = post(&endpoint.url(), &chat()).await.expect("an answer");
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (429, "insufficient_quota")
    );
    let end = endpoint.ledger().await.window.end.expect("a month ends").0;
    let error = answer.json()["error"].clone();
    assert_eq!(error["type"], "insufficient_quota");
    assert_eq!(error["inference_error"]["kind"], "budget_exceeded");
    assert_eq!(error["inference_error"]["window_end_unix_ms"], end.as_millisecond());
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
