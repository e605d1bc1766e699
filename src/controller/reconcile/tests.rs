#[path = "tests/budget.rs"]
mod budget;
mod circuits;
#[path = "tests/idle.rs"]
mod idle;

use kube::runtime::{
    reflector::{Lookup, Store, store},
    watcher::Event,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::controller::{
    build::fixtures,
    mock::{Fault, Server},
};
use crate::policy::reach::AllowedAddresses;

const MAIN: &str = "/apis/inference-operator.dev/v1alpha1/namespaces/default/inferencedeployments/assistant";
const SERVICE: &str = "/api/v1/namespaces/default/services/assistant";
const POD: &str = "/api/v1/namespaces/default/pods/assistant-local-1-a";

/// Shared by all processes of all tests: the specs are few, and validating one takes long.
static VALIDATED: std::sync::LazyLock<Arc<Validated>> = std::sync::LazyLock::new(Arc::default);

/// A cluster with one InferenceDeployment and, as if its Deployment had been there for long, one pod.
fn cluster() -> Server {
    let server = Server::default();
    server.put(MAIN, serde_json::to_value(fixtures::both()).unwrap());
    server.put(
        POD,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
            "name": "assistant-local-1-a", "namespace": "default", "uid": "pod-1",
            "labels": {"inference-operator.dev/deployment": "assistant", "inference-operator.dev/tier": "local"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "assistant-local-1", "uid": "r", "controller": true}]}}),
    );
    server
}

fn filled<K>(server: &Server, plural: &str) -> Store<K>
where
    K: Lookup<DynamicType = ()> + Clone + DeserializeOwned + 'static,
{
    let (reader, mut writer) = store();
    writer.apply_watcher_event(&Event::Init);
    for object in server.list(plural) {
        writer.apply_watcher_event(&Event::InitApply(serde_json::from_value(object).unwrap()));
    }
    writer.apply_watcher_event(&Event::InitDone);
    reader
}

fn stores(server: &Server) -> Stores {
    Stores {
        deployments: filled(server, "inferencedeployments"),
        pods: filled(server, "pods"),
        replicas: filled(server, "inferencereplicas"),
        workloads: filled(server, "deployments"),
        revisions: filled(server, "controllerrevisions"),
        services: filled(server, "services"),
        networks: filled(server, "networkpolicies"),
        accounts: filled(server, "serviceaccounts"),
        roles: filled(server, "roles"),
        bindings: filled(server, "rolebindings"),
        claims: filled(server, "resourceclaimtemplates"),
        disruptions: filled(server, "poddisruptionbudgets"),
        groups: filled(server, "leaderworkersets"),
    }
}

/// A process that has just started, with its caches filled.
fn process(server: &Server) -> Context {
    let metrics = Arc::new(Metrics::default());
    let (events, _) = Events::start(Server::default().client(), "test", metrics.clone());
    Context {
        client: server.client(),
        stores: stores(server),
        memory: Arc::default(),
        validated: VALIDATED.clone(),
        defaults: Defaults {
            pull_secrets: std::collections::BTreeSet::new(),
            runtime_image: "runtime:1".into(),
            addresses: AllowedAddresses::default(),
            hub: crate::api::names::HUGGING_FACE.into(),
        },
        events,
        metrics,
        failures: Arc::default(),
        pace: Arc::default(),
        server_time: ServerTime::at(Timestamp::now()),
        tried: Arc::default(),
        image_volumes: Arc::default(),
    }
}

async fn once(context: Context) -> (Arc<Context>, Result<Action, ReconcileError>) {
    let context = Arc::new(context);
    let object = context.stores.deployments.state().into_iter().next().unwrap();
    let result = reconcile(object, context.clone()).await;
    (context, result)
}

/// The next reconcile of the same process, its caches up to date.
fn next(before: &Context, server: &Server) -> Context {
    Context {
        memory: before.memory.clone(),
        image_volumes: before.image_volumes.clone(),
        ..process(server)
    }
}

