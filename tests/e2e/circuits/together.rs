//! Many replicas open, probe and close as one; one alone opens only itself; people are told once.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use inference_operator::api::CircuitState;
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use serde_json::json;

use super::{House, THRESHOLD, Traffic, chat};
use crate::harness::{self, Cut, Mode, SOON, figure, post, until};

const REPLICAS: usize = 8;

#[tokio::test]
#[ignore = "needs the cluster for itself"]
async fn eight_replicas_open_probe_and_close_as_one() {
    let house = House::start("circuit-eight", REPLICAS, "6s").await;
    let addresses: Vec<_> = house.addresses().await.into_values().collect();
    let (quiet, busy) = addresses.split_last().expect("eight pods");
    for address in &addresses {
        assert_eq!(house.ask(address).await.0, 200);
    }
    until("every replica has a vote", SOON, async || {
        let judged = house.reports().await.values().flatten().filter(|r| r.judged).count();
        if judged == REPLICAS {
            Ok(())
        } else {
            Err(judged.to_string())
        }
    })
    .await;

    // Five of eight hear of the provider's death; the others are told.
    let before = house.provider.calls();
    house.provider.set(Mode::Fail(500));
    for address in addresses.iter().take(5) {
        house.exhaust(address).await;
    }
    let majority = Instant::now();
    let row = house.state(CircuitState::Open, SOON).await;
    until("all eight hold it open", SOON, async || {
        let open = house.open_replicas().await;
        if open == REPLICAS {
            Ok(())
        } else {
            Err(open.to_string())
        }
    })
    .await;
    let all = majority.elapsed();
    let calls = house.provider.calls() - before;
    figure("circuit: majority open → open for all eight, s", all.as_secs_f64());
    figure("circuit: calls before it was open for all (at most 24)", calls);
    assert!(all < Duration::from_secs(2), "{all:?}");
    assert!(calls <= REPLICAS as u64 * THRESHOLD, "{calls}");
    // The quiet one is not asked: a refused request would make it a candidate for the token, which it had nothing to use on.
    for address in busy {
        assert_eq!(house.ask(address).await, (503, "circuit_open".into()));
    }
    assert_eq!(house.provider.calls() - before, calls, "nobody was asked again");
    assert_eq!(row.open_replicas, Some(5));

    // While the provider is dead: one probe a round, over all replicas.
    let traffic = Traffic::start(busy.to_vec());
    let failed = until("a failed probe", SOON, async || match house.row().await {
        Some(row) if row.trips >= Some(2) => Ok(row),
        row => Err(format!("{row:?}")),
    })
    .await;
    let probes = house.provider.calls() - before - calls;
    figure("circuit: calls of eight replicas in the first half-open round", probes);
    assert_eq!((failed.trips, probes), (Some(2), 1));

    // The provider is back: one probe more, and all are closed.
    house.provider.set(Mode::Answer(Duration::ZERO));
    let answered = house.provider.accepted();
    until("the probe succeeds", SOON, async || {
        if house.provider.accepted() > answered {
            Ok(())
        } else {
            Err("no probe yet".into())
        }
    })
    .await;
    let success = Instant::now();
    house.state(CircuitState::Closed, SOON).await;
    until("all eight are closed", SOON, async || {
        let open = house.open_replicas().await;
        if open == 0 { Ok(()) } else { Err(format!("{open} open")) }
    })
    .await;
    let all = success.elapsed();
    figure("circuit: probe succeeded → closed for all eight, s", all.as_secs_f64());
    assert!(all < Duration::from_secs(2), "{all:?}");
    until("requests are answered", SOON, async || {
        if traffic.answered() > 20 {
            Ok(())
        } else {
            Err(traffic.answered().to_string())
        }
    })
    .await;
    drop(traffic);
    house.starts_slowly(quiet).await;
    house.namespace.done().await;
}

impl House {
    /// A pod whose circuit has closed and that sent nothing since lets few of many requests through.
    async fn starts_slowly(&self, address: &str) {
        let sent = || self.provider.by_caller().get(&ip(address)).copied().unwrap_or_default();
        let before = sent();
        self.provider.set(Mode::Answer(Duration::from_secs(4)));
        let asked = futures::future::join_all((0..10).map(|_| self.ask(address))).await;
        let refused = asked.iter().filter(|(_, code)| code == "circuit_open").count();
        figure(
            "circuit: of ten requests at once to a replica just closed, sent",
            sent() - before,
        );
        assert_eq!((sent() - before, refused), (2, 8), "{asked:?}");
    }
}

fn ip(address: &str) -> IpAddr {
    let host = address.trim_start_matches("http://").split(':').next();
    host.expect("an address").parse().expect("an address")
}

