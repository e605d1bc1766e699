//! The probe token in bad hands: its holder is killed, frozen, or has nothing to send.

use std::time::{Duration, Instant};

use inference_operator::api::CircuitState;

use super::{House, Traffic};
use crate::harness::{Frozen, Mode, SOON, figure, kill_runtime, until};

/// How long a probe of a holder that is heard no more may keep the others waiting: firstToken 1 s + 30 s, and what is written about it.
const DEADLINE: Duration = Duration::from_secs(45);

/// Open for all, and a probe on its way that the provider does not answer; gives its holder and the calls so far.
async fn hanging_probe(house: &House) -> (String, u64) {
    house.open_for_all().await;
    let before = house.provider.calls();
    house.provider.set(Mode::Hang);
    let _traffic = Traffic::start(house.addresses().await.into_values());
    until("the probe is sent", SOON, async || {
        if house.provider.calls() > before {
            Ok(())
        } else {
            Err("not yet".into())
        }
    })
    .await;
    let row = house.row().await.expect("a row");
    let holder = row.probes.first().expect("a holder").replica.clone();
    (holder, house.provider.calls())
}

/// The provider is back: the circuit closes, and the calls till then were one a round.
async fn closes(house: &House, calls: u64, limit: Duration) {
    let _traffic = Traffic::start(house.addresses().await.into_values());
    let answered = house.provider.accepted();
    until("the probe after it", limit, async || {
        if house.provider.accepted() > answered {
            Ok(())
        } else {
            Err(format!("{:?}", house.row().await))
        }
    })
    .await;
    assert!(house.provider.calls() >= calls + 1);
    house.state(CircuitState::Closed, SOON).await;
}

#[tokio::test]
#[ignore = "stops what other tests need: runs alone"]
async fn a_killed_holder_has_failed_and_another_probes_after_it() {
    let house = House::start("circuit-killed", 3, "3s").await;
    let (holder, calls) = hanging_probe(&house).await;
    let killed = Instant::now();
    assert!(kill_runtime(&holder), "{holder} runs here");
    let row = until("its probe counts as failed", DEADLINE, async || {
        match house.row().await {
            Some(row) if row.trips >= Some(2) => Ok(row),
            row => Err(format!("{row:?}")),
        }
    })
    .await;
    figure(
        "circuit: holder killed → its probe counts as failed, s",
        killed.elapsed().as_secs_f64(),
    );
    assert_eq!(
        (house.provider.calls(), row.trips),
        (calls, Some(2)),
        "nobody else probed in its round"
    );
    house.provider.set(Mode::Answer(Duration::ZERO));
    closes(&house, calls, SOON).await;
    house.namespace.done().await;
}

#[tokio::test]
#[ignore = "stops what other tests need: runs alone"]
async fn a_frozen_holder_keeps_the_others_waiting_only_so_long() {
    let house = House::start("circuit-frozen", 2, "3s").await;
    let (holder, calls) = hanging_probe(&house).await;
    let began = Instant::now();
    let frozen = Frozen::runtime(&holder);
    let others: Vec<_> = house
        .addresses()
        .await
        .into_iter()
        .filter(|(name, _)| *name != holder)
        .collect();
    let traffic = Traffic::start(others.into_iter().map(|(_, address)| address));
    until("its probe counts as failed", DEADLINE, async || {
        match house.row().await {
            Some(row) if row.trips >= Some(2) => Ok(row),
            row => Err(format!("{row:?}")),
        }
    })
    .await;
    figure(
        "circuit: holder frozen → its probe counts as failed, s",
        began.elapsed().as_secs_f64(),
    );
    assert_eq!(house.provider.calls(), calls, "nobody else probed till then");
    house.provider.set(Mode::Answer(Duration::ZERO));
    until("another one probes", SOON, async || {
        if house.provider.calls() > calls {
            Ok(())
        } else {
            Err(format!("{:?}", house.row().await))
        }
    })
    .await;
    house.state(CircuitState::Closed, SOON).await;
    drop((traffic, frozen));
    house.namespace.done().await;
}

#[tokio::test]
#[ignore = "stops what other tests need: runs alone"]
async fn a_holder_without_traffic_hands_the_token_to_one_that_has_some() {
    let house = House::start("circuit-idle", 2, "3s").await;
    house.open_for_all().await;
    house.provider.set(Mode::Answer(Duration::ZERO));
    let addresses: Vec<_> = house.addresses().await.into_values().collect();
    let (calls, accepted) = (house.provider.calls(), house.provider.accepted());
    // One request makes the first replica a candidate; only the other one has more.
    house.ask(&addresses[0]).await;
    house.state(CircuitState::HalfOpen, SOON).await;
    let _traffic = Traffic::start([addresses[1].clone()]);
    let began = Instant::now();
    until("the one with traffic probes", DEADLINE + SOON, async || {
        if house.provider.accepted() > accepted {
            Ok(())
        } else {
            Err(format!("{:?}", house.row().await))
        }
    })
    .await;
    figure(
        "circuit: token with an idle holder → probed by another, s",
        began.elapsed().as_secs_f64(),
    );
    assert_eq!(house.provider.calls(), calls + 1);
    house.state(CircuitState::Closed, SOON).await;
    house.namespace.done().await;
}
