//! What failures cost, and what remains when all is quiet.

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
    let hung_up = futures::future::join_all((0..10).map(|_| post(&url, &body)));
    let sent_all = until("all ten are sent", SOON, async || match endpoint.provider.calls() {
        20 => Ok(()),
        calls => Err(calls.to_string()),
    });
    tokio::select! {
        ends = hung_up => panic!("nobody answers: {ends:?}"),
        () = sent_all => {}
    }
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

/// The runbook: the bill shows that half of it was never spent. Said twice, as by a manifest that is applied again.
async fn write_off(endpoint: &Endpoint, uncertain: NanoUsd) {
    let half = NanoUsd(uncertain.0 / 2);
    let (namespace, name) = (&endpoint.namespace, "inference-operator.dev/budget-write-off-uncertain");
    let annotation = format!("{name}={half}@{}", endpoint.ledger().await.window.number);
    for _ in 0..2 {
        namespace.kubectl(&["annotate", "infd", "assistant", &annotation]);
        until("half is written off and the annotation removed", SOON, async || {
            let ledger = endpoint.ledger().await;
            let object = namespace.kubectl(&["get", "infd", "assistant", "-o", "yaml"]);
            if (ledger.uncertain, ledger.written_off) == (half, Some(half)) && !object.contains(name) {
                Ok(())
            } else {
                Err(format!("{ledger:?} {object}"))
            }
        })
        .await;
    }
}
