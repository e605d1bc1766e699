//! Requests for local pods that are away because of `scaleToZero`.

use super::*;

/// The local backend with `scaleToZero`, then, with `provider`, a remote one.
fn sleepy(hold: Value, provider: Option<&Server>) -> Value {
    let mut spec = spec(provider);
    spec["spill"] = json!({"replicas": 1});
    spec["scaleToZero"] = json!({"idleAfter": "1h", "hold": hold});
    spec
}

struct World {
    signer: Signer,
    cluster: Cluster,
    engine: Server,
}

impl World {
    async fn new() -> Self {
        let signer = signer("k1");
        Self {
            cluster: cluster(&[&signer]),
            signer,
            engine: server(1_000).await,
        }
    }

    fn plan(&self, engine: Option<EngineView>, peers: Vec<SocketAddr>, spec: Value) -> Plan<'_> {
        Plan {
            cluster: &self.cluster,
            signer: &self.signer,
            engine,
            peers,
            spec,
        }
    }

    /// A pod with the engine.
    async fn holder(&self) -> Pod {
        pod(self.plan(Some(ready(&self.engine, 4)), vec![], spec(None))).await
    }

    async fn forwarder(&self, peers: Vec<SocketAddr>, spec: Value) -> Pod {
        let pod = pod(self.plan(None, peers, spec)).await;
        assert_eq!(wanted(&pod), None, "it has just started");
        pod
    }
}

fn wanted(pod: &Pod) -> Option<bool> {
    pod.front.registry.demand.wanted(Some(Duration::from_secs(3_600)))
}

fn come(pod: &Pod, peer: SocketAddr) {
    pod.front.dispatcher.local.peers.as_ref().unwrap().come(vec![peer]);
}

fn held(pod: &Pod) -> usize {
    let text = pod.front.metrics.text(&pod.front.registry).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("inference_requests_held "));
    line.unwrap().parse().unwrap()
}

fn configure(pod: &Pod, spec: Value) {
    let before = pod.front.registry.routing();
    pod.front.registry.configure(Arc::new(Snapshot {
        spec: serde_json::from_value(spec).unwrap(),
        ..(*before.snapshot).clone()
    }));
}

async fn asked(pod: &Pod, count: usize) -> Vec<tokio::task::JoinHandle<(u16, String, Value)>> {
    let before = held(pod);
    let api = pod.api;
    let asked = (0..count)
        .map(|_| tokio::spawn(async move { ask(api, &[]).await }))
        .collect();
    until("the requests are held", || held(pod) == before + count).await;
    asked
}

#[tokio::test]
async fn held_requests_are_answered_by_the_pod_that_comes_and_one_word_brings_it() {
    let world = World::new().await;
    let (_held, gone) = refusing();
    let forwarder = world.forwarder(vec![gone], sleepy(json!({}), None)).await;
    let urgent = forwarder.front.registry.signals.count();
    let asked = asked(&forwarder, 40).await;
    assert_eq!(wanted(&forwarder), Some(true));
    assert_eq!(
        forwarder.front.registry.signals.count(),
        urgent + 1,
        "40 requests are one urgent word"
    );
    assert_eq!(
        forwarder.front.admission.in_flight(),
        0,
        "they keep no turn from others"
    );
    assert!(
        forwarder.front.registry.errors.rows().is_empty(),
        "that a pod is away is no error"
    );
    come(&forwarder, world.holder().await.peer);
    for answer in asked {
        let (status, backend, body) = answer.await.unwrap();
        assert_eq!((status, backend.as_str()), (200, "own"), "{body}");
    }
    assert_eq!((world.engine.seen(), held(&forwarder)), (40, 0));
}

/// All of them come at once, and the queue is for those that come one by one.
#[tokio::test]
async fn held_requests_need_no_room_in_the_queue() {
    let world = World::new().await;
    let mut spec = sleepy(json!({"capacity": 60}), None);
    spec["serving"] = json!({"maxConcurrent": 4, "queue": {"capacity": 0, "timeout": "1ms"}});
    let forwarder = world.forwarder(vec![], spec).await;
    let asked = asked(&forwarder, 60).await;
    come(&forwarder, world.holder().await.peer);
    for answer in asked {
        let (status, _, body) = answer.await.unwrap();
        assert_eq!(status, 200, "{body}");
    }
    assert_eq!(world.engine.seen(), 60);
}