#[tokio::test]
async fn a_claim_needs_an_api_and_is_carried_out_once_it_is_there() {
    let server = Server::default();
    let mut deployment = serde_json::to_value(fixtures::both()).unwrap();
    deployment["metadata"]["generation"] = json!(51);
    deployment["spec"]["backends"][0]["local"]["gpus"] = json!({"claimTemplate": {"name": "one-h100"}});
    server.put(MAIN, deployment);
    let (context, result) = once(process(&server)).await;
    assert_eq!(result.unwrap(), Action::requeue(LOOK_AGAIN));
    let (reason, message) = stalled(&server);
    assert_eq!(reason, "Unsupported");
    assert!(
        message.contains("spec.backends[0].local.gpus.claimTemplate") && message.contains("resource.k8s.io"),
        "{message}"
    );
    assert!(server.list("deployments").is_empty(), "no pod without a GPU");

    server.put(
        RESOURCE_API,
        json!({"kind": "APIResourceList", "apiVersion": "v1", "metadata": {}, "groupVersion": "resource.k8s.io/v1", "resources": []}),
    );
    let (_, result) = once(next(&context, &server)).await;
    result.unwrap();
    assert_eq!(stalled(&server).0, "");
    let workloads = server.list("deployments");
    let pod = workloads.iter().map(|w| &w["spec"]["template"]["spec"]);
    let claims: Vec<_> = pod.map(|pod| pod["resourceClaims"].clone()).collect();
    assert!(
        claims.contains(&json!([{"name": "gpus", "resourceClaimTemplateName": "one-h100"}])),
        "{claims:?}"
    );
}

const RESOURCE_API: &str = "/apis/resource.k8s.io/v1";

/// The local pods get two devices of a class with this much memory.
fn of_a_class(server: &Server, generation: i64, memory: &str) {
    let mut deployment = server
        .list("inferencedeployments")
        .pop()
        .unwrap_or(json!(fixtures::both()));
    let expression = format!("device.capacity['x'].memory.isGreaterThan(quantity('{memory}'))");
    deployment["metadata"]["generation"] = json!(generation);
    deployment["spec"]["backends"][0]["local"]["gpus"] =
        json!({"count": 2, "deviceClassName": "x", "selectors": [{"cel": {"expression": expression}}]});
    server.put(MAIN, deployment);
}

/// What the Deployments say of their pods: that all are of the newest template, or none.
fn pods_are_new(server: &Server, new: bool) {
    for mut workload in server.list("deployments") {
        let replicas = workload["spec"]["replicas"].clone();
        let updated = if new { replicas.clone() } else { json!(0) };
        workload["status"] = json!({"replicas": replicas, "updatedReplicas": updated, "readyReplicas": replicas});
        let name = workload["metadata"]["name"].as_str().unwrap();
        let path = format!("/apis/apps/v1/namespaces/default/deployments/{name}");
        server.put(&path, workload.clone());
    }
}

#[tokio::test]
async fn a_template_of_claims_is_made_once_and_stays_until_no_pod_of_it_may_come() {
    let server = Server::default();
    server.put(
        RESOURCE_API,
        json!({"kind": "APIResourceList", "apiVersion": "v1", "metadata": {}, "groupVersion": "resource.k8s.io/v1", "resources": []}),
    );
    of_a_class(&server, 61, "40Gi");
    settle(&server, process(&server)).await;
    let templates = server.list("resourceclaimtemplates");
    assert_eq!(templates.len(), 1, "{templates:#?}");
    assert_eq!(templates[0]["metadata"]["ownerReferences"][0]["uid"], "u-1");
    pods_are_new(&server, false);
    of_a_class(&server, 62, "80Gi");
    settle(&server, process(&server)).await;
    assert_eq!(
        server.list("resourceclaimtemplates").len(),
        2,
        "old pods may be made again"
    );
    pods_are_new(&server, true);
    settle(&server, process(&server)).await;
    let left = server.list("resourceclaimtemplates");
    assert_eq!(left.len(), 1);
    assert_ne!(left[0]["metadata"]["name"], templates[0]["metadata"]["name"]);
}

#[tokio::test]
async fn a_model_in_an_image_needs_a_cluster_that_keeps_such_volumes() {
    let server = cluster();
    server.0.lock().unwrap().drops_image_volumes = true;
    settle(&server, process(&server)).await;
    let (reason, message) = stalled(&server);
    assert_eq!(reason, "Unsupported");
    assert!(
        message.contains("spec.backends[0].local.source.image") && message.contains("ImageVolume"),
        "{message}"
    );
    assert!(
        server.list("deployments").is_empty(),
        "no engine starts without its model"
    );

    server.0.lock().unwrap().drops_image_volumes = false;
    server.0.lock().unwrap().calls.clear();
    settle(&server, process(&server)).await;
    assert_eq!(stalled(&server).0, "");
    assert_eq!(server.list("deployments").len(), 2);
    let calls = server.0.lock().unwrap().calls.clone();
    let tried = calls.iter().filter(|call| call.starts_with("dry run")).count();
    assert_eq!(tried, 1, "then it is known: {calls:?}");
}

