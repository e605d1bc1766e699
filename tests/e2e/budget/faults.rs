//! Nothing is overspent and nothing is lost when processes are killed and the API server is away.

use super::*;
use crate::harness::{Frozen, figure, kill_controllers, kill_runtime};

/// What was spent lies between what is settled and what is settled or uncertain.
async fn judge(endpoint: &Endpoint, what: &str) {
    let (ledger, _) = endpoint.settled().await;
    let (sent, answered) = (endpoint.provider.calls(), endpoint.provider.accepted());
    figure(
        &format!("overspend, {what}, requests"),
        sent.saturating_sub(endpoint.requests),
    );
    figure(
        &format!("{what}: sent, answered, settled, uncertain"),
        format!("{sent} {answered} {} {}", ledger.settled, ledger.uncertain),
    );
    assert!(sent <= endpoint.requests, "{sent} of {}", endpoint.requests);
    assert!(ledger.settled <= usd(sent * COST), "{ledger:?}");
    let most = NanoUsd(ledger.settled.0 + ledger.uncertain.0);
    assert!(
        usd(answered * COST) <= most && most <= usd(endpoint.requests * COST),
        "{ledger:?}"
    );
}

async fn granted_again(endpoint: &Endpoint) {
    until("money is granted again", PODS, async || {
        let tally = endpoint.load(8, 8).await;
        if tally.answered() > 0 {
            Ok(())
        } else {
            Err(format!("{tally:?}"))
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "stops what other tests need: runs alone"]
async fn kill_9_of_replicas_and_controller_overspends_nothing() {
    let endpoint = Endpoint::start("budget-kill", 2, 40).await;
    endpoint.provider.set(Mode::Answer(Duration::from_millis(300)));
    let load = endpoint.load(120, 16);
    let pods = endpoint.pod_names().await;
    let kills = async {
        // More than one of them has; and no more than their first leases, for what else is granted depends on how quick the controller is.
        until("requests are under way", SOON, async || {
            let sent = endpoint.provider.calls();
            if sent > 8 { Ok(()) } else { Err(format!("{sent}")) }
        })
        .await;
        kill_controllers();
        pods.iter().filter(|pod| kill_runtime(pod)).count()
    };
    let (tally, killed) = tokio::join!(load, kills);
    assert_eq!(killed, 2, "{tally:?}");
    endpoint.all_ready(2).await;
    granted_again(&endpoint).await;
    endpoint.load(80, 16).await;
    judge(&endpoint, "kill -9 of 2 replicas and the controller").await;
    endpoint.namespace.done().await;
}

#[tokio::test]
#[ignore = "stops what other tests need: runs alone"]
async fn without_the_api_server_what_is_leased_is_spent_and_nothing_more() {
    let endpoint = Endpoint::start("budget-away", 2, 400).await;
    endpoint.provider.set(Mode::Answer(Duration::from_millis(50)));
    endpoint.load(40, 8).await;
    let frozen = Frozen::new("kube-apiserver");
    let (before, started) = (endpoint.provider.calls(), Instant::now());
    let mut refused = 0;
    while started.elapsed() < Duration::from_secs(20) {
        let tally = endpoint.load(8, 8).await;
        refused += tally.of(429, "insufficient_quota");
    }
    drop(frozen);
    figure(
        "requests served while the API server was away 20 s",
        endpoint.provider.calls() - before,
    );
    assert_eq!(refused, 0, "nobody has said that the budget is spent");
    granted_again(&endpoint).await;
    judge(&endpoint, "API server away 20 s").await;
    endpoint.namespace.done().await;
}
