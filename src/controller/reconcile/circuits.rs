//! Circuits through whole reconciles: recorded by one conditional write, then told.

use super::*;
use crate::policy::circuit::marks;

const REPLICAS: &str = "/apis/inference-operator.dev/v1alpha1/namespaces/default/inferencereplicas";

/// A cluster with Ready spill pods and their InferenceReplicas.
async fn pods(names: &[&str]) -> Server {
    let server = cluster();
    server.0.lock().unwrap().objects.remove(POD);
    for name in names {
        add(&server, name);
    }
    settle(&server, process(&server)).await;
    server
}

fn add(server: &Server, name: &str) {
    let path = format!("/api/v1/namespaces/default/pods/{name}");
    server.put(
        &path,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "uid": name,
            "labels": {"inference-operator.dev/deployment": "assistant", "inference-operator.dev/tier": "remote"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "assistant-remote-1", "uid": "r", "controller": true}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}),
    );
}

/// The replica holds the circuit of `openai` open for itself.
fn trips(server: &Server, name: &str) {
    let target = marks::target(fixtures::both().spec.backends[1].remote.as_ref().unwrap());
    let mut replica = server.0.lock().unwrap().objects[&format!("{REPLICAS}/{name}")].clone();
    replica["status"] = json!({"ready": true, "circuits": [{"backend": "openai", "scope": "Endpoint", "target": target,
        "state": "Open", "openedAt": "2026-01-01T00:00:00Z", "trips": 1, "lastError": "server_error"}]});
    server.put(&format!("{REPLICAS}/{name}"), replica);
}

fn recorded(server: &Server) -> Value {
    server.0.lock().unwrap().objects[MAIN]["status"]["circuits"][0].clone()
}

fn told(server: &Server, name: &str) -> Value {
    server.0.lock().unwrap().objects[&format!("{REPLICAS}/{name}")]["spec"]["circuits"][0]["state"].clone()
}

#[tokio::test]
async fn a_majority_opens_for_all_and_then_nothing_more_is_written() {
    let server = pods(&["a", "b", "c"]).await;
    trips(&server, "a");
    settle(&server, process(&server)).await;
    assert_eq!(
        (told(&server, "a"), told(&server, "b")),
        (Value::Null, Value::Null),
        "a lone voter"
    );
    assert_eq!(
        (&recorded(&server)["state"], &recorded(&server)["openReplicas"]),
        (&json!("Closed"), &json!(1))
    );
    trips(&server, "b");
    settle(&server, process(&server)).await;
    assert_eq!(
        (&recorded(&server)["state"], &recorded(&server)["openReplicas"]),
        (&json!("Open"), &json!(2))
    );
    for name in ["a", "b", "c"] {
        assert_eq!(told(&server, name), "Open", "{name}");
    }
    let conditions = server.0.lock().unwrap().objects[MAIN]["status"]["conditions"].clone();
    let closed = conditions
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["type"] == "CircuitClosed")
        .unwrap()
        .clone();
    assert_eq!(
        (&closed["status"], &closed["reason"]),
        (&json!("False"), &json!("Open"))
    );
}

#[tokio::test]
async fn a_pod_that_comes_while_it_is_open_is_told_from_its_first_moment() {
    let server = pods(&["a"]).await;
    trips(&server, "a");
    settle(&server, process(&server)).await;
    add(&server, "late");
    let (_, result) = once(process(&server)).await;
    result.unwrap();
    assert_eq!(told(&server, "late"), "Open");
    let writes = server.writes(0);
    let creates = writes
        .iter()
        .filter(|w| w.starts_with("POST") && w.ends_with("/inferencereplicas"));
    assert_eq!(creates.count(), 2, "created with it, not told later: {writes:?}");
}

#[tokio::test]
async fn a_second_leader_that_decided_on_an_older_state_records_and_tells_nothing() {
    let server = pods(&["a"]).await;
    trips(&server, "a");
    let slow = process(&server);
    settle(&server, process(&server)).await;
    let (row, calls) = (recorded(&server), server.0.lock().unwrap().calls.len());
    let (_, result) = once(slow).await;
    assert!(result.unwrap_err().is_routine());
    assert_eq!(recorded(&server), row);
    let writes = server.writes(calls);
    assert!(
        writes.iter().all(|w| w.ends_with("/status")),
        "one write, which was refused: {writes:?}"
    );
}

#[tokio::test]
async fn what_was_recorded_before_a_crash_is_told_by_the_next_process() {
    let server = pods(&["a", "b"]).await;
    trips(&server, "a");
    trips(&server, "b");
    let calls = server.0.lock().unwrap().calls.len();
    server.0.lock().unwrap().fault = Some((calls + 1, Fault::Before));
    let (_, result) = once(process(&server)).await;
    assert!(result.is_err());
    assert_eq!(
        (recorded(&server)["state"].clone(), told(&server, "a")),
        (json!("Open"), Value::Null)
    );
    let sequence = recorded(&server)["sequence"].clone();
    settle(&server, process(&server)).await;
    assert_eq!((told(&server, "a"), told(&server, "b")), (json!("Open"), json!("Open")));
    assert_eq!(recorded(&server)["sequence"], sequence, "it is not decided twice");
}

/// One reconcile of a process that goes on: with the pace that it has had so far.
async fn go_on(server: &Server, pace: &Arc<Pace>) {
    let context = Context {
        pace: Arc::clone(pace),
        ..process(server)
    };
    once(context).await.1.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rollout_takes_no_transition_its_turn() {
    let names = ["a", "b", "c"];
    let server = pods(&names).await;
    let (pace, path) = (
        Arc::default(),
        "/apis/apps/v1/namespaces/default/deployments/assistant-local",
    );
    for ready in 1..=20 {
        let mut workload = server.0.lock().unwrap().objects[path].clone();
        workload["status"] = json!({"replicas": 20, "readyReplicas": ready});
        server.put(path, workload);
        go_on(&server, &pace).await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    for name in names {
        trips(&server, name);
    }
    go_on(&server, &pace).await;
    assert_eq!(recorded(&server)["state"], json!("Open"), "at once");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_reported_meanwhile_is_told_at_once_all_the_same() {
    let server = pods(&["a", "b"]).await;
    let pace = Arc::default();
    trips(&server, "a");
    trips(&server, "b");
    let calls = server.0.lock().unwrap().calls.len();
    server.0.lock().unwrap().fault = Some((calls + 2, Fault::Status(409, "Conflict")));
    let context = Context {
        pace: Arc::clone(&pace),
        ..process(&server)
    };
    assert!(once(context).await.1.unwrap_err().is_routine());
    assert_eq!((told(&server, "a"), told(&server, "b")), (Value::Null, json!("Open")));
    let conditions = server.0.lock().unwrap().objects[MAIN]["status"]["conditions"].to_string();
    assert!(
        conditions.contains("\"reason\":\"Open\""),
        "in the same turn: {conditions}"
    );
    go_on(&server, &pace).await;
    assert_eq!(told(&server, "a"), "Open");
}
