//! How often anything is written for the budget under full load, and what deletion leaves: nothing.
//!
//! What is urgent is told by what was written, not by what the writers say of it: a want of a request that has no money for it
//! (`least`), and what answers such a want. Everything else that is written is routine.

use futures::{StreamExt, TryStreamExt};
use inference_operator::api::{InferenceDeployment, InferenceReplica, Want};
use kube::{
    Api, ResourceExt,
    api::{WatchEvent, WatchParams},
};

use super::*;
use crate::harness::figure;

const LENGTH: Duration = Duration::from_secs(30);

/// Routine writes: one in 5 s, and the one with which the time begins.
const ROUTINE: usize = 7;

/// Urgent writes: ten a minute at most (design section 8).
const URGENT: usize = 10;

/// Every state of the objects of a kind that is written in the time, by its version.
async fn states<K>(api: Api<K>) -> Vec<(u64, K)>
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let list = api.list(&ListParams::default()).await.expect("a list");
    let version = list.metadata.resource_version.expect("a version");
    let params = WatchParams::default()
        .disable_bookmarks()
        .timeout(u32::try_from(LENGTH.as_secs()).expect("seconds"));
    let events = api.watch(&params, &version).await.expect("a watch").boxed();
    let written = events
        .try_collect::<Vec<WatchEvent<K>>>()
        .await
        .expect("events")
        .into_iter();
    let written = written.filter_map(|event| match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => Some(object),
        _ => None,
    });
    let written = list.items.into_iter().chain(written);
    written.map(|object| (version_of(&object), object)).collect()
}

fn version_of(object: &impl ResourceExt) -> u64 {
    let version = object.resource_version().expect("a version");
    version.parse().expect("versions are numbers")
}

/// One write, in the order of the API server.
#[derive(Debug)]
enum Write {
    Ledger(Box<BudgetStatus>),
    Replica(Box<InferenceReplica>),
}

/// Writes of one sort.
#[derive(Debug, Default)]
struct Count {
    routine: usize,
    urgent: usize,
}

impl Count {
    fn add(&mut self, urgent: bool) {
        *(if urgent { &mut self.urgent } else { &mut self.routine }) += 1;
    }
}

/// What is known after the writes so far.
#[derive(Debug, Default)]
struct Told {
    ledger: Option<BudgetStatus>,
    replica: Option<InferenceReplica>,
    status: Count,
    spec: Count,
    ledgers: Count,
}

/// A request waits and lacks money.
fn is_urgent(want: Option<&Want>) -> bool {
    want.is_some_and(|want| want.least > NanoUsd(0))
}

fn want(replica: &InferenceReplica) -> Option<&Want> {
    replica.status.as_ref()?.budget.as_ref()?.want.as_ref()
}

fn granted(ledger: &BudgetStatus) -> u64 {
    ledger.leases.iter().map(|row| row.granted.0).sum()
}

impl Told {
    fn take(&mut self, write: Write) {
        match write {
            Write::Ledger(ledger) => self.ledger(*ledger),
            Write::Replica(replica) => self.replica(*replica),
        }
    }

    fn ledger(&mut self, ledger: BudgetStatus) {
        let before = self.ledger.replace(ledger.clone());
        let Some(before) = before.filter(|before| before.sequence != ledger.sequence) else {
            return;
        };
        let asked = is_urgent(self.replica.as_ref().and_then(want));
        self.ledgers.add(asked && granted(&ledger) > granted(&before));
    }

    fn replica(&mut self, replica: InferenceReplica) {
        let Some(before) = self.replica.replace(replica.clone()) else {
            return;
        };
        if before.metadata.generation == replica.metadata.generation {
            let (old, new) = (want(&before), want(&replica));
            self.status.add(is_urgent(new) && old != new);
        } else {
            self.spec.add(is_urgent(want(&before)));
        }
    }
}

/// All writes to both objects in the time, one replica.
async fn written(endpoint: &Endpoint) -> Told {
    let (deployments, replicas) = tokio::join!(
        states::<InferenceDeployment>(endpoint.namespace.api()),
        states::<InferenceReplica>(endpoint.namespace.api()),
    );
    let ledgers = deployments.into_iter().filter_map(|(version, object)| {
        let ledger = object.status?.budget?;
        Some((version, Write::Ledger(Box::new(ledger))))
    });
    let replicas = replicas
        .into_iter()
        .map(|(version, object)| (version, Write::Replica(Box::new(object))));
    let mut all: Vec<_> = ledgers.chain(replicas).collect();
    all.sort_by_key(|(version, _)| *version);
    let mut told = Told::default();
    for (_, write) in all {
        told.take(write);
    }
    told
}

#[tokio::test]
async fn writes_for_the_budget_are_few_under_load_and_deletion_ends_it() {
    let endpoint = Endpoint::start("budget-writes", 1, 100_000).await;
    endpoint.load(50, 8).await;
    let loading = async {
        let started = Instant::now();
        while started.elapsed() < LENGTH {
            let tally = endpoint.load(20, 4).await;
            assert_eq!(tally.answered(), 20, "{tally:?}");
        }
    };
    let sent = endpoint.provider.calls();
    let ((), told) = tokio::join!(loading, written(&endpoint));
    figure("30 s of load: requests", endpoint.provider.calls() - sent);
    for (name, count) in [
        ("status of the replica", &told.status),
        ("spec of the replica", &told.spec),
        ("ledger", &told.ledgers),
    ] {
        figure(
            &format!("30 s of load, budget: writes of the {name}, routine and urgent"),
            format!("{} {}", count.routine, count.urgent),
        );
        assert!(count.routine <= ROUTINE && count.urgent <= URGENT, "{name}: {told:#?}");
    }
    assert!(
        told.status.routine > 0 && told.ledgers.routine > 0,
        "something is told: {told:#?}"
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
