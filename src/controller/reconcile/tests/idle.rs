//! `scaleToZero` through whole reconciles: pods go when every replica says so, and come back when one does.

use super::*;

const WORKLOAD: &str = "/apis/apps/v1/namespaces/default/deployments/assistant-local";
const FORWARDER: &str = "assistant-remote-1-b";
const HOLDER: &str = "assistant-local-1-a";

fn path(plural: &str, name: &str) -> String {
    match plural {
        "pods" => format!("/api/v1/namespaces/default/pods/{name}"),
        _ => format!("/apis/inference-operator.dev/v1alpha1/namespaces/default/{plural}/{name}"),
    }
}

fn object(server: &Server, path: &str) -> Value {
    server.0.lock().unwrap().objects.get(path).cloned().unwrap_or_default()
}

fn change(server: &Server, path: &str, change: impl FnOnce(&mut Value)) {
    let mut changed = object(server, path);
    change(&mut changed);
    server.put(path, changed);
}

/// A local pod and a GPU-less one, both Ready.
async fn ready_cluster(edit: impl FnOnce(&mut Value)) -> Server {
    ready_in(cluster(), edit).await
}

async fn ready_in(server: Server, edit: impl FnOnce(&mut Value)) -> Server {
    let mut main = serde_json::to_value(fixtures::both()).unwrap();
    main["metadata"]["uid"] = json!("u-3");
    main["spec"]["scaleToZero"] = json!({"idleAfter": "10m"});
    edit(&mut main);
    server.put(MAIN, main);
    let now = Timestamp::now();
    let conditions = json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": now}, {"type": "Ready", "status": "True"}]);
    change(&server, POD, |pod| pod["status"]["conditions"] = conditions);
    let mut forwarder = object(&server, POD);
    forwarder["metadata"]["name"] = json!(FORWARDER);
    forwarder["metadata"]["uid"] = json!("pod-2");
    forwarder["metadata"]["labels"]["inference-operator.dev/tier"] = json!("remote");
    forwarder["metadata"]["ownerReferences"][0]["kind"] = json!("ReplicaSet");
    forwarder["metadata"]["ownerReferences"][0]["name"] = json!("assistant-remote-1");
    server.put(&path("pods", FORWARDER), forwarder);
    settle(&server, process(&server)).await;
    server
}

/// A runtime says whether local pods are wanted.
fn say(server: &Server, name: &str, wanted: bool) {
    change(server, &path("inferencereplicas", name), |replica| {
        let generation = object(server, MAIN)["metadata"]["generation"].clone();
        replica["status"] = json!({"ready": true, "observedGeneration": generation, "wanted": wanted});
    });
}

fn wanted_pods(server: &Server) -> i64 {
    object(server, WORKLOAD)["spec"]["replicas"].as_i64().unwrap()
}

#[tokio::test(start_paused = true)]
async fn pods_go_when_all_say_so_and_come_back_when_one_does() {
    let server = ready_cluster(|_| ()).await;
    say(&server, FORWARDER, false);
    settle(&server, process(&server)).await;
    assert_eq!(wanted_pods(&server), 2, "the engine's pod has not said so");
    say(&server, HOLDER, false);
    settle(&server, process(&server)).await;
    assert_eq!(wanted_pods(&server), 0);
    server.0.lock().unwrap().objects.remove(POD);
    settle(&server, process(&server)).await;
    assert_eq!(wanted_pods(&server), 0, "whoever decides anew decides the same");
    let note =
        |server: &Server| object(server, WORKLOAD)["metadata"]["annotations"]["inference-operator.dev/idle"].clone();
    assert_eq!(note(&server), "true");
    change(&server, MAIN, |main| {
        main["spec"]["replicas"] = json!(3);
        main["metadata"]["generation"] = json!(4);
    });
    settle(&server, process(&server)).await;
    assert_eq!(wanted_pods(&server), 0, "three, once they are asked for");
    say(&server, FORWARDER, true);
    settle(&server, process(&server)).await;
    assert_eq!((wanted_pods(&server), note(&server)), (3, Value::Null));
    let main = object(&server, MAIN);
    assert_eq!(main["spec"]["replicas"], 3, "the spec is its writer's");
}

