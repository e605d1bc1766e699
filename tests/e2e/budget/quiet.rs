//! What failures cost, and what remains when all is quiet.

use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};

use super::*;
use crate::harness::figure;

#[tokio::test]
async fn failures_cost_nothing_hang_ups_are_uncertain_and_idle_money_comes_back() {
    let endpoint = Endpoint::start("budget-quiet", 1, 100).await;
    endpoint.provider.set(Mode::Fail(503));
    let tally = endpoint.load(10, 2).await;
    assert_eq!(tally.of(502, "server_error"), 10, "{tally:?}");
    assert_eq!(endpoint.provider.calls(), 10);
    let quiet_since = Instant::now();
    let (ledger, _) = endpoint.settled().await;
    figure("ten 503s cost, USD", ledger.settled);
    assert_eq!((ledger.settled, ledger.uncertain), (NanoUsd(0), NanoUsd(0)));
    figure("quiet → nothing leased, s", quiet_since.elapsed().as_secs_f64());
    assert!(
        quiet_since.elapsed() <= Duration::from_secs(35),
        "{:?}",
        quiet_since.elapsed()
    );

    endpoint.provider.set(Mode::Hang);
    let (url, body) = (endpoint.url(), chat());
    let hang_ups = (0..10).map(|_| tokio::time::timeout(Duration::from_secs(2), post(&url, &body)));
    let ends = futures::future::join_all(hang_ups).await;
    assert!(ends.iter().all(Result::is_err), "all were hung up: {ends:?}");
    let sent = endpoint.provider.calls() - 10;
    let ledger = until("the hang-ups are uncertain", SOON, async || {
        let ledger = endpoint.ledger().await;
        if ledger.uncertain == usd(sent * COST) {
            Ok(ledger)
        } else {
            Err(format!("{ledger:?}"))
        }
    })
    .await;
    figure(
        "ten hang-ups: sent, uncertain USD",
        format!("{sent} {}", ledger.uncertain),
    );
    assert_eq!((sent, ledger.settled), (10, NanoUsd(0)));
    endpoint.namespace.done().await;
}

#[tokio::test]
async fn writes_for_the_budget_are_few_under_load() {
    let endpoint = Endpoint::start("budget-writes", 1, 100_000).await;
    endpoint.load(50, 8).await;
    let watching = watcher(endpoint.namespace.replicas(), watcher::Config::default()).applied_objects();
    let mut watching = std::pin::pin!(watching);
    let length = Duration::from_secs(30);
    let loading = async {
        let started = Instant::now();
        while started.elapsed() < length {
            let tally = endpoint.load(20, 4).await;
            assert_eq!(tally.answered(), 20, "{tally:?}");
        }
    };
    let mut writes = 0_u32;
    let counting = tokio::time::timeout(length, async {
        while watching.next().await.is_some() {
            writes += 1;
        }
    });
    let ((), ended) = tokio::join!(loading, counting);
    assert!(ended.is_err(), "the watch goes on");
    // The watch begins with a list.
    let rate = f64::from(writes.saturating_sub(1)) / length.as_secs_f64() * 5.0;
    figure("writes to a replica's object in 5 s under load", rate);
    assert!(
        rate <= 2.0,
        "one of the replica and one of the controller at most: {rate}"
    );
    endpoint.namespace.done().await;
}
