//! A storm of failing requests, as the API server sees it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use inference_operator::api::{InferenceDeployment, InferenceReplica};
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
};
use tokio::{task::JoinSet, time::MissedTickBehavior};

use super::{House, chat};
use crate::harness::{Mode, figure};

const STORM: Duration = Duration::from_secs(60);
const RATE: usize = 1_000;

/// Writes to every object of a kind while the storm lasts, as the API server's own watch tells them.
async fn writes<K>(api: Api<K>) -> BTreeMap<String, usize>
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let list = api.list(&ListParams::default()).await.expect("a list");
    let version = list.metadata.resource_version.expect("a version");
    let params = WatchParams::default()
        .disable_bookmarks()
        .timeout(u32::try_from(STORM.as_secs()).expect("seconds"));
    let events = api.watch(&params, &version).await.expect("a watch").boxed();
    let mut counts = BTreeMap::new();
    for event in events.try_collect::<Vec<WatchEvent<K>>>().await.expect("events") {
        if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event {
            *counts.entry(object.name_any()).or_default() += 1;
        }
    }
    counts
}

/// As many requests a second as are wanted, in turn to every pod over kept connections; gives those that failed.
async fn storm(addresses: Vec<String>) -> usize {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let body = Bytes::from(chat().to_string());
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut targets, mut asked) = (addresses.iter().cycle(), JoinSet::new());
    while began.elapsed() < STORM {
        ticks.tick().await;
        for address in targets.by_ref().take(RATE / 50) {
            let request = Request::post(address).header("content-type", "application/json");
            let request = request.body(Full::from(body.clone())).expect("a request");
            asked.spawn(status(client.clone(), request));
        }
    }
    let all = asked.join_all().await;
    all.into_iter()
        .filter(|status| matches!(status, Some(502 | 503)))
        .count()
}

async fn status(client: Client<HttpConnector, Full<Bytes>>, request: Request<Full<Bytes>>) -> Option<u16> {
    let answer = client.request(request).await.ok()?;
    let status = answer.status().as_u16();
    answer.into_body().collect().await.ok()?;
    Some(status)
}

#[tokio::test]
#[ignore = "needs the cluster for itself"]
async fn a_thousand_failing_requests_a_second_are_a_trickle_at_the_api_server() {
    let house = House::start("circuit-storm", 3, "8s").await;
    house.provider.set(Mode::Fail(500));
    let addresses = house.addresses().await.into_values().collect();
    let (failed, deployments, replicas, events) = tokio::join!(
        storm(addresses),
        writes::<InferenceDeployment>(house.namespace.api()),
        writes::<InferenceReplica>(house.namespace.api()),
        writes::<Event>(house.namespace.api()),
    );
    let seconds = usize::try_from(STORM.as_secs()).expect("seconds");
    figure("storm: failed requests a second", failed / seconds);
    figure(
        "storm: writes of each object in a minute",
        format!("{deployments:?} {replicas:?}"),
    );
    figure("storm: writes of Events in a minute", events.values().sum::<usize>());
    assert!(failed / seconds > RATE / 2, "{failed} failed requests are no storm");
    let row = house.row().await.expect("a row");
    let transitions = usize::try_from(row.sequence).expect("a few");
    figure("storm: decisions on the circuit in a minute", transitions);
    assert!((3..=10).contains(&transitions), "{row:?}");
    // One routine write in 5 s, and the decisions; conditions are written beside the record.
    let routine = seconds / 5 + 1;
    for (name, count) in &deployments {
        assert!(*count <= 2 * (routine + transitions), "{name}: {count}");
    }
    // A replica's status, and its spec, which tells it of the decisions.
    for (name, count) in &replicas {
        assert!(*count <= routine + 2 * transitions, "{name}: {count}");
    }
    assert!(events.values().sum::<usize>() <= 25, "{events:?}");
    house.namespace.done().await;
}
