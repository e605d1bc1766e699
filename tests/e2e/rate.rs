//! A provider's rate limit, shared out over eight replicas: all of it is used, no more, wherever the load is.

use std::time::Duration;

use futures::future::join_all;
use inference_operator::api::{InferenceReplica, ShareOrder, ShareReport};
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::time::{Instant, interval, sleep};

use crate::harness::{self, Namespace, PODS, Provider, SOON, figure, post, until, with};

const REPLICAS: usize = 8;
const LIMIT: u64 = 600;
const MINUTE: Duration = Duration::from_secs(60);
/// Until a load that begins has its shares.
const WARM_UP: Duration = Duration::from_secs(10);
/// Twice the limit, requests a minute.
const TWICE: u32 = 1_200;

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
}

async fn replicas(namespace: &Namespace, name: &str) -> Vec<InferenceReplica> {
    let list = namespace.replicas().list(&ListParams::default()).await;
    let replicas = list.expect("replicas can be listed").items;
    let of_it = replicas
        .into_iter()
        .filter(|replica| replica.spec.deployment_name == name);
    of_it.collect()
}

fn order(replica: &InferenceReplica) -> Option<&ShareOrder> {
    replica.spec.shares.first()
}

fn report(replica: &InferenceReplica) -> Option<&ShareReport> {
    replica.status.as_ref()?.shares.first()
}

/// What a replica may be using, thousandths a minute.
fn committed(replica: &InferenceReplica) -> u64 {
    let Some(order) = order(replica) else { return 0 };
    let rate = order.requests.expect("requests are limited");
    let follows = report(replica).is_some_and(|report| report.sequence == order.sequence);
    if follows {
        rate.milli_per_minute
    } else {
        rate.milli_per_minute.max(rate.reserved_milli_per_minute)
    }
}

/// What a replica says that it keeps to, thousandths a minute.
fn kept(replica: &InferenceReplica) -> u64 {
    let rate = report(replica).and_then(|report| report.requests);
    rate.map_or(0, |rate| rate.milli_per_minute)
}

/// Requests a minute at each address, at equal distances, until the time is over; gives how many were not answered.
async fn load(model: &str, targets: &[(String, u32)], time: Duration) -> usize {
    let loads = targets.iter().filter(|(_, demand)| *demand > 0).map(|(url, demand)| {
        let (url, apart) = (url.clone(), MINUTE / *demand);
        async move {
            let (mut ticks, begun, mut sent) = (interval(apart), Instant::now(), Vec::new());
            while begun.elapsed() < time {
                ticks.tick().await;
                let (url, chat) = (url.clone(), chat(model));
                sent.push(tokio::spawn(async move { post(&url, &chat).await }));
            }
            let answers = join_all(sent).await.into_iter();
            let ended = answers.map(|answer| answer.expect("no panic").map_or(0, |answer| answer.status.as_u16()));
            ended.filter(|status| *status != 200).count()
        }
    });
    join_all(loads).await.into_iter().sum()
}

/// Looks again and again that no more than the limit may be in use, from lists that are each one state of the API server; gives the
/// most, and the mean of what the replicas say that they keep to.
async fn watch_the_sum(namespace: &Namespace, name: &str, time: Duration) -> (u64, u64) {
    let (mut ticks, begun, mut most) = (interval(Duration::from_millis(500)), Instant::now(), 0);
    let (mut all, mut looks) = (0, 0);
    while begun.elapsed() < time {
        ticks.tick().await;
        let replicas = replicas(namespace, name).await;
        let sum: u64 = replicas.iter().map(committed).sum();
        assert!(sum <= LIMIT * 1_000, "{sum} thousandths a minute: {replicas:?}");
        most = most.max(sum);
        all += replicas.iter().map(kept).sum::<u64>();
        looks += 1;
    }
    (most, all / looks)
}

/// So many calls in so much time, as calls in a minute.
fn a_minute(calls: u64, took: Duration) -> u64 {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    (calls * 60_000 + millis / 2) / millis
}

/// A load for the warm-up and a minute, and what the provider sees in that minute. A machine that stood still at the wrong moment has a
/// second chance.
async fn minute(name: &str, namespace: &Namespace, provider: &Provider, targets: &[(String, u32)]) {
    let bar = 594..=606;
    let first = sent_in_a_minute(name, namespace, provider, targets).await;
    if !bar.contains(&first) {
        let second = sent_in_a_minute(name, namespace, provider, targets).await;
        assert!(bar.contains(&second), "{name}: {first}, then {second}");
    }
}

