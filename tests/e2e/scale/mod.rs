//! Scaling: local pods go while nobody asks and come back for a request that waits, and the scale subresource.

mod autoscaler;

use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Pod, events::v1::Event};
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::harness::{self, Namespace, PODS, Provider, SOON, figure, get, kubectl, post, until, with};

fn chat() -> Value {
    json!({"model": "assistant", "stream": true, "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]})
}

/// One local pod that goes after ten seconds, one GPU-less one that holds three requests.
fn sleepy() -> Value {
    let spec = with(harness::local("assistant"), "/spec/spill", json!({"replicas": 1}));
    with(
        spec,
        "/spec/scaleToZero",
        json!({"idleAfter": "10s", "hold": {"capacity": 3}}),
    )
}

struct House {
    namespace: Namespace,
}

/// When the kubelet called a pod Ready.
fn ready_since(pod: &Pod) -> Timestamp {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let mut ready = conditions.filter(|c| c.type_ == "Ready" && c.status == "True");
    let since = ready.next().and_then(|c| c.last_transition_time.clone());
    since.expect("a Ready pod").0
}

impl House {
    async fn start(name: &str, spec: &Value) -> Self {
        let namespace = Namespace::create(name).await;
        namespace.apply(spec).await;
        namespace.wait_reason("assistant", "Ready", "True", "Available").await;
        namespace.wait("assistant", "ModelLoaded", "True").await;
        Self { namespace }
    }

    fn url(&self) -> String {
        format!("{}/v1/chat/completions", self.namespace.service("assistant"))
    }

    async fn of_tier(&self, tier: &str) -> Vec<Pod> {
        let mut pods = self.namespace.pods("assistant").await;
        pods.retain(|pod| {
            let labels = pod.metadata.labels.as_ref();
            labels.is_some_and(|l| l.get("inference-operator.dev/tier").is_some_and(|t| t == tier))
        });
        pods
    }

    async fn local_pods(&self, count: usize) {
        until(&format!("{count} local pods"), PODS, async || {
            match self.of_tier("local").await.len() {
                found if found == count => Ok(()),
                found => Err(format!("{found}")),
            }
        })
        .await;
    }

    /// Until they are away, those too that were on their way out.
    async fn away(&self) {
        self.namespace
            .wait_reason("assistant", "ModelLoaded", "False", "ScaledToZero")
            .await;
        let local = ListParams::default()
            .labels("inference-operator.dev/deployment=assistant,inference-operator.dev/tier=local");
        until("no local pod is left", PODS, async || {
            let left = self
                .namespace
                .api::<Pod>()
                .list(&local)
                .await
                .map_err(|e| e.to_string())?;
            let status = self.namespace.status("assistant").await;
            match (left.items.len(), status.replicas) {
                (0, Some(0)) => Ok(()),
                left => Err(format!("{left:?}")),
            }
        })
        .await;
    }

    /// Requests that the GPU-less pod holds.
    async fn held(&self, count: usize) {
        let pods = self.of_tier("remote").await;
        let address = pods[0]
            .status
            .as_ref()
            .and_then(|s| s.pod_ip.clone())
            .expect("an address");
        let url = format!("http://{address}:9000/metrics");
        let line = format!("inference_requests_held {count}");
        until(&line, SOON, async || {
            let text = get(&url).await?.body;
            let shown = text.lines().find(|l| l.starts_with("inference_requests_held "));
            if shown == Some(&line) {
                Ok(())
            } else {
                Err(format!("{shown:?}"))
            }
        })
        .await;
    }

    /// Events regarding the deployment with a reason.
    async fn told(&self, reason: &str) -> usize {
        let events = self.namespace.api::<Event>().list(&ListParams::default()).await;
        let of = |event: &&Event| {
            let regarding = event.regarding.as_ref().and_then(|r| r.kind.as_deref());
            regarding == Some("InferenceDeployment") && event.reason.as_deref() == Some(reason)
        };
        events.expect("a list").items.iter().filter(of).count()
    }

    fn scale(&self, replicas: usize) {
        let count = format!("--replicas={replicas}");
        self.namespace.kubectl(&["scale", "infd/assistant", &count]);
    }
}

#[tokio::test]
async fn pods_go_while_nobody_asks_and_come_back_for_a_request_that_waits() {
    let house = House::start("sleepy", &sleepy()).await;
    let ready = ready_since(&house.of_tier("local").await[0]);
    house.local_pods(0).await;
    let idle = Timestamp::now().duration_since(ready).as_secs_f64();
    figure("local pod Ready → let go (idleAfter 10 s), s", idle);
    // Counted from when the engine answers, which the kubelet's Ready follows.
    assert!(idle > 7.0, "not before its time: {idle}");
    house.away().await;
    house
        .namespace
        .wait_reason("assistant", "Ready", "True", "ScaledToZero")
        .await;
    let status = house.namespace.status("assistant").await;
    assert_eq!((status.replicas, status.ready_replicas), (Some(0), Some(0)));
    assert_eq!(house.told("ScaledToZero").await, 1);
    let columns = house.namespace.kubectl(&["get", "infd", "assistant"]);
    assert!(columns.contains("ScaledToZero"), "{columns}");

    let answer = post(&house.url(), &chat()).await.expect("an answer");
    assert_eq!(
        (answer.status.as_u16(), answer.events().last()),
        (200, Some(&"[DONE]")),
        "{}",
        answer.body
    );
    assert_eq!(answer.headers["x-inference-backend"], "own");
    figure(
        "request to zero local pods → first token (tiny model), s",
        answer.first_byte.as_secs_f64(),
    );
    house
        .namespace
        .wait_reason("assistant", "Ready", "True", "Available")
        .await;
    until("one Event of each", SOON, async || {
        let told = [house.told("ScaledToZero").await, house.told("Waking").await];
        if told == [1, 1] {
            Ok(())
        } else {
            Err(format!("{told:?}"))
        }
    })
    .await;
    house.away().await;
    house.namespace.done().await;
}

/// The pods that come back have no node until the test says so: time to look at those that wait.
#[tokio::test]
async fn requests_are_held_within_bounds_and_all_of_them_answered() {
    let label = format!("wake-{}", std::process::id());
    let node = kubectl(&["get", "nodes", "-o", "name"]).trim().to_owned();
    kubectl(&["label", &node, &format!("{label}=yes")]);
    let spec = with(
        sleepy(),
        "/spec/backends/0/local/podTemplate",
        json!({"nodeSelector": {label.clone(): "yes"}}),
    );
    let house = House::start("held", &spec).await;
    house.away().await;
    kubectl(&["label", &node, &format!("{label}-")]);

    let ask = || {
        let url = house.url();
        tokio::spawn(async move { post(&url, &chat()).await })
    };
    let mut held: Vec<_> = (0..3).map(|_| ask()).collect();
    house.held(3).await;
    house
        .namespace
        .wait_reason("assistant", "Scheduled", "False", "Unschedulable")
        .await;
    let over = post(&house.url(), &chat()).await.expect("an answer");
    assert_eq!(
        (over.status.as_u16(), over.code().as_str()),
        (503, "backpressure"),
        "{}",
        over.body
    );
    assert!(over.headers.contains_key("retry-after"), "{:?}", over.headers);
    figure("one request more than are held → 503, ms", over.total.as_millis());

    held.remove(0).abort();
    house.held(2).await;
    held.push(ask());
    house.held(3).await;

    let woken = Instant::now();
    kubectl(&["label", &node, &format!("{label}=yes")]);
    for answer in held {
        let answer = answer.await.expect("no panic").expect("an answer");
        assert_eq!(
            (answer.status.as_u16(), answer.events().last()),
            (200, Some(&"[DONE]")),
            "{}",
            answer.body
        );
    }
    figure(
        "a node fits → all three held requests are answered, s",
        woken.elapsed().as_secs_f64(),
    );
    house.held(0).await;
    kubectl(&["label", &node, &format!("{label}-")]);
    house.namespace.done().await;
}

#[tokio::test]
async fn another_backend_answers_meanwhile_and_the_model_comes_back_beside_it() {
    let provider = Provider::start("sk").await;
    let far = harness::remote("assistant", &provider.endpoint)["spec"]["backends"][0].clone();
    let namespace = Namespace::create("sleepy-spill").await;
    namespace.apply(&harness::secret("sk")).await;
    namespace.apply(&with(sleepy(), "/spec/backends/-", far)).await;
    namespace.wait("assistant", "ModelLoaded", "True").await;
    let house = House { namespace };
    house.away().await;
    house
        .namespace
        .wait_reason("assistant", "Ready", "True", "Available")
        .await;
    assert_eq!(
        house.namespace.status("assistant").await.active_backend.as_deref(),
        Some("far")
    );
    let answer = post(&house.url(), &chat()).await.expect("an answer");
    assert_eq!(
        (answer.status.as_u16(), provider.accepted()),
        (200, 1),
        "{}",
        answer.body
    );
    figure(
        "request to zero local pods → the next backend's first token, ms",
        answer.first_byte.as_millis(),
    );
    until("the engine answers again", PODS, async || {
        let answer = post(&house.url(), &chat()).await?;
        match answer.headers.get("x-inference-backend") {
            Some(name) if name == "own" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    house.namespace.done().await;
}

#[tokio::test]
async fn kubectl_scale_works_and_what_is_off_stays_off() {
    let spec = with(sleepy(), "/spec/scaleToZero/idleAfter", json!("1h"));
    let house = House::start("scale", &spec).await;
    house.scale(2);
    house.local_pods(2).await;
    until("two of the scaled kind are Ready", PODS, async || {
        let status = house.namespace.status("assistant").await;
        match (status.replicas, status.ready_replicas) {
            (Some(2), Some(2)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let found = house.namespace.kubectl(&[
        "get",
        "infd",
        "assistant",
        "--subresource=scale",
        "-o",
        "jsonpath={.spec.replicas} {.status.replicas} {.status.selector}",
    ]);
    assert!(
        found.starts_with("2 2 inference-operator.dev/deployment=assistant,"),
        "{found}"
    );

    house.scale(0);
    house.local_pods(0).await;
    until("it is off for clients too", SOON, async || {
        let started = Instant::now();
        let answer = post(&house.url(), &chat()).await?;
        if answer.status == 503 && answer.code() == "backpressure" && answer.body.contains("spec.replicas is 0") {
            figure("request to what is off → 503, ms", started.elapsed().as_millis());
            Ok(())
        } else {
            Err(answer.body)
        }
    })
    .await;
    house
        .namespace
        .wait_reason("assistant", "ModelLoaded", "False", "ScaledToZero")
        .await;
    house.local_pods(0).await;

    house.scale(1);
    // The pod that takes the request sees the new number a moment later.
    until("it is on for clients too", PODS, async || {
        let answer = post(&house.url(), &chat()).await?;
        match (answer.status.as_u16(), answer.events().last()) {
            (200, Some(&"[DONE]")) => Ok(()),
            _ => Err(answer.body),
        }
    })
    .await;
    house.namespace.done().await;
}
