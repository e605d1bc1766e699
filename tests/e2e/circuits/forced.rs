//! `override` in an incident.

use std::time::{Duration, Instant};

use inference_operator::api::CircuitState;

use super::House;
use crate::harness::{Mode, SOON, figure, until};

/// Until every pod answers with this code; asks all of them at once.
async fn all_say(house: &House, code: &str) -> Duration {
    let addresses: Vec<_> = house.addresses().await.into_values().collect();
    let began = Instant::now();
    until(&format!("every pod says {code:?}"), SOON, async || {
        let asked = futures::future::join_all(addresses.iter().map(|a| house.ask(a))).await;
        if asked.iter().all(|(_, said)| said == code) {
            Ok(())
        } else {
            Err(format!("{asked:?}"))
        }
    })
    .await;
    began.elapsed()
}

#[tokio::test]
#[ignore = "needs the cluster for itself"]
async fn an_override_is_in_force_in_every_replica_within_two_seconds() {
    let house = House::start("circuit-forced", 4, "60s").await;
    for (forced, code, state, status) in [
        ("ForceOpen", "circuit_open", CircuitState::ForcedOpen, "False"),
        ("ForceClosed", "", CircuitState::ForcedClosed, "True"),
    ] {
        house.apply(forced).await;
        let took = all_say(&house, code).await;
        figure(
            &format!("circuit: {forced} → in force in four replicas, s"),
            took.as_secs_f64(),
        );
        assert!(took < Duration::from_secs(2), "{took:?}");
        house.state(state, SOON).await;
        house
            .namespace
            .wait_reason("assistant", "CircuitClosed", status, "Forced")
            .await;
    }

    // Held closed while the provider is dead: everything is sent, and nothing of it is forgotten.
    house.provider.set(Mode::Fail(500));
    let calls = house.provider.calls();
    for address in house.addresses().await.values() {
        for _ in 0..6 {
            assert_eq!(house.ask(address).await, (502, "server_error".into()));
        }
    }
    assert_eq!(house.provider.calls() - calls, 24);
    until("it is open beneath", SOON, async || match house.row().await {
        Some(row) if row.opened_at.is_some() => Ok(()),
        row => Err(format!("{row:?}")),
    })
    .await;
    house.apply("Auto").await;
    let took = all_say(&house, "circuit_open").await;
    figure("circuit: back to Auto → open in four replicas, s", took.as_secs_f64());
    house.state(CircuitState::Open, SOON).await;
    house.namespace.done().await;
}