#[tokio::test(start_paused = true)]
async fn an_old_word_lets_nobody_go_and_a_cache_that_lags_does_not_either() {
    let server = ready_cluster(|_| ()).await;
    say(&server, FORWARDER, false);
    say(&server, HOLDER, false);
    let before = stores(&server);
    say(&server, FORWARDER, true);
    let lagging = Context {
        stores: before,
        ..process(&server)
    };
    let _ = once(lagging).await;
    assert_eq!(wanted_pods(&server), 2, "a live read knows better");
    say(&server, FORWARDER, false);
    change(&server, MAIN, |main| {
        main["spec"]["scaleToZero"]["idleAfter"] = json!("1h");
        main["metadata"]["generation"] = json!(4);
    });
    settle(&server, process(&server)).await;
    assert_eq!(wanted_pods(&server), 2, "ten minutes are no hour");
}

#[tokio::test(start_paused = true)]
async fn what_is_off_stays_off() {
    let server = ready_cluster(|main| main["spec"]["replicas"] = json!(0)).await;
    say(&server, FORWARDER, true);
    settle(&server, process(&server)).await;
    assert_eq!(wanted_pods(&server), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_turned_on_starts_without_a_request() {
    let server = ready_cluster(|main| main["spec"]["replicas"] = json!(0)).await;
    assert_eq!(wanted_pods(&server), 0);
    change(&server, MAIN, |main| {
        main["spec"]["replicas"] = json!(2);
        main["metadata"]["generation"] = json!(4);
    });
    settle(&server, process(&server)).await;
    assert_eq!(wanted_pods(&server), 2);
}

/// A pod that drains still holds what it took, and nobody else knows of it.
#[tokio::test(start_paused = true)]
async fn a_request_in_a_pod_that_leaves_wakes() {
    let server = ready_cluster(|_| ()).await;
    say(&server, FORWARDER, false);
    say(&server, HOLDER, false);
    settle(&server, process(&server)).await;
    assert_eq!(wanted_pods(&server), 0);
    say(&server, FORWARDER, true);
    change(&server, &path("pods", FORWARDER), |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    settle(&server, process(&server)).await;
    assert_eq!(wanted_pods(&server), 2);
}

const GROUP: &str = "/apis/leaderworkerset.x-k8s.io/v1/namespaces/default/leaderworkersets/assistant-nodes";

#[tokio::test(start_paused = true)]
async fn a_model_that_is_spread_over_nodes_goes_and_comes_back_too() {
    let server = cluster();
    server.put(
        "/apis/leaderworkerset.x-k8s.io/v1",
        json!({"kind": "APIResourceList", "apiVersion": "v1", "metadata": {}, "groupVersion": "leaderworkerset.x-k8s.io/v1", "resources": []}),
    );
    let of_set = |pod: &mut Value, set: &str| {
        let owner = &mut pod["metadata"]["ownerReferences"][0];
        (owner["kind"], owner["name"]) = (json!("StatefulSet"), json!(set));
    };
    let mut follower = object(&server, POD);
    follower["metadata"]["name"] = json!("assistant-nodes-0-1");
    follower["metadata"]["uid"] = json!("pod-3");
    follower["metadata"]["labels"]["inference-operator.dev/tier"] = json!("follower");
    follower["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    of_set(&mut follower, "assistant-nodes-0");
    server.put(&path("pods", "assistant-nodes-0-1"), follower);
    change(&server, POD, |pod| of_set(pod, "assistant-nodes"));
    let server = ready_in(server, |main| {
        main["metadata"]["generation"] = json!(81);
        main["spec"]["backends"][0]["local"]["engine"] = json!("VLLM");
        main["spec"]["backends"][0]["local"]["nodes"] = json!(2);
    })
    .await;
    let groups = |server: &Server| object(server, GROUP)["spec"]["replicas"].clone();
    assert_eq!(groups(&server), 2);
    say(&server, FORWARDER, false);
    say(&server, HOLDER, false);
    settle(&server, process(&server)).await;
    assert_eq!(groups(&server), 0, "a pod that follows is asked nothing");
    server.0.lock().unwrap().objects.remove(POD);
    settle(&server, process(&server)).await;
    assert_eq!(groups(&server), 0, "and it stays away");
    say(&server, FORWARDER, true);
    settle(&server, process(&server)).await;
    assert_eq!(groups(&server), 2);
}

/// The time of pods that are away costs nothing; that of those which come back is reserved first, and what is not paid for stays away.
#[tokio::test(start_paused = true)]
async fn the_budget_has_the_last_word() {
    let limited = |main: &mut Value, limit: &str| {
        main["spec"]["budget"] = json!({"limit": limit, "period": "Total", "onExhausted": "ScaleToZero"});
        main["spec"]["backends"][1]["remote"]["price"] =
            json!({"inputPerMillionTokens": "1", "outputPerMillionTokens": "1"});
        // Five minutes and the default drain of ten, with half a minute: 930 s are 0.155 USD.
        main["spec"]["backends"][0]["local"]["price"] = json!({"perGpuHour": "0.6"});
    };
    let server = ready_cluster(|main| limited(main, "1.00")).await;
    assert_eq!(wanted_pods(&server), 2);
    let leased = |server: &Server| object(server, MAIN)["status"]["budget"]["leased"].clone();
    assert_eq!(leased(&server), "0.31");
    say(&server, FORWARDER, false);
    say(&server, HOLDER, false);
    settle(&server, process(&server)).await;
    assert_eq!(wanted_pods(&server), 0);
    server.0.lock().unwrap().objects.remove(POD);
    settle(&server, process(&server)).await;
    assert_eq!(leased(&server), "0.00", "nobody pays for who is away");
    say(&server, FORWARDER, true);
    settle(&server, process(&server)).await;
    assert_eq!(
        (wanted_pods(&server), leased(&server)),
        (2, json!("0.31")),
        "reserved ahead"
    );

    say(&server, FORWARDER, false);
    change(&server, MAIN, |main| {
        limited(main, "0.10");
        main["metadata"]["generation"] = json!(5);
    });
    settle(&server, process(&server)).await;
    say(&server, FORWARDER, true);
    settle(&server, process(&server)).await;
    assert_eq!(wanted_pods(&server), 0, "0.10 USD pay for no pod, whoever asks");
    let conditions = object(&server, MAIN)["status"]["conditions"].clone();
    let within = conditions
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["type"] == "WithinBudget");
    assert_eq!(within.unwrap()["reason"], "Exhausted");
}

/// What the budget does not pay for is not idle: it starts, or comes back, as soon as it is paid for.
#[tokio::test(start_paused = true)]
async fn the_budget_makes_nobody_idle() {
    let server = cluster();
    server.0.lock().unwrap().objects.remove(POD);
    let mut main = serde_json::to_value(fixtures::both()).unwrap();
    main["metadata"]["uid"] = json!("u-3");
    main["spec"]["scaleToZero"] = json!({"idleAfter": "10m"});
    let limited = |main: &mut Value, limit: &str| {
        main["spec"]["budget"] = json!({"limit": limit, "period": "Total", "onExhausted": "ScaleToZero"});
        main["spec"]["backends"][1]["remote"]["price"] =
            json!({"inputPerMillionTokens": "1", "outputPerMillionTokens": "1"});
        main["spec"]["backends"][0]["local"]["price"] = json!({"perGpuHour": "0.6"});
    };
    limited(&mut main, "0.10");
    server.put(MAIN, main);
    settle(&server, process(&server)).await;
    assert_eq!(wanted_pods(&server), 0, "0.10 USD pay for no pod");
    change(&server, MAIN, |main| {
        limited(main, "1.00");
        main["metadata"]["generation"] = json!(4);
    });
    settle(&server, process(&server)).await;
    assert_eq!(wanted_pods(&server), 2, "nobody had to ask");
}

#[tokio::test(start_paused = true)]
async fn an_end_at_any_call_ends_in_the_same_state() {
    let life = async |server: &Server, fault: Option<(usize, Fault)>| {
        say(server, FORWARDER, false);
        say(server, HOLDER, false);
        let begun = server.0.lock().unwrap().calls.len();
        server.0.lock().unwrap().fault = fault.map(|(at, fault)| (begun + at, fault));
        let _ = once(process(server)).await;
        settle(server, process(server)).await;
        let away = wanted_pods(server);
        say(server, FORWARDER, true);
        let _ = once(process(server)).await;
        settle(server, process(server)).await;
        (away, wanted_pods(server), server.0.lock().unwrap().calls.len() - begun)
    };
    let server = ready_cluster(|_| ()).await;
    let (away, back, calls) = life(&server, None).await;
    assert_eq!((away, back), (0, 2));
    for at in 0..calls {
        for fault in [Fault::Before, Fault::After] {
            let server = ready_cluster(|_| ()).await;
            let (away, back, _) = life(&server, Some((at, fault))).await;
            assert_eq!((away, back), (0, 2), "{fault:?} at {at}");
        }
    }
    println!(
        "FIGURE scale to zero, ends of the controller at every call: {}",
        2 * calls
    );
}
