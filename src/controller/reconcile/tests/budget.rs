//! A budget through whole reconciles: granted, told, spent, folded; with an end of the process before and after any call.

use super::*;
use crate::api::{InferenceDeployment, names};

const REPLICA: &str = "/apis/inference-operator.dev/v1alpha1/namespaces/default/inferencereplicas/assistant-local-1-a";

fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    object.pointer(path).unwrap_or(&Value::Null)
}

fn read(server: &Server, path: &str) -> Value {
    server.0.lock().unwrap().objects.get(path).cloned().unwrap_or_default()
}

/// A cluster whose deployment has a budget of one USD for ever.
fn with_budget() -> Server {
    let server = cluster();
    let mut main = serde_json::to_value(fixtures::both()).unwrap();
    main["spec"]["budget"] = json!({"limit": "1.00", "period": "Total", "warnAtPercent": [50]});
    main["spec"]["backends"][1]["remote"]["price"] =
        json!({"inputPerMillionTokens": "1", "outputPerMillionTokens": "1"});
    // Another object to those who remember verdicts on specs.
    main["metadata"]["uid"] = json!("u-2");
    server.put(MAIN, main);
    server
}

/// The runtime writes its status.
fn report(server: &Server, budget: &Value) {
    let mut replica = read(server, REPLICA);
    replica["status"] = json!({"bootID": "b", "ready": true, "budget": budget});
    server.put(REPLICA, replica);
}

fn wants(amount: &str) -> Value {
    json!({"sequence": 0, "want": {"sequence": 1, "amount": amount, "least": amount, "request": amount}})
}

fn spent(server: &Server, is_final: bool) -> Value {
    let lease = &read(server, REPLICA)["spec"]["budget"]["leases"][0];
    json!({"sequence": 1, "final": is_final, "leases": [{"id": lease["id"], "granted": lease["granted"],
        "surrendered": "0.00", "settled": "0.60", "uncertain": "0.10", "reserved": "0.00"}]})
}

fn amounts(server: &Server) -> [String; 3] {
    let main = read(server, MAIN);
    ["settled", "uncertain", "leased"].map(|amount| {
        at(&main, &format!("/status/budget/{amount}"))
            .as_str()
            .unwrap()
            .to_owned()
    })
}

/// From the first want to the end of the pod; before every step somebody may be unlucky.
async fn life(server: &Server, mut unlucky: impl FnMut(&Server)) {
    settle(server, process(server)).await;
    report(server, &wants("0.80"));
    unlucky(server);
    settle(server, process(server)).await;
    report(server, &spent(server, false));
    unlucky(server);
    settle(server, process(server)).await;
    report(server, &spent(server, true));
    server.0.lock().unwrap().objects.remove(POD);
    unlucky(server);
    settle(server, process(server)).await;
}

#[tokio::test(start_paused = true)]
async fn money_is_granted_told_spent_and_folded() {
    let server = with_budget();
    settle(&server, process(&server)).await;
    let replica = read(&server, REPLICA);
    assert_eq!(at(&replica, "/metadata/finalizers/0"), names::FINALIZER_BUDGET);
    assert_eq!(at(&replica, "/spec/budget/window/number"), 1);
    report(&server, &wants("0.80"));
    settle(&server, process(&server)).await;
    assert_eq!(
        at(&read(&server, MAIN), "/metadata/annotations")[names::ANNOTATION_BUDGET_WINDOW],
        "u-2/1"
    );
    assert_eq!(at(&read(&server, REPLICA), "/spec/budget/leases/0/granted"), "0.80");
    assert_eq!(amounts(&server), ["0.00", "0.00", "0.80"]);
    report(&server, &spent(&server, false));
    settle(&server, process(&server)).await;
    assert_eq!(amounts(&server), ["0.60", "0.10", "0.10"]);
    let ledger = at(&read(&server, MAIN), "/status/budget").clone();
    assert_eq!(
        (&ledger["warned"], &ledger["remaining"]),
        (&json!([50]), &json!("0.20"))
    );
    report(&server, &spent(&server, true));
    server.0.lock().unwrap().objects.remove(POD);
    settle(&server, process(&server)).await;
    assert_eq!(amounts(&server), ["0.60", "0.10", "0.00"]);
    assert_eq!(
        read(&server, REPLICA),
        Value::Null,
        "its finalizer is gone, and it with it"
    );
    assert_eq!(
        at(&read(&server, MAIN), "/status/budget/leases"),
        &Value::Null,
        "so is the row's stone"
    );
}

