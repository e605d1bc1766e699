//! Processes come and go; what is open stays open.

use std::time::Duration;

use inference_operator::api::CircuitState;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};

use super::{House, THRESHOLD};
use crate::harness::{Frozen, Mode, SOON, figure, kill_controllers, kill_runtime, post, runtimes, until};

#[tokio::test]
#[ignore = "needs the cluster for itself"]
async fn open_survives_the_death_of_the_controller_and_of_all_pods() {
    let house = House::start("circuit-restart", 3, "4m").await;
    let before = house.open_for_all().await;
    house.provider.set(Mode::Answer(Duration::ZERO));
    let (calls, old) = (house.provider.calls(), house.namespace.pod_uids("assistant").await);
    kill_controllers();
    let at_once = DeleteParams::default().grace_period(0);
    let pods = house.namespace.api::<Pod>();
    pods.delete_collection(&at_once, &ListParams::default())
        .await
        .expect("the pods are killed");
    until("other pods", SOON, async || {
        let now = house.namespace.pod_uids("assistant").await;
        let new = now.len() == house.replicas && now.iter().all(|uid| !old.contains(uid));
        if new { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    house.settled().await;
    for address in house.addresses().await.values() {
        assert_eq!(house.ask(address).await, (503, "circuit_open".into()));
    }
    let after = house.row().await.expect("a row");
    assert_eq!(
        (after.state, &after.opened_at, &after.retry_at),
        (CircuitState::Open, &before.opened_at, &before.retry_at)
    );
    figure(
        "circuit: calls of new pods and a new controller before the next probe is due",
        house.provider.calls() - calls,
    );
    assert_eq!(house.provider.calls(), calls);
    house.namespace.done().await;
}

#[tokio::test]
#[ignore = "needs the cluster for itself"]
async fn a_runtime_that_cannot_reach_the_api_server_calls_nobody() {
    let house = House::start("circuit-gate", 1, "10s").await;
    let (pod, address) = house.addresses().await.into_iter().next().expect("a pod");
    assert_eq!(house.ask(&address).await.0, 200);
    let calls = house.provider.calls();
    let frozen = Frozen::new("kube-apiserver");
    let before = runtimes(&pod);
    assert!(kill_runtime(&pod));
    until("another process runs", SOON, async || {
        let now = runtimes(&pod);
        if now.iter().any(|pid| !before.contains(pid)) {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    })
    .await;
    for _ in 0..20 {
        let answer = post(&address, &super::chat()).await;
        assert!(
            answer.is_err() || answer.is_ok_and(|a| a.status == 503),
            "nothing is served yet"
        );
    }
    assert_eq!(house.provider.calls(), calls);
    drop(frozen);
    until("it serves", SOON, async || {
        let answer = post(&address, &super::chat()).await?;
        if answer.status == 200 { Ok(()) } else { Err(answer.body) }
    })
    .await;
    house.namespace.done().await;
}

#[tokio::test]
#[ignore = "needs the cluster for itself"]
async fn without_a_controller_replicas_open_for_themselves_and_what_was_open_for_all_stays() {
    let house = House::start("circuit-alone", 2, "2s").await;
    let addresses: Vec<_> = house.addresses().await.into_values().collect();
    let frozen = Frozen::new("inference-controller");
    let before = house.provider.calls();
    house.provider.set(Mode::Fail(500));
    house.exhaust(&addresses[0]).await;
    assert_eq!(house.provider.calls() - before, THRESHOLD, "it opened by itself");
    house.provider.set(Mode::Answer(Duration::ZERO));
    until("it closes by its own probe", SOON, async || {
        let outcome = house.ask(&addresses[0]).await;
        if outcome.0 == 200 { Ok(()) } else { Err(outcome.1) }
    })
    .await;
    drop(frozen);

    let row = house.open_for_all().await;
    let frozen = Frozen::new("inference-controller");
    house.provider.set(Mode::Answer(Duration::ZERO));
    let calls = house.provider.calls();
    let retry_at = row.retry_at.expect("a time").0;
    until("the time of the probe has passed twice", SOON, async || {
        for address in &addresses {
            assert_eq!(house.ask(address).await, (503, "circuit_open".into()));
        }
        if jiff::Timestamp::now() > retry_at + Duration::from_secs(4) {
            Ok(())
        } else {
            Err("not yet".into())
        }
    })
    .await;
    assert_eq!(house.provider.calls(), calls, "no probe without a token");
    drop(frozen);
    until("it closes with the controller back", SOON, async || {
        let outcome = house.ask(&addresses[0]).await;
        if outcome.0 == 200 { Ok(()) } else { Err(outcome.1) }
    })
    .await;
    house.namespace.done().await;
}