#[tokio::test]
async fn a_replica_whose_own_network_is_broken_opens_only_itself() {
    let house = House::start("circuit-lone", 3, "5s").await;
    let addresses: Vec<_> = house.addresses().await.into_iter().collect();
    let ((name, lone), others) = addresses.split_first().expect("three pods");
    let traffic = Traffic::start(others.iter().map(|(_, address)| address.clone()));
    let cut = Cut::between(name, house.provider.address());
    house.exhaust(lone).await;
    let row = until("the status names it", SOON, async || match house.row().await {
        Some(row) if row.open_replicas == Some(1) => Ok(row),
        row => Err(format!("{row:?}")),
    })
    .await;
    assert_eq!((row.state, row.epoch), (CircuitState::Closed, 0));
    assert_eq!(house.open_replicas().await, 1);
    let before = traffic.answered();
    until("the others answer on", SOON, async || {
        if traffic.answered() > before + 20 {
            Ok(())
        } else {
            Err(traffic.answered().to_string())
        }
    })
    .await;
    house.namespace.wait("assistant", "CircuitClosed", "True").await;

    drop(cut);
    until("it closes by its own probe", SOON, async || {
        let outcome = house.ask(lone).await;
        if outcome.0 == 200 { Ok(()) } else { Err(outcome.1) }
    })
    .await;
    house.namespace.done().await;
}

/// Events that the circuit opened, was half open and closed, once the last is there.
async fn events_of_transitions(namespace: &harness::Namespace) -> (i32, i32, i32) {
    until("the Event of closing", SOON, async || {
        let events = namespace
            .api::<Event>()
            .list(&ListParams::default())
            .await
            .map_err(|e| e.to_string())?;
        let told: Vec<_> = events
            .iter()
            .filter(|e| e.involved_object.kind.as_deref() == Some("InferenceDeployment"))
            .collect();
        let count = |reason: &str| -> i32 {
            let same = told
                .iter()
                .filter(|e| e.reason.as_deref() == Some(reason) && e.action.as_deref() == Some("CircuitClosed"));
            same.map(|e| {
                e.count
                    .unwrap_or(1)
                    .max(e.series.as_ref().and_then(|s| s.count).unwrap_or(1))
            })
            .sum()
        };
        let counts = (count("Open"), count("HalfOpen"), count("Closed"));
        if counts.2 > 0 {
            Ok(counts)
        } else {
            Err(format!("{counts:?}"))
        }
    })
    .await
}

#[tokio::test]
#[ignore = "needs the cluster for itself"]
async fn people_are_told_once_and_another_backend_keeps_it_ready() {
    let (dead, well) = (
        harness::Provider::start("sk").await,
        harness::Provider::start("sk").await,
    );
    let namespace = harness::Namespace::create("circuit-told").await;
    namespace.apply(&harness::secret("sk")).await;
    let mut manifest = harness::remote("assistant", &dead.endpoint);
    let far = &mut manifest["spec"]["backends"][0]["remote"];
    far["circuitBreaker"] = json!({"consecutiveFailures": 1, "openDuration": "15s"});
    far["retry"] = json!({"maxRetries": 0});
    let mut next = harness::remote("assistant", &well.endpoint)["spec"]["backends"][0].clone();
    next["name"] = json!("next");
    manifest["spec"]["replicas"] = json!(2);
    namespace
        .apply(&harness::with(manifest, "/spec/backends/-", next))
        .await;
    namespace.wait("assistant", "Ready", "True").await;
    let url = format!("{}/v1/chat/completions", namespace.service("assistant"));
    until("the first answer", SOON, async || post(&url, &chat()).await).await;

    dead.set(Mode::Fail(500));
    until("both replicas have heard of it", SOON, async || {
        let answer = post(&url, &chat()).await?;
        assert_eq!(answer.status, 200, "it spills: {}", answer.body);
        let status = namespace.status("assistant").await;
        if status.circuits.iter().any(|c| c.state == CircuitState::Open) {
            Ok(())
        } else {
            Err("not open".into())
        }
    })
    .await;
    namespace.kubectl(&[
        "wait",
        "--for=condition=CircuitClosed=false",
        "infd/assistant",
        "--timeout=10s",
    ]);
    namespace
        .wait_reason("assistant", "CircuitClosed", "False", "Open")
        .await;
    namespace.wait("assistant", "Ready", "True").await;
    let ready = until("Ready names what is out", SOON, async || {
        let status = namespace.status("assistant").await;
        let ready = status
            .conditions
            .into_iter()
            .find(|c| c.type_ == "Ready")
            .expect("Ready");
        if ready.message.contains("far is out") {
            Ok(ready)
        } else {
            Err(ready.message)
        }
    })
    .await;
    assert_eq!(ready.status, "True");

    dead.set(Mode::Answer(Duration::ZERO));
    until("it closes", SOON, async || {
        post(&url, &chat()).await?;
        let status = namespace.status("assistant").await;
        let closed = status.circuits.iter().all(|c| c.state == CircuitState::Closed);
        if closed {
            Ok(())
        } else {
            Err(format!("{:?}", status.circuits))
        }
    })
    .await;
    namespace.kubectl(&[
        "wait",
        "--for=condition=CircuitClosed=true",
        "infd/assistant",
        "--timeout=10s",
    ]);
    let told = events_of_transitions(&namespace).await;
    figure(
        "circuit: Events of two replicas that opened, probed and closed",
        format!("{told:?}"),
    );
    assert_eq!(told, (1, 1, 1), "one a merged transition");
    namespace.done().await;
}