#[tokio::test(start_paused = true)]
async fn an_end_before_or_after_any_call_loses_and_doubles_nothing() {
    let server = with_budget();
    let mut calls = Vec::new();
    life(&server, |server| calls.push(server.0.lock().unwrap().calls.len())).await;
    calls.push(server.0.lock().unwrap().calls.len());
    let expected = amounts(&server);
    let mut tried = 0;
    for (step, range) in calls.windows(2).enumerate() {
        for call in 0..range[1] - range[0] {
            for fault in [Fault::Before, Fault::After] {
                let (server, mut steps) = (with_budget(), 0);
                life(&server, |server| {
                    let mut state = server.0.lock().unwrap();
                    let at = state.calls.len() + call;
                    state.fault = (steps == step).then_some((at, fault));
                    steps += 1;
                })
                .await;
                assert_eq!(amounts(&server), expected, "step {step}, call {call}, {fault:?}");
                assert_eq!(
                    read(&server, REPLICA),
                    Value::Null,
                    "step {step}, call {call}, {fault:?}"
                );
                tried += 1;
            }
        }
    }
    println!("FIGURE budget, ends of the controller at every call: {tried}");
    assert!(tried > 20, "{tried}");
}

fn denials(context: &Context) -> String {
    let text = context.metrics.text().unwrap();
    let mut lines = text.lines().filter(|line| line.contains("refused_wants_total{"));
    lines.next().unwrap().rsplit(' ').next().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_denial_is_counted_when_it_is_told_and_one_request_too_dear_leaves_the_rest_alone() {
    let server = with_budget();
    settle(&server, process(&server)).await;
    report(&server, &wants("0.80"));
    settle(&server, process(&server)).await;
    let mut said = spent(&server, false);
    said["cheapest"] = json!("0.01");
    report(&server, &said);
    settle(&server, process(&server)).await;
    let ledger = at(&read(&server, MAIN), "/status/budget").clone();
    said["want"] = json!({"sequence": 2, "amount": "0.40", "least": "0.30", "request": "0.40"});
    report(&server, &said);
    let mut context = process(&server);
    let metrics = Arc::clone(&context.metrics);
    for round in 0..4 {
        let (before, result) = once(context).await;
        result.unwrap();
        assert_eq!(denials(&before), "1", "round {round}");
        context = next(&before, &server);
        context.metrics = Arc::clone(&metrics);
    }
    assert_eq!(at(&read(&server, REPLICA), "/spec/budget/denied/above"), "0.30");
    assert_eq!(at(&read(&server, MAIN), "/status/budget"), &ledger, "nothing to record");
    assert_eq!(within_budget(&server)[0], "True");
    said["cheapest"] = json!("0.40");
    report(&server, &said);
    settle(&server, process(&server)).await;
    assert_eq!(within_budget(&server)[..2], ["False", "Exhausted"]);
}

/// A budget with 0.80 USD granted, whose status is wiped.
async fn wiped() -> Server {
    let server = with_budget();
    settle(&server, process(&server)).await;
    report(&server, &wants("0.80"));
    settle(&server, process(&server)).await;
    let mut main = read(&server, MAIN);
    main["status"] = json!({});
    server.put(MAIN, main);
    settle(&server, process(&server)).await;
    server
}

/// Somebody annotates the deployment, and the controller has a look.
async fn annotated(server: &Server, name: &str, value: &str) {
    let mut main = read(server, MAIN);
    main["metadata"]["annotations"][name] = json!(value);
    server.put(MAIN, main);
    settle(server, process(server)).await;
}

/// Status, reason and message of WithinBudget.
fn within_budget(server: &Server) -> [String; 3] {
    let main: InferenceDeployment = serde_json::from_value(read(server, MAIN)).unwrap();
    let conditions = main.status.unwrap().conditions;
    let condition = conditions.into_iter().find(|c| c.type_ == "WithinBudget").unwrap();
    [condition.status, condition.reason, condition.message]
}

#[tokio::test(start_paused = true)]
async fn a_wiped_status_is_said_and_grants_nothing() {
    let server = wiped().await;
    let [status, reason, message] = within_budget(&server);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "LedgerLost"));
    assert!(message.contains(names::ANNOTATION_BUDGET_ADOPT), "{message}");
    assert!(message.contains("(now in 1)"), "{message}");
    assert!(at(&read(&server, MAIN), "/status/budget/lost").is_object());
    assert_eq!(
        at(&read(&server, REPLICA), "/spec/budget/window/number"),
        2,
        "the lease is given back"
    );
}