async fn sent_in_a_minute(name: &str, namespace: &Namespace, provider: &Provider, targets: &[(String, u32)]) -> u64 {
    let time = WARM_UP + MINUTE;
    let counted = async {
        sleep(WARM_UP).await;
        let (before, begun) = (provider.calls(), Instant::now());
        sleep(MINUTE).await;
        a_minute(provider.calls() - before, begun.elapsed())
    };
    let (sent, refused, (most, mean)) =
        tokio::join!(counted, load(name, targets, time), watch_the_sum(namespace, name, time));
    figure(&format!("8 replicas, 600/min, {name}: sent in a minute"), sent);
    figure(
        &format!("8 replicas, 600/min, {name}: not answered in {time:?}"),
        refused,
    );
    figure(
        &format!("8 replicas, 600/min, {name}: most that may have been in use"),
        most / 1_000,
    );
    figure(
        &format!("8 replicas, 600/min, {name}: mean of what they keep to"),
        mean / 1_000,
    );
    sent
}

/// The load moves from one pod to another: what comes in the first seconds waits, and then the share is there.
async fn move_load(provider: &Provider, pods: &[String]) {
    load("unevenly", &[(pods[0].clone(), TWICE)], WARM_UP).await;
    let moved = [(pods[7].clone(), TWICE)];
    let after_two_seconds = async {
        sleep(Duration::from_secs(2)).await;
        let before = provider.calls();
        sleep(Duration::from_secs(10)).await;
        provider.calls() - before
    };
    let (sent, _) = tokio::join!(after_two_seconds, load("unevenly", &moved, Duration::from_secs(12)));
    figure(
        "8 replicas, 600/min, moved load: sent in the 10 s after the first 2, of 100",
        sent,
    );
    assert!(sent >= 80, "{sent}");
}

/// Eight replicas behind a limit, when they keep to shares of all of it; gives the addresses of the Service and of the pods.
async fn limited(namespace: &Namespace, name: &str, provider: &Provider) -> (String, Vec<String>) {
    let limited = with(
        harness::remote(name, &provider.endpoint),
        "/spec/backends/0/remote/rateLimit",
        json!({"requestsPerMinute": LIMIT}),
    );
    namespace.apply(&with(limited, "/spec/replicas", json!(REPLICAS))).await;
    namespace.wait(name, "Ready", "True").await;
    until("eight replicas keep to shares of all of it", PODS, async || {
        let replicas = replicas(namespace, name).await;
        let count = replicas.iter().filter(|replica| kept(replica) > 0).count();
        let sum: u64 = replicas.iter().map(kept).sum();
        if count == REPLICAS && sum > LIMIT * 990 {
            Ok(())
        } else {
            Err(format!("{count} replicas, {sum} thousandths a minute"))
        }
    })
    .await;
    let service = format!("{}/v1/chat/completions", namespace.service(name));
    until("the first answer", SOON, async || {
        match post(&service, &chat(name)).await?.status.as_u16() {
            200 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    // The kubelet may tell an address later than the pod tells its share.
    let pods = until("the addresses of all pods", SOON, async || {
        let pods = namespace.pods(name).await.into_iter();
        let addresses = pods.filter_map(|pod| pod.status?.pod_ip);
        let pods: Vec<String> = addresses
            .map(|ip| format!("http://{ip}:8000/v1/chat/completions"))
            .collect();
        if pods.len() == REPLICAS {
            Ok(pods)
        } else {
            Err(format!("{pods:?}"))
        }
    })
    .await;
    (service, pods)
}

/// Two deployments, so that their minutes pass at once.
#[tokio::test]
#[ignore = "counts what is sent in a minute to the hundredth: other tests may not take the processors"]
async fn eight_replicas_share_a_rate_limit() {
    let (evenly, unevenly) = (Provider::start("sk").await, Provider::start("sk").await);
    let namespace = Namespace::create("rate").await;
    namespace.apply(&harness::secret("sk")).await;
    let ((service, _), (_, pods)) = tokio::join!(
        limited(&namespace, "evenly", &evenly),
        limited(&namespace, "unevenly", &unevenly)
    );
    let through_the_service = [(service, TWICE)];
    let uneven = [600, 300, 150, 75, 75, 0, 0, 0];
    let targets: Vec<(String, u32)> = pods.iter().cloned().zip(uneven).collect();
    tokio::join!(
        minute("evenly", &namespace, &evenly, &through_the_service),
        minute("unevenly", &namespace, &unevenly, &targets)
    );
    move_load(&unevenly, &pods).await;
    namespace.done().await;
}