#[tokio::test]
async fn no_more_are_held_than_may_be_and_who_leaves_makes_room() {
    let world = World::new().await;
    let forwarder = world.forwarder(vec![], sleepy(json!({"capacity": 2}), None)).await;
    let mut asked = asked(&forwarder, 2).await;
    let (status, _, body) = ask(forwarder.api, &[]).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (503, &json!("backpressure")),
        "{body}"
    );
    assert!(
        body["error"]["message"].as_str().unwrap().contains("hold.capacity"),
        "{body}"
    );
    asked.pop().unwrap().abort();
    until("its place is free", || held(&forwarder) == 1).await;
    asked.extend(super::hold::asked(&forwarder, 1).await);
    come(&forwarder, world.holder().await.peer);
    for answer in asked {
        assert_eq!(answer.await.unwrap().0, 200);
    }
    assert_eq!(world.engine.seen(), 2);
}

#[tokio::test]
async fn none_is_held_longer_than_it_may_be_or_than_its_client_waits() {
    let world = World::new().await;
    let forwarder = world.forwarder(vec![], sleepy(json!({"timeout": "300ms"}), None)).await;
    let (status, _, body) = ask(forwarder.api, &[]).await;
    assert_eq!((status, &body["error"]["code"]), (503, &json!("backpressure")));
    assert!(
        body["error"]["message"].as_str().unwrap().contains("hold.timeout"),
        "{body}"
    );
    configure(&forwarder, sleepy(json!({"timeout": "1h"}), None));
    let (status, ..) = ask(forwarder.api, &[("x-stainless-timeout", "0.3")]).await;
    assert_eq!(status, 503);
    configure(&forwarder, sleepy(json!({"capacity": 0}), None));
    let (status, ..) = ask(forwarder.api, &[]).await;
    assert_eq!((status, wanted(&forwarder)), (503, Some(true)));
}

#[tokio::test]
async fn another_backend_answers_at_once_and_the_pod_is_wanted_all_the_same() {
    let world = World::new().await;
    let provider = server(1_000).await;
    let forwarder = world.forwarder(vec![], sleepy(json!({}), Some(&provider))).await;
    let (status, backend, _) = ask(forwarder.api, &[]).await;
    assert_eq!((status, backend.as_str(), wanted(&forwarder)), (200, "far", Some(true)));
    come(&forwarder, world.holder().await.peer);
    let (status, backend, _) = ask(forwarder.api, &[]).await;
    assert_eq!((status, backend.as_str()), (200, "own"));
}

/// Off, or no money for GPUs: nobody comes, and nobody waits.
#[tokio::test]
async fn who_is_switched_off_is_not_waited_for() {
    let world = World::new().await;
    let forwarder = world.forwarder(vec![], sleepy(json!({}), None)).await;
    let asked = asked(&forwarder, 3).await;
    let mut off = sleepy(json!({}), None);
    off["replicas"] = json!(0);
    configure(&forwarder, off);
    for answer in asked {
        let (status, _, body) = answer.await.unwrap();
        assert_eq!(
            (status, &body["error"]["code"]),
            (503, &json!("backpressure")),
            "{body}"
        );
    }
    let (status, _, body) = ask(forwarder.api, &[]).await;
    assert_eq!(status, 503);
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("spec.replicas is 0"),
        "{body}"
    );
    let before = forwarder.front.registry.routing();
    forwarder.front.registry.configure(Arc::new(Snapshot {
        released: true,
        spec: serde_json::from_value(sleepy(json!({}), None)).unwrap(),
        ..(*before.snapshot).clone()
    }));
    let (status, _, body) = ask(forwarder.api, &[]).await;
    assert_eq!(status, 503);
    assert!(body["error"]["message"].as_str().unwrap().contains("budget"), "{body}");
}
