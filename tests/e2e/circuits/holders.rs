//! The probe token in bad hands: its holder is killed, cut off from the API server, or has nothing to send.

use std::time::{Duration, Instant};

use inference_operator::api::{CircuitState, ProbePhase};

use super::{House, Traffic};
use crate::harness::{Cut, Mode, SOON, figure, kill_runtime, kubectl, until};

/// How long a probe of a holder that is heard no more may keep the others waiting: firstToken 2 s + 30 s, and what is written about it.
const DEADLINE: Duration = Duration::from_secs(60);

/// Open for all, and a probe on its way that the provider does not answer; gives its holder and the calls so far.
async fn hanging_probe(house: &House) -> (String, u64) {
    house.open_for_all().await;
    let before = house.provider.calls();
    house.provider.set(Mode::Hang);
    let _traffic = Traffic::start(house.addresses().await.into_values());
    // A probe that hangs fails by itself after firstToken: then it is the next one.
    until("the probe is sent", SOON, async || {
        let row = house.row().await;
        let holder = row.and_then(|row| Some(row.probes.first()?.replica.clone()));
        match (house.provider.calls(), holder) {
            (calls, Some(holder)) if calls > before => Ok((holder, calls)),
            other => Err(format!("{other:?}")),
        }
    })
    .await
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
    assert!(house.provider.calls() > calls);
    house.state(CircuitState::Closed, SOON).await;
}

#[tokio::test]
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

/// Open for all, and the first pod has the token and no request to use it on; gives the addresses of the first and the other one.
async fn idle_holder(house: &House) -> [(String, String); 2] {
    house.open_for_all().await;
    house.provider.set(Mode::Answer(Duration::ZERO));
    let addresses: Vec<_> = house.addresses().await.into_iter().collect();
    let [holder, other] = addresses.try_into().expect("two pods");
    // One request makes it a candidate.
    house.ask(&holder.1).await;
    until("the token is accepted", SOON, async || match house.row().await {
        Some(row) if row.probes.iter().any(|p| p.phase == ProbePhase::Accepted) => Ok(()),
        row => Err(format!("{row:?}")),
    })
    .await;
    [holder, other]
}

#[tokio::test]
async fn a_holder_that_probes_while_cut_off_has_failed_and_nobody_else_probes_till_then() {
    let house = House::start("circuit-cut", 2, "3s").await;
    let [holder, other] = idle_holder(&house).await;
    let calls = house.provider.calls();
    let server = kubectl(&[
        "-n",
        "default",
        "get",
        "service",
        "kubernetes",
        "-o",
        "jsonpath={.spec.clusterIP}",
    ]);
    let cut = Cut::between(&holder.0, server.parse().expect("an address"));
    let began = Instant::now();
    until("it probes", SOON, async || match house.ask(&holder.1).await {
        (200, _) => Ok(()),
        refused => Err(format!("{refused:?}")),
    })
    .await;
    assert_eq!(house.provider.calls(), calls + 1);
    let traffic = Traffic::start([holder.1.clone(), other.1]);
    until("its probe counts as failed", DEADLINE, async || {
        match house.row().await {
            Some(row) if row.trips >= Some(2) => Ok(()),
            row => Err(format!("{row:?}")),
        }
    })
    .await;
    let took = began.elapsed().as_secs_f64();
    figure(
        "circuit: holder cut off from the API server → its probe counts as failed, s",
        took,
    );
    assert_eq!(
        house.provider.calls(),
        calls + 1,
        "nobody else probed till then, and it not again"
    );
    house.state(CircuitState::Closed, SOON).await;
    assert!(traffic.answered() > 0, "the other one probed");
    assert_eq!(
        house.ask(&holder.1).await,
        (503, "circuit_open".into()),
        "it has heard nothing yet"
    );
    drop(cut);
    until("it hears that all are closed", DEADLINE, async || {
        match house.ask(&holder.1).await {
            (200, _) => Ok(()),
            refused => Err(format!("{refused:?}")),
        }
    })
    .await;
    drop(traffic);
    house.namespace.done().await;
}

#[tokio::test]
async fn a_holder_without_traffic_hands_the_token_to_one_that_has_some() {
    let house = House::start("circuit-idle", 2, "3s").await;
    let [_holder, other] = idle_holder(&house).await;
    let (calls, accepted) = (house.provider.calls(), house.provider.accepted());
    let _traffic = Traffic::start([other.1]);
    let began = Instant::now();
    until("the one with traffic probes", DEADLINE, async || {
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
