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
    write_off(&endpoint, ledger.uncertain).await;
    endpoint.namespace.done().await;
}

/// The runbook: the bill shows that half of it was never spent.
async fn write_off(endpoint: &Endpoint, uncertain: NanoUsd) {
    let half = NanoUsd(uncertain.0 / 2);
    let annotation = format!("inference-operator.dev/budget-write-off-uncertain={half}");
    endpoint
        .namespace
        .kubectl(&["annotate", "infd", "assistant", &annotation]);
    until("half is written off and the annotation removed", SOON, async || {
        let ledger = endpoint.ledger().await;
        if ledger.uncertain == half && ledger.written_off.is_none() {
            Ok(())
        } else {
            Err(format!("{ledger:?}"))
        }
    })
    .await;
}

/// Writes to an object, by which part changed.
#[derive(Debug, Default)]
struct Writes {
    spec: u32,
    status: u32,
}

/// What cannot wait is written beside them, ten times a minute at most (design section 8).
const URGENT: u32 = 10;

#[tokio::test]
async fn writes_for_the_budget_are_few_under_load_and_deletion_ends_it() {
    let endpoint = Endpoint::start("budget-writes", 1, 100_000).await;
    endpoint.load(50, 8).await;
    let watching = watcher(endpoint.namespace.replicas(), watcher::Config::default()).applied_objects();
    let mut watching = std::pin::pin!(watching);
    let (length, sequence) = (Duration::from_secs(30), endpoint.ledger().await.sequence);
    let loading = async {
        let started = Instant::now();
        while started.elapsed() < length {
            let tally = endpoint.load(20, 4).await;
            assert_eq!(tally.answered(), 20, "{tally:?}");
        }
    };
    let (mut writes, mut before) = (Writes::default(), None);
    let counting = tokio::time::timeout(length, async {
        while let Some(replica) = watching.next().await {
            let replica = replica.expect("the watch goes on");
            if before.is_some_and(|generation| generation == replica.metadata.generation) {
                writes.status += 1;
            } else if before.is_some() {
                writes.spec += 1;
            }
            before = Some(replica.metadata.generation);
        }
    });
    let ((), ended) = tokio::join!(loading, counting);
    assert!(ended.is_err(), "the watch goes on");
    let ledgers = endpoint.ledger().await.sequence - sequence;
    figure(
        "30 s of load, budget: writes of a replica, to its spec, of the ledger",
        format!("{} {} {ledgers}", writes.status, writes.spec),
    );
    assert!(
        writes.status <= 7 + URGENT && writes.spec <= 7 + URGENT && ledgers <= 7 + u64::from(URGENT),
        "one in 5 s, and the urgent ones: {writes:?}, {ledgers}"
    );
    deletion_ends_it(&endpoint).await;
    endpoint.namespace.done().await;
}

/// Nothing is left of a deployment with leases, and one of the same name begins with nothing spent.
async fn deletion_ends_it(endpoint: &Endpoint) {
    let ledger = endpoint.ledger().await;
    assert!(ledger.leased > NanoUsd(0) && ledger.settled > NanoUsd(0), "{ledger:?}");
    let started = Instant::now();
    endpoint
        .namespace
        .kubectl(&["delete", "infd", "assistant", "--wait=false"]);
    until("its replicas are gone", PODS, async || {
        let replicas = endpoint.namespace.replicas().list(&ListParams::default()).await;
        let left = replicas.map_err(|e| e.to_string())?.items.len();
        if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} are left"))
        }
    })
    .await;
    figure(
        "deletion of a deployment with leases, s",
        started.elapsed().as_secs_f64(),
    );
    endpoint.namespace.apply(&endpoint.spec).await;
    endpoint.namespace.wait("assistant", "Ready", "True").await;
    assert_eq!(endpoint.ledger().await.settled, NanoUsd(0));
}