#[tokio::test]
async fn a_model_on_several_nodes_needs_an_api_and_its_groups_take_the_place_of_the_deployment() {
    let server = cluster();
    settle(&server, process(&server)).await;
    let mut deployment = server.list("inferencedeployments").pop().unwrap();
    deployment["metadata"]["generation"] = json!(71);
    deployment["spec"]["backends"][0]["local"]["engine"] = json!("VLLM");
    deployment["spec"]["backends"][0]["local"]["nodes"] = json!(2);
    server.put(MAIN, deployment);
    settle(&server, process(&server)).await;
    let (reason, message) = stalled(&server);
    assert_eq!(reason, "Unsupported");
    assert!(
        message.contains("spec.backends[0].local.nodes") && message.contains("leaderworkerset.x-k8s.io/v1"),
        "{message}"
    );
    let names = |plural: &str| -> Vec<String> {
        let objects = server.list(plural).into_iter();
        objects
            .map(|o| o["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names("deployments"),
        ["assistant-local", "assistant-remote"],
        "what runs goes on"
    );

    server.put(
        "/apis/leaderworkerset.x-k8s.io/v1",
        json!({"kind": "APIResourceList", "apiVersion": "v1", "metadata": {}, "groupVersion": "leaderworkerset.x-k8s.io/v1", "resources": []}),
    );
    settle(&server, process(&server)).await;
    assert_eq!(stalled(&server).0, "");
    assert_eq!(names("leaderworkersets"), ["assistant-nodes"]);
    assert_eq!(names("deployments"), ["assistant-remote"]);

    let path = "/apis/leaderworkerset.x-k8s.io/v1/namespaces/default/leaderworkersets/assistant-nodes";
    let mut group = server.list("leaderworkersets").remove(0);
    group["status"] = json!({"replicas": 2, "readyReplicas": 1, "updatedReplicas": 2, "hpaPodSelector": "x"});
    server.put(path, group);
    settle(&server, process(&server)).await;
    let status = server.0.lock().unwrap().objects[MAIN]["status"].clone();
    assert_eq!((&status["replicas"], &status["readyReplicas"]), (&json!(2), &json!(1)));
}

/// Objects without what differs from run to run.
fn shape(server: &Server) -> Vec<Value> {
    let mut objects: Vec<Value> = server.0.lock().unwrap().objects.values().cloned().collect();
    for object in &mut objects {
        let meta = object["metadata"].as_object_mut().unwrap();
        meta.retain(|key, _| !matches!(key.as_str(), "uid" | "resourceVersion"));
        for condition in object["status"]["conditions"].as_array_mut().into_iter().flatten() {
            condition.as_object_mut().unwrap().remove("lastTransitionTime");
        }
    }
    objects
}

/// Reconciles until there is nothing to write any more, and says after how many rounds.
async fn settle(server: &Server, mut context: Context) -> usize {
    for round in 0..10 {
        let calls = server.0.lock().unwrap().calls.len();
        let (before, result) = once(context).await;
        if result.is_ok() && server.writes(calls).is_empty() {
            return round;
        }
        context = next(&before, server);
    }
    panic!("it never settles: {:#?}", server.0.lock().unwrap().calls);
}

async fn fault_free() -> (Vec<Value>, usize) {
    let server = cluster();
    settle(&server, process(&server)).await;
    let calls = server.0.lock().unwrap().calls.len();
    (shape(&server), calls)
}

#[tokio::test]
async fn everything_is_made_once_and_then_nothing_is_written() {
    let server = cluster();
    let (context, result) = once(process(&server)).await;
    result.unwrap();
    let created = server.writes(0).iter().filter(|w| w.starts_with("POST")).count();
    assert_eq!(
        created, 12,
        "account, role, binding, 2 services, network policy, 2 revisions, 2 deployments, 1 disruption budget, 1 replica"
    );
    let calls = server.0.lock().unwrap().calls.len();
    let (_, result) = once(next(&context, &server)).await;
    result.unwrap();
    assert_eq!(server.writes(calls), Vec::<String>::new());
    let state = server.0.lock().unwrap();
    // A revision is never applied again: who owns its fields does not matter.
    for object in state.objects.values().filter(|o| o["kind"] != "ControllerRevision") {
        let fields = &object["metadata"]["managedFields"];
        assert!(
            !fields.to_string().contains("Update"),
            "an Update entry would keep dropped fields: {fields}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_or_after_any_call_ends_in_the_same_state() {
    let (expected, calls) = fault_free().await;
    assert_eq!(
        calls, 24,
        "a trial, 10 creates with their managedFields, 2 revisions, 1 status"
    );
    for at in 0..calls {
        for fault in [Fault::Before, Fault::After, Fault::Hang] {
            let server = cluster();
            server.0.lock().unwrap().fault = Some((at, fault));
            let _ = once(process(&server)).await;
            // The next process knows nothing of the first.
            settle(&server, process(&server)).await;
            assert_eq!(shape(&server), expected, "{fault:?} at call {at}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_any_call_is_typed_and_the_same_process_gets_over_it() {
    let (expected, calls) = fault_free().await;
    for at in 0..calls {
        for (code, reason) in [(409, "Conflict"), (429, "TooManyRequests"), (500, "InternalError")] {
            let server = cluster();
            server.0.lock().unwrap().fault = Some((at, Fault::Status(code, reason)));
            let (context, result) = once(process(&server)).await;
            if let Err(error) = result {
                assert!(error.to_string().contains(reason), "{error}");
                assert_eq!(error.is_routine(), code == 409, "{error}");
            }
            settle(&server, next(&context, &server)).await;
            assert_eq!(shape(&server), expected, "{code} at call {at}");
        }
    }
}

#[tokio::test]
async fn a_cache_that_lags_behind_own_writes_is_waited_for() {
    let server = cluster();
    let before = stores(&server);
    let (context, result) = once(process(&server)).await;
    result.unwrap();
    let calls = server.0.lock().unwrap().calls.len();
    let stale = Context {
        stores: before,
        ..next(&context, &server)
    };
    let (_, result) = once(stale).await;
    assert!(matches!(result, Err(ReconcileError::Dereference(_))), "{result:?}");
    assert_eq!(server.0.lock().unwrap().calls.len(), calls, "nothing was decided on it");
}

fn stalled(server: &Server) -> (String, String) {
    let status = server.0.lock().unwrap().objects[MAIN]["status"].clone();
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let stalled = conditions
        .into_iter()
        .find(|c| c["type"] == "Stalled")
        .unwrap_or_default();
    let text = |key: &str| stalled[key].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

/// The pod's runtime gave up on a GPU, for the `round`th time in a pod of another UID.
fn give_up(server: &Server, round: usize) {
    let message = json!({"reason": "GPUFaulty", "message": "cuInit failed with 999", "rebuilds": 0, "devices": [{"uuid": "GPU-1", "xid": 79}]});
    let (mut pod, now) = (server.0.lock().unwrap().objects[POD].clone(), Timestamp::now());
    pod["metadata"]["uid"] = json!(format!("pod-{round}"));
    pod["spec"] = json!({"nodeName": "node-1", "containers": []});
    pod["status"] = json!({"containerStatuses": [{"name": "engine", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 85, "message": message.to_string(), "finishedAt": now}}}]});
    server.put(POD, pod);
}

fn hold(server: &Server) -> Value {
    server.list("inferencereplicas")[0]["spec"]["engineHold"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_gave_up_on_its_gpu_is_replaced_three_times_and_then_held() {
    let server = cluster();
    let template = server.0.lock().unwrap().objects[POD].clone();
    settle(&server, process(&server)).await;
    for round in 1..=4 {
        server.put(POD, template.clone());
        give_up(&server, round);
        let calls = server.0.lock().unwrap().calls.len();
        settle(&server, process(&server)).await;
        let writes = server.writes(calls);
        let place = |words: &str| writes.iter().position(|write| write.starts_with(words));
        let (recorded, deleted) = (place(&format!("PATCH {MAIN}/status")), place(&format!("DELETE {POD}")));
        assert_eq!(deleted.is_some(), round <= 3, "{writes:?}");
        assert!(round > 3 || recorded < deleted, "it is recorded first: {writes:?}");
    }
    assert!(hold(&server).as_str().unwrap().contains("GPU-1 of node node-1"));
    assert_eq!(stalled(&server).0, "GPUFaulty");
    assert_eq!(server.list("pods").len(), 1, "the pod stays");
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_record_and_deletion_counts_the_pod_once() {
    for fault in [Fault::Before, Fault::After] {
        for at in 0..3 {
            let server = cluster();
            settle(&server, process(&server)).await;
            give_up(&server, 1);
            let calls = server.0.lock().unwrap().calls.len();
            server.0.lock().unwrap().fault = Some((calls + at, fault));
            let _ = once(process(&server)).await;
            settle(&server, process(&server)).await;
            assert_eq!(server.list("pods").len(), 0, "{fault:?} at {at}");
            let rows = server.0.lock().unwrap().objects[MAIN]["status"]["gpus"].clone();
            assert_eq!(
                rows[0]["replaced"].as_array().unwrap().len(),
                1,
                "{fault:?} at {at}: {rows}"
            );
        }
    }
}

#[tokio::test]
async fn a_strangers_object_is_named_and_left_alone() {
    let server = cluster();
    let theirs = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "assistant", "namespace": "default",
        "ownerReferences": [{"apiVersion": "v1", "kind": "Shop", "name": "front", "uid": "s", "controller": true}]}});
    server.put(SERVICE, theirs);
    let before = server.0.lock().unwrap().objects[SERVICE].clone();
    let (context, result) = once(process(&server)).await;
    result.unwrap();
    let (_, result) = once(next(&context, &server)).await;
    result.unwrap();
    assert_eq!(server.0.lock().unwrap().objects[SERVICE], before);
    let statuses = server.writes(0).iter().filter(|w| w.ends_with("/status")).count();
    assert_eq!(statuses, 1, "the second look writes nothing new");
    let (reason, message) = stalled(&server);
    assert_eq!(reason, "NameConflict");
    assert!(
        message.contains("Service assistant") && message.contains("Shop/front"),
        "{message}"
    );
}

#[tokio::test]
async fn a_refusal_of_the_server_is_stalled_with_its_words() {
    let server = cluster();
    server.0.lock().unwrap().fault = Some((1, Fault::Status(403, "Forbidden")));
    let (_, result) = once(process(&server)).await;
    result.unwrap();
    let (reason, message) = stalled(&server);
    assert_eq!(reason, "ApplyFailed");
    assert!(
        message.contains("create InferenceReplica default/") && message.contains("Forbidden"),
        "the replicas' objects come first: {message}"
    );
}

#[tokio::test]
async fn an_object_that_cannot_be_decoded_is_stalled_once_and_does_not_wedge() {
    let server = cluster();
    server.0.lock().unwrap().objects.get_mut(MAIN).unwrap()["spec"] = json!({"backends": "none"});
    settle(&server, process(&server)).await;
    let (reason, message) = stalled(&server);
    assert_eq!(reason, "InvalidSpec");
    assert!(message.contains("cannot be read"), "{message}");
    assert_eq!(server.writes(0).len(), 1, "one status and nothing else");
}

/// An operator that was rolled back, while the CRDs and what they allow stayed.
#[tokio::test]
async fn an_object_that_cannot_be_decoded_any_more_keeps_the_rest_of_its_status() {
    let server = cluster();
    settle(&server, process(&server)).await;
    let newer = |server: &Server| {
        let mut state = server.0.lock().unwrap();
        let main = state.objects.get_mut(MAIN).unwrap();
        main["spec"]["backends"] = json!("of a newer form");
        main["status"]["later"] = json!("known to a newer operator");
        main["status"].clone()
    };
    let mut before = newer(&server);
    settle(&server, process(&server)).await;
    assert_eq!(stalled(&server).0, "InvalidSpec");
    let mut after = server.0.lock().unwrap().objects[MAIN]["status"].clone();
    for status in [&mut before, &mut after] {
        assert!(status["selector"].is_string() && status["endpoint"].is_string());
        let conditions = status["conditions"].as_array_mut().unwrap();
        conditions.retain(|c| !["Ready", "Stalled", "Reconciling"].contains(&c["type"].as_str().unwrap()));
        assert!(!conditions.is_empty());
    }
    assert_eq!(after, before);
}

#[tokio::test]
async fn an_object_that_was_mended_meanwhile_is_not_called_undecodable() {
    let server = cluster();
    let whole = server.0.lock().unwrap().objects[MAIN].clone();
    server.0.lock().unwrap().objects.get_mut(MAIN).unwrap()["spec"] = json!({"backends": "none"});
    let stale = process(&server);
    server.put(MAIN, whole);
    let (context, result) = once(stale).await;
    assert!(result.unwrap_err().is_routine(), "a conflict, to be tried again");
    settle(&server, next(&context, &server)).await;
    assert_eq!(stalled(&server).0, "");
}

/// Deleted and made again, as `kubectl replace --force` does: nobody has to mend anything.
#[tokio::test]
async fn what_an_earlier_deployment_of_the_name_left_is_waited_for() {
    let server = cluster();
    let left = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "assistant", "namespace": "default",
        "ownerReferences": [{"apiVersion": "inference-operator.dev/v1alpha1", "kind": "InferenceDeployment", "name": "assistant",
            "uid": "u-0", "controller": true}]}});
    server.put(SERVICE, left);
    let (context, result) = once(process(&server)).await;
    let error = result.unwrap_err().to_string();
    assert!(
        error.contains("Service assistant") && error.contains("removed"),
        "{error}"
    );
    assert_eq!(stalled(&server).0, "");
    server.0.lock().unwrap().objects.remove(SERVICE);
    let (_, result) = once(next(&context, &server)).await;
    result.unwrap();
    assert_eq!(server.list("deployments").len(), 2);
}

#[tokio::test]
async fn what_is_not_wanted_any_more_goes_when_the_rest_is_ready() {
    let server = cluster();
    settle(&server, process(&server)).await;
    server.0.lock().unwrap().objects.remove(POD);
    let without_spill = |server: &Server| {
        let mut state = server.0.lock().unwrap();
        state.objects.get_mut(MAIN).unwrap()["spec"]["spill"] = Value::Null;
    };
    without_spill(&server);
    settle(&server, process(&server)).await;
    let names = |plural: &str| -> Vec<String> {
        let objects = server.list(plural);
        objects
            .iter()
            .map(|o| o["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("inferencereplicas"), Vec::<String>::new(), "its pod is gone");
    assert_eq!(
        names("deployments"),
        ["assistant-local", "assistant-remote"],
        "the rest is not Ready yet"
    );
    let path = "/apis/apps/v1/namespaces/default/deployments/assistant-local";
    server.0.lock().unwrap().objects.get_mut(path).unwrap()["status"] = json!({"readyReplicas": 2});
    settle(&server, process(&server)).await;
    assert_eq!(names("deployments"), ["assistant-local"]);
    assert_eq!(names("controllerrevisions").len(), 1);
}

const REPLICA: &str = "/apis/inference-operator.dev/v1alpha1/namespaces/default/inferencereplicas/assistant-local-1-a";

/// The share that the one replica is told.
fn share(server: &Server) -> Value {
    server.0.lock().unwrap().objects[REPLICA]["spec"]["shares"].clone()
}

/// The same with a limit of 600 requests a minute at the provider.
fn limited() -> Server {
    let server = cluster();
    let mut deployment = serde_json::to_value(fixtures::both()).unwrap();
    deployment["spec"]["backends"][1]["remote"]["rateLimit"] = json!({"requestsPerMinute": 600});
    server.put(MAIN, deployment);
    server
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_shared_out_whatever_fails() {
    let server = limited();
    settle(&server, process(&server)).await;
    let expected = json!([{"backend": "openai", "sequence": 1, "contended": false, "awaited": false,
        "requests": {"milliPerMinute": 598_500, "reservedMilliPerMinute": 598_500}}]);
    assert_eq!(share(&server), expected);
    let calls = server.0.lock().unwrap().calls.len();
    for at in 0..calls {
        for fault in [
            Fault::Before,
            Fault::After,
            Fault::Status(409, "Conflict"),
            Fault::Status(500, "x"),
        ] {
            let server = limited();
            server.0.lock().unwrap().fault = Some((at, fault));
            let (mut context, mut tried) = (process(&server), Arc::default());
            for _ in 0..4 {
                // The same process goes on, with what it tried.
                context.tried = Arc::clone(&tried);
                let (before, _) = once(context).await;
                tried = Arc::clone(&before.tried);
                context = next(&before, &server);
            }
            let share = &share(&server)[0]["requests"];
            assert_eq!(share, &expected[0]["requests"], "{fault:?} at call {at}");
        }
    }
}