#[tokio::test(start_paused = true)]
async fn an_annotation_that_is_no_amount_is_named_and_changes_nothing() {
    let server = wiped().await;
    report(
        &server,
        &json!({"sequence": 1, "leases": [{"id": at(&read(&server, REPLICA), "/spec/budget/leases/0/id"),
            "granted": "0.80", "surrendered": "0.30", "settled": "0.50", "uncertain": "0.00", "reserved": "0.00"}]}),
    );
    for (name, value) in [
        (names::ANNOTATION_BUDGET_ADOPT, "0,50"),
        (names::ANNOTATION_BUDGET_WRITE_OFF, "0,50@2"),
    ] {
        annotated(&server, name, value).await;
        let [_, reason, message] = within_budget(&server);
        assert_eq!(reason, "LedgerLost");
        assert!(message.contains(&format!("{name} is not taken: \"0,50\"")), "{message}");
    }
    assert_eq!(amounts(&server), ["0.00", "0.00", "0.00"]);
    annotated(&server, names::ANNOTATION_BUDGET_ADOPT, "0.50").await;
    let [status, _, message] = within_budget(&server);
    assert_eq!(
        (status.as_str(), amounts(&server)),
        ("True", ["0.50", "0.00", "0.00"].map(str::to_owned))
    );
    assert!(message.contains("is not taken"), "the other is still there: {message}");
    let annotations = at(&read(&server, MAIN), "/metadata/annotations").clone();
    assert_eq!(
        annotations.get(names::ANNOTATION_BUDGET_ADOPT),
        None,
        "it is carried out"
    );
}

#[tokio::test(start_paused = true)]
async fn a_manifest_with_a_write_off_that_is_applied_again_writes_nothing_off() {
    let name = names::ANNOTATION_BUDGET_WRITE_OFF;
    let server = with_budget();
    settle(&server, process(&server)).await;
    report(&server, &wants("0.80"));
    settle(&server, process(&server)).await;
    report(&server, &spent(&server, false));
    settle(&server, process(&server)).await;
    for _ in 0..2 {
        annotated(&server, name, "0.04@1").await;
        assert_eq!(amounts(&server), ["0.60", "0.06", "0.10"]);
        let main = read(&server, MAIN);
        assert_eq!(at(&main, "/metadata/annotations").get(name), None, "it is carried out");
        assert_eq!(at(&main, "/status/budget/writtenOff"), "0.04");
    }
    for (value, fix) in [
        ("0.04", "write it like \"1.25@7\""),
        ("0.05@7", "this is window 1: remove it"),
        (
            "0.03@1",
            "0.04 USD are written off in this window already: remove it, or state the sum",
        ),
    ] {
        annotated(&server, name, value).await;
        assert_eq!(amounts(&server), ["0.60", "0.06", "0.10"]);
        let [status, _, message] = within_budget(&server);
        assert!(
            status == "True" && message.contains(&format!("{name} is not taken: ")),
            "{message}"
        );
        assert!(message.contains(fix), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn priced_pods_run_as_far_as_the_budget_pays_for_their_time() {
    let workload = "/apis/apps/v1/namespaces/default/deployments/assistant-local";
    let server = with_budget();
    let mut main = read(&server, MAIN);
    main["spec"]["replicas"] = json!(3);
    main["spec"]["budget"]["onExhausted"] = json!("ScaleToZero");
    main["spec"]["backends"][0]["local"]["gpus"] = json!({"count": 2});
    // Five minutes and the default drain of ten, with half a minute: 930 s of two GPUs are 0.31 USD.
    main["spec"]["backends"][0]["local"]["price"] = json!({"perGpuHour": "0.6"});
    server.put(MAIN, main.clone());
    let mut pod = read(&server, POD);
    pod["status"]["conditions"] =
        json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": Timestamp::now()}]);
    server.put(POD, pod);
    settle(&server, process(&server)).await;
    assert_eq!(at(&read(&server, workload), "/spec/replicas"), 3);
    assert_eq!(amounts(&server), ["0.00", "0.00", "0.93"]);
    let time = at(&read(&server, MAIN), "/status/budget/gpuTime").clone();
    assert_eq!(
        (&time["wanted"], &time["ahead"], &time["pods"][0]["reserved"]),
        (&json!(3), &json!("0.62"), &json!("0.31"))
    );

    main = read(&server, MAIN);
    main["spec"]["budget"]["limit"] = json!("0.90");
    main["metadata"]["generation"] = json!(9);
    server.put(MAIN, main);
    settle(&server, process(&server)).await;
    assert_eq!(at(&read(&server, workload), "/spec/replicas"), 0);
    let main: InferenceDeployment = serde_json::from_value(read(&server, MAIN)).unwrap();
    let conditions = main.status.unwrap().conditions;
    let condition = conditions.iter().find(|c| c.type_ == "WithinBudget").unwrap();
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str()),
        ("False", "Exhausted")
    );
    assert!(condition.message.contains("GPUs"), "{}", condition.message);
}
