use std::sync::Arc;

use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentCondition},
    core::v1::Pod,
};
use serde_json::{Value, json};

use super::{undecodable::undecodable, *};
use crate::{
    api::{InferenceDeploymentSpec, InferenceReplica, conditions::reason},
    controller::{
        build::fixtures,
        decide::{Situation, decide},
        dereference::Live,
    },
    policy::circuit::marks,
};

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A cluster in which everything works: two local pods and a spill pod.
fn healthy() -> Live {
    let mut live = Live::default();
    for (name, tier) in [
        ("assistant-local-1-a", "local"),
        ("assistant-local-1-b", "local"),
        ("assistant-remote-1-c", "remote"),
    ] {
        live.pods.push(Arc::new(pod(name, tier, true)));
        live.replicas.push(replica(name, tier));
    }
    live
}

fn pod(name: &str, tier: &str, ready: bool) -> Pod {
    parse(json!({
        "metadata": {"name": name, "uid": name, "labels": {"inference-operator.dev/tier": tier}, "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("assistant-{tier}-1"), "uid": "r", "controller": true}]},
        "status": {"conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    }))
}

fn replica(name: &str, tier: &str) -> InferenceReplica {
    let mut status = json!({"observedGeneration": 3, "ready": true, "backends": [
        {"name": "own", "available": true, "reason": "Available"},
        {"name": "openai", "available": true, "reason": "Available"}]});
    if tier == "local" {
        status["engine"] = json!({"state": "Ready"});
    }
    parse(json!({
        "apiVersion": "inference-operator.dev/v1alpha1", "kind": "InferenceReplica", "metadata": {"name": name},
        "spec": {"podUID": name, "deploymentName": "assistant", "deploymentUID": "u-1"}, "status": status,
    }))
}

fn deployments() -> Vec<Deployment> {
    let one = |name: &str, replicas: i32| {
        parse(json!({
            "metadata": {"name": name, "generation": 1, "labels": {"inference-operator.dev/tier": name.trim_start_matches("assistant-")}},
            "spec": {"replicas": replicas, "selector": {}, "template": {}},
            "status": {"observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas,
                "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]},
        }))
    };
    vec![one("assistant-local", 2), one("assistant-remote", 1)]
}

struct Case {
    spec: InferenceDeploymentSpec,
    live: Live,
    deployments: Vec<Deployment>,
    kept: Vec<String>,
    problem: Option<Problem>,
}

impl Case {
    fn new() -> Self {
        Self {
            spec: fixtures::both().spec,
            live: healthy(),
            deployments: deployments(),
            kept: Vec::new(),
            problem: None,
        }
    }

    fn edit(&mut self, edit: impl Fn(&mut InferenceReplica)) {
        self.live.replicas.iter_mut().for_each(edit);
    }

    fn status(&self, old: &InferenceDeploymentStatus, now: &str) -> InferenceDeploymentStatus {
        let subject = fixtures::subject();
        let mut deployment = fixtures::both();
        deployment.spec = self.spec.clone();
        deployment.status = Some(old.clone());
        let at: jiff::Timestamp = now.parse().unwrap();
        let situation = Situation {
            subject: &subject,
            deployment: &deployment,
            live: &self.live,
            now: at,
            server_now: None,
            read_live: false,
            jitter: 0.0,
        };
        let decisions = decide(&situation);
        let view = View::new(
            situation,
            &self.deployments,
            &self.kept,
            self.problem.clone(),
            &decisions,
        );
        compute(&view, old, &Time(at))
    }

    fn first(&self) -> InferenceDeploymentStatus {
        self.status(&InferenceDeploymentStatus::default(), "2026-01-01T00:00:00Z")
    }

    #[track_caller]
    fn expect(&self, type_: &str, status: &str, reason: &str, word: &str) {
        let conditions = self.first().conditions;
        let found = conditions
            .iter()
            .find(|c| c.type_ == type_)
            .unwrap_or_else(|| panic!("{type_} is missing"));
        assert_eq!(
            (found.status.as_str(), found.reason.as_str()),
            (status, reason),
            "{found:?}"
        );
        assert!(found.message.contains(word), "{word} is missing in {}", found.message);
    }

    #[track_caller]
    fn absent(&self, type_: &str) {
        let conditions = self.first().conditions;
        assert!(!conditions.iter().any(|c| c.type_ == type_), "{type_} is present");
    }
}

#[test]
fn a_healthy_deployment_is_ready_and_nothing_else_is_going_on() {
    let case = Case::new();
    case.expect(
        "Ready",
        "True",
        reason::AVAILABLE,
        "3 of 3 replicas are Ready, backend own",
    );
    case.expect("Scheduled", "True", reason::AS_EXPECTED, "");
    case.expect("ModelLoaded", "True", reason::LOADED, "");
    case.expect("CredentialsAccepted", "True", reason::ACCEPTED, "");
    case.expect("CircuitClosed", "True", reason::CLOSED, "");
    case.expect("Degraded", "False", reason::AS_EXPECTED, "");
    case.absent("Reconciling");
    case.absent("Stalled");
    let status = case.first();
    assert_eq!(status.active_backend.as_deref(), Some("own"));
    assert_eq!(
        (status.replicas, status.ready_replicas),
        (Some(2), Some(2)),
        "the scaled kind only"
    );
    assert_eq!(status.endpoint.as_deref(), Some("http://assistant.default.svc/v1"));
    let selector = "inference-operator.dev/deployment=assistant,inference-operator.dev/tier=local";
    assert_eq!(status.selector.as_deref(), Some(selector));
}

#[test]
fn transition_times_are_kept_and_nothing_changed_means_the_same_status() {
    let mut case = Case::new();
    let first = case.first();
    assert_eq!(case.status(&first, "2027-01-01T00:00:00Z"), first);
    case.live.pods.clear();
    let second = case.status(&first, "2027-01-01T00:00:00Z");
    let at = |s: &InferenceDeploymentStatus, t: &str| {
        s.conditions
            .iter()
            .find(|c| c.type_ == t)
            .unwrap()
            .last_transition_time
            .clone()
    };
    assert_ne!(at(&second, "Ready"), at(&first, "Ready"));
    assert_eq!(at(&second, "CircuitClosed"), at(&first, "CircuitClosed"));
}

#[test]
fn a_new_spec_reconciles_until_every_replica_has_acted_on_it() {
    let mut case = Case::new();
    case.live.replicas[1].status.as_mut().unwrap().observed_generation = Some(2);
    case.expect("Reconciling", "True", reason::ROLLING_OUT, "assistant-local-1-b");
    case.expect("Ready", "True", reason::AVAILABLE, "");
    let mut rolling = Case::new();
    rolling.deployments[0].status.as_mut().unwrap().updated_replicas = Some(1);
    rolling.expect("Reconciling", "True", reason::ROLLING_OUT, "assistant-local");
    let mut switching = Case::new();
    switching.kept.push("assistant-remote".into());
    switching.expect("Reconciling", "True", reason::ROLLING_OUT, "assistant-remote stays");
}

/// Mark of the remote backend's endpoint.
fn target() -> String {
    marks::target(fixtures::both().spec.backends[1].remote.as_ref().unwrap())
}

#[test]
fn a_refused_key_names_backend_secret_and_key() {
    let mut case = Case::new();
    case.edit(|r| {
        let status = r.status.as_mut().unwrap();
        status.backends[1] =
            parse(json!({"name": "openai", "available": false, "reason": "Unauthorized", "message": "401"}));
        status.circuits = parse(
            json!([{"backend": "openai", "scope": "Credential", "state": "Open", "target": target(),
            "openedAt": "2026-01-01T00:00:00Z", "keyHash": "k", "lastError": "unauthorized",
            "message": "Incorrect API key provided"}]),
        );
    });
    case.expect(
        "CredentialsAccepted",
        "False",
        reason::UNAUTHORIZED,
        "key api-key of Secret openai",
    );
    case.expect(
        "CredentialsAccepted",
        "False",
        reason::UNAUTHORIZED,
        "Incorrect API key provided",
    );
    case.expect("CircuitClosed", "False", reason::OPEN, "openai");
    case.expect("Degraded", "True", reason::BACKEND_UNAVAILABLE, "openai");
    case.expect("Ready", "True", reason::AVAILABLE, "backend own");
}

#[test]
fn a_key_whose_account_has_no_quota_left_is_a_good_key() {
    let mut case = Case::new();
    for (kind, expected, words) in [
        (
            "budget_exceeded",
            reason::EXHAUSTED,
            "has no quota left for the account of backend openai (You exceeded your current quota): pay or raise it there",
        ),
        (
            "rate_limited",
            reason::UPSTREAM_RATE_LIMITED,
            "has nothing left of the day's quota for the account of backend openai (You exceeded your current quota): wait",
        ),
        ("forbidden", reason::FORBIDDEN, "key api-key of Secret openai"),
    ] {
        case.edit(|r| {
            r.status.as_mut().unwrap().circuits = parse(
                json!([{"backend": "openai", "scope": "Credential", "state": "Open", "target": target(),
                "openedAt": "2026-01-01T00:00:00Z", "keyHash": "k", "lastError": kind,
                "message": "You exceeded your current quota"}]),
            );
        });
        case.expect("CredentialsAccepted", "False", expected, words);
    }
}

#[test]
fn a_provider_that_limits_and_a_replica_that_turns_away_for_long_make_it_worse_and_not_unready() {
    let mut case = Case::new();
    case.live.replicas[2].status.as_mut().unwrap().saturated = true;
    case.expect("Degraded", "True", reason::SATURATED, "pod assistant-remote-1-c turns");
    let limited =
        json!({"name": "openai", "available": true, "reason": "UpstreamRateLimited", "message": "most with 429"});
    case.live.replicas[1].status.as_mut().unwrap().backends[1] = parse(limited);
    let words = "backend openai: most with 429";
    case.expect("Degraded", "True", reason::UPSTREAM_RATE_LIMITED, words);
    case.expect("Ready", "True", reason::AVAILABLE, "backend own");
    case.expect("BackendsAvailable", "True", reason::AVAILABLE, "");
    let mut loading = Case::new();
    loading.edit(|r| {
        let status = r.status.as_mut().unwrap();
        status.saturated = true;
        status.engine = parse(json!({"state": "Loading"}));
    });
    loading.expect("Degraded", "False", reason::AS_EXPECTED, "");
}

#[test]
fn a_missing_secret_is_credentials_missing_and_no_backend_is_not_ready() {
    let mut case = Case::new();
    case.edit(|r| {
        r.status.as_mut().unwrap().backends = parse(json!([
            {"name": "own", "available": false, "reason": "Loading"},
            {"name": "openai", "available": false, "reason": "CredentialsMissing", "message": "Secret openai has no key api-key"}]));
    });
    case.expect(
        "CredentialsAccepted",
        "False",
        reason::CREDENTIALS_MISSING,
        "Secret openai",
    );
    case.expect(
        "Ready",
        "False",
        reason::NO_BACKEND_AVAILABLE,
        "CredentialsMissing (Secret openai has no key api-key)",
    );
}

#[test]
fn unknown_never_counts_as_true() {
    let mut case = Case::new();
    case.edit(|r| r.status = None);
    case.expect("Ready", "Unknown", reason::PENDING, "");
    case.expect("BackendsAvailable", "Unknown", reason::PENDING, "");
    case.expect("CredentialsAccepted", "Unknown", reason::PENDING, "");
    case.expect("ModelLoaded", "Unknown", reason::PENDING, "");
}

#[test]
fn a_report_of_an_earlier_pod_of_the_same_name_does_not_count() {
    let mut case = Case::new();
    case.edit(|r| r.spec.pod_uid = "earlier".into());
    case.expect("Ready", "Unknown", reason::PENDING, "");
}

#[test]
fn the_engine_tells_why_no_pod_is_ready() {
    let mut case = Case::new();
    case.live.pods = vec![Arc::new(pod("assistant-local-1-a", "local", false))];
    for (state, reason) in [
        ("Loading", reason::LOADING),
        ("Restarting", reason::ENGINE_RESTARTING),
        ("Failed", reason::ENGINE_START_FAILED),
    ] {
        case.edit(|r| {
            r.status.as_mut().unwrap().engine = parse(json!({"state": state, "message": "what the engine said"}));
        });
        case.expect("ModelLoaded", "False", reason, "what the engine said");
        case.expect("Ready", "False", reason, "what the engine said");
    }
}

#[test]
fn a_download_is_told_in_quarters_and_its_failure_by_its_reason() {
    let mut case = Case::new();
    case.live.pods = vec![Arc::new(pod("assistant-local-1-a", "local", false))];
    let mut messages = std::collections::BTreeSet::new();
    for bytes in (0..1000).step_by(50) {
        case.edit(|r| {
            let engine = json!({"state": "Downloading", "download": {"bytes": bytes, "total": 1000}});
            r.status.as_mut().unwrap().engine = parse(engine);
        });
        case.expect("ModelLoaded", "False", reason::DOWNLOADING, "of 1000 bytes");
        messages.extend(
            case.first()
                .conditions
                .into_iter()
                .filter(|c| c.type_ == "ModelLoaded")
                .map(|c| c.message),
        );
    }
    assert_eq!(messages.len(), 4, "{messages:?}");
    case.edit(|r| {
        let status = r.status.as_mut().unwrap();
        status.engine = parse(json!({"state": "Failed", "message": "key token of Secret hf"}));
        status.backends = parse(json!([{"name": "own", "available": false, "reason": "DownloadUnauthorized"}]));
    });
    case.expect("ModelLoaded", "False", reason::DOWNLOAD_UNAUTHORIZED, "Secret hf");
    case.live.pods = vec![Arc::new(gave_up("DownloadNoSpace", ""))];
    case.edit(|r| r.status = None);
    case.expect("ModelLoaded", "False", reason::DOWNLOAD_NO_SPACE, "");
}

const UUID: &str = "GPU-00112233-4455-6677-8899-aabbccddeeff";

/// The first pod's runtime gave up because of a GPU; its process ended.
fn gave_up(reason: &str, uid: &str) -> Pod {
    let message = json!({"reason": reason, "message": "cuInit failed with 999", "rebuilds": 0,
        "error": {"kind": "cuda_context_poisoned", "message": "m"}, "devices": [{"uuid": UUID, "xid": 79}]});
    let mut pod = serde_json::to_value(pod("assistant-local-1-a", "local", false)).unwrap();
    pod["metadata"]["uid"] = json!(uid);
    pod["spec"] = json!({"nodeName": "node-1", "containers": []});
    pod["status"]["containerStatuses"] = json!([{"name": "engine", "image": "i", "imageID": "", "ready": false, "restartCount": 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 85, "message": message.to_string(), "finishedAt": "2026-01-01T00:00:00Z"}}}]);
    parse(pod)
}

#[test]
fn a_poisoned_context_is_told_while_the_engine_is_rebuilt() {
    let mut case = Case::new();
    let gpu = |fault: Value| parse(json!({"devices": [{"uuid": UUID}], "fault": fault}));
    case.edit(|r| r.status.as_mut().unwrap().gpu = gpu(Value::Null));
    case.expect("GPUHealthy", "True", reason::AS_EXPECTED, "");
    case.edit(|r| {
        r.status.as_mut().unwrap().gpu = gpu(
            json!({"reason": "ContextPoisoned", "message": "CUDA error: 700", "suspects": [{"uuid": UUID, "xid": 31}]}),
        );
    });
    let words = format!("pod assistant-local-1-a on node unknown, GPU {UUID} (Xid 31): CUDA error: 700");
    case.expect("GPUHealthy", "False", reason::CONTEXT_POISONED, &words);
}

#[test]
fn a_container_without_a_driver_is_told_though_its_engine_serves() {
    let mut case = Case::new();
    case.edit(|r| {
        r.status.as_mut().unwrap().gpu = parse(json!({"unavailable": "libcuda.so.1: cannot open shared object file"}));
    });
    let words = "pod assistant-local-1-a on node unknown: its container has no driver (libcuda.so.1: cannot open shared object file), so";
    case.expect("GPUHealthy", "False", reason::GPU_UNAVAILABLE, words);
}

#[test]
fn a_deployment_without_gpus_has_no_word_on_them() {
    let mut case = Case::new();
    let local = case.spec.backends.iter_mut().find_map(|b| b.local.as_mut()).unwrap();
    local.gpus = None;
    case.absent("GPUHealthy");
}

#[test]
fn a_device_that_the_kubelet_calls_unhealthy_is_told_though_its_engine_serves() {
    let mut case = Case::new();
    let allocated = |name: &str, health: &str| json!([{"name": name, "resources": [{"resourceID": "GPU-good", "health": "Healthy"}, {"resourceID": UUID, "health": health}]}]);
    for (name, health, status) in [
        ("nvidia.com/gpu", "Healthy", "True"),
        ("nvidia.com/gpu", "Unhealthy", "False"),
        ("example.com/nic", "Unhealthy", "True"),
        ("nvidia.com/gpu", "Unknown", "True"),
    ] {
        let mut pod = serde_json::to_value(&*case.live.pods[0]).unwrap();
        pod["spec"] = json!({"nodeName": "node-1", "containers": []});
        pod["status"]["containerStatuses"] = json!([{"name": "engine", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
            "allocatedResourcesStatus": allocated(name, health)}]);
        case.live.pods[0] = Arc::new(parse(pod));
        let (reason, words) = if status == "True" {
            (reason::AS_EXPECTED, String::new())
        } else {
            (
                reason::GPU_FAULTY,
                format!("on node node-1: the kubelet calls device {UUID} unhealthy"),
            )
        };
        case.expect("GPUHealthy", status, reason, &words);
    }
    assert!(case.first().gpus.is_empty(), "nothing is replaced for it");
}

#[test]
fn a_runtime_that_gave_up_leaves_device_xid_and_node_behind() {
    let mut case = Case::new();
    for (verdict, reason) in [
        ("GPUFaulty", reason::GPU_FAULTY),
        ("ContextPoisoned", reason::CONTEXT_POISONED),
    ] {
        case.live.pods[0] = Arc::new(gave_up(verdict, "assistant-local-1-a"));
        let words = format!("on node node-1, GPU {UUID} (Xid 79): cuInit failed with 999");
        case.expect("GPUHealthy", "False", reason, &words);
        case.expect("Degraded", "True", reason, "");
        case.absent("Stalled");
    }
    let row = &case.first().gpus[0];
    assert_eq!(
        (row.device.as_str(), row.node.as_str(), row.xid),
        (UUID, "node-1", Some(79))
    );
    assert_eq!(row.replaced[0].pod_uid, "assistant-local-1-a");
}

#[test]
fn the_fourth_pod_on_a_device_stalls_the_deployment() {
    let mut case = Case::new();
    let mut status = InferenceDeploymentStatus::default();
    for (pod, minute) in [("p1", 0), ("p2", 9), ("p3", 18), ("p4", 27)] {
        case.live.pods[0] = Arc::new(gave_up("GPUFaulty", pod));
        status = case.status(&status, &format!("2026-01-01T00:{minute:02}:00Z"));
        let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled");
        assert_eq!(stalled.is_some(), pod == "p4", "{pod}");
    }
    let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled").unwrap();
    assert_eq!(stalled.reason, reason::GPU_FAULTY);
    for words in [
        UUID,
        "(Xid 79)",
        "node-1",
        "3 pods were replaced within 30 minutes",
        "Pod assistant-local-1-a stays",
    ] {
        assert!(
            stalled.message.contains(words),
            "{words} is missing in {}",
            stalled.message
        );
    }
    let later = case.status(&status, "2026-01-03T00:00:00Z");
    assert!(
        later.conditions.iter().any(|c| c.type_ == "Stalled"),
        "until the pod is deleted"
    );
    let mut evicted = Case::new();
    evicted.live.pods[0] = Arc::new(dead((*case.live.pods[0]).clone(), "Evicted"));
    let given_back = evicted.status(&later, "2026-01-03T00:00:30Z");
    assert!(
        !given_back.conditions.iter().any(|c| c.type_ == "Stalled") && given_back.gpus.is_empty(),
        "a pod that ended keeps no GPU"
    );
    case.live.pods.remove(0);
    let deleted = case.status(&later, "2026-01-03T00:01:00Z");
    assert!(!deleted.conditions.iter().any(|c| c.type_ == "Stalled") && deleted.gpus.is_empty());
}

/// What the kubelet leaves of a pod that it ended.
fn dead(mut pod: Pod, reason: &str) -> Pod {
    let status = pod.status.as_mut().unwrap();
    status.phase = Some("Failed".into());
    status.reason = Some(reason.into());
    status.message = Some("The node was low on resource: memory.".into());
    pod
}

#[test]
fn replicas_0_is_scaled_to_zero() {
    let mut case = Case::new();
    case.spec.replicas = Some(0);
    case.spec.spill = None;
    case.live = Live::default();
    case.expect("Ready", "False", reason::SCALED_TO_ZERO, "spec.replicas is 0");
    case.expect("Scheduled", "True", reason::SCALED_TO_ZERO, "");
}

/// The local pods are not rolled out within their deadline.
fn late() -> Case {
    let mut case = Case::new();
    told_by(&mut case.deployments[0])[0].reason = Some("ProgressDeadlineExceeded".into());
    case
}

/// What a workload's own controller says of it.
fn told_by(workload: &mut Deployment) -> &mut Vec<DeploymentCondition> {
    let status = workload.status.as_mut().unwrap();
    status.conditions.get_or_insert_default()
}

#[test]
fn stalled_is_told_without_taking_back_what_still_works() {
    let mut case = Case::new();
    case.problem = Some(Problem {
        reason: reason::NAME_CONFLICT,
        message: "Service assistant exists".into(),
    });
    case.expect("Stalled", "True", reason::NAME_CONFLICT, "Service assistant");
    case.expect("Ready", "True", reason::AVAILABLE, "");
    case.absent("Reconciling");
    let late = late();
    late.expect("Stalled", "True", reason::PROGRESS_DEADLINE_EXCEEDED, "assistant-local");
    late.absent("Reconciling");
}

#[test]
fn an_object_that_cannot_be_read_is_stalled_and_ready_is_unknown_and_the_rest_is_sent_again() {
    let ready = json!({"type": "Ready", "status": "True", "reason": "Available", "message": "", "lastTransitionTime": "2025-01-01T00:00:00Z"});
    let newer = json!({"type": "Newer", "shape": {"of": "a condition"}});
    let old = json!({"replicas": 2, "selector": "a=b", "later": {"x": [1]}, "observedGeneration": 6,
        "budget": {}, "circuits": [], "gpus": [], "conditions": [ready, {"type": "Reconciling"}, newer]});
    let now = |text: &str| Time(text.parse().unwrap());
    let undecodable = |old: &Value, text: &str| undecodable(old, 7, "missing field `backends`", &now(text)).unwrap();
    let mut new = undecodable(&old, "2026-01-01T00:00:00Z");
    assert_eq!(
        undecodable(&new, "2026-01-02T00:00:00Z"),
        new,
        "the times are those of the changes"
    );
    let conditions = new.as_object_mut().unwrap().remove("conditions").unwrap();
    assert_eq!(
        new,
        json!({"replicas": 2, "selector": "a=b", "later": {"x": [1]}, "observedGeneration": 7})
    );
    let told: Vec<_> = (0..2)
        .map(|i| (&conditions[i]["type"], &conditions[i]["status"]))
        .collect();
    assert_eq!(
        told,
        [
            (&json!("Ready"), &json!("Unknown")),
            (&json!("Stalled"), &json!("True"))
        ]
    );
    assert!(
        conditions[1]["message"]
            .as_str()
            .unwrap()
            .contains("missing field `backends`")
    );
    assert_eq!(conditions.as_array().unwrap()[2..], [newer]);
    assert!(undecodable(&Value::Null, "2026-01-01T00:00:00Z")["conditions"][1].is_object());
}

#[test]
fn the_status_has_no_budget_for_server_side_apply_to_touch() {
    let body = body(
        &fixtures::subject(),
        None,
        &serde_json::to_value(Case::new().first()).unwrap(),
    );
    assert_eq!(body.pointer("/status/budget"), None);
    assert_eq!(body.pointer("/metadata/uid"), Some(&json!("u-1")));
}

#[test]
fn a_pod_that_follows_is_no_replica_and_its_troubles_are_told() {
    let mut case = Case::new();
    case.spec.backends[0].local.as_mut().unwrap().nodes = Some(2);
    let mut follower = pod("assistant-nodes-0-1", "follower", false);
    let owner = &mut follower.metadata.owner_references.as_mut().unwrap()[0];
    (owner.kind, owner.name) = ("StatefulSet".into(), "assistant-nodes-0".into());
    follower.status.as_mut().unwrap().container_statuses = parse(json!([{
        "name": "engine", "image": "i", "imageID": "i", "ready": true, "restartCount": 0,
        "allocatedResourcesStatus": [{"name": "nvidia.com/gpu", "resources": [{"resourceID": "GPU-far", "health": "Unhealthy"}]}],
    }]));
    case.live.pods.push(Arc::new(follower.clone()));
    case.expect("Ready", "True", "Available", "3 of 3 replicas");
    case.expect(
        "GPUHealthy",
        "False",
        "GPUFaulty",
        "pod assistant-nodes-0-1 on node unknown: the kubelet calls device GPU-far",
    );

    follower.status = parse(json!({"conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient nvidia.com/gpu."}]}));
    *case.live.pods.last_mut().unwrap() = Arc::new(follower);
    case.expect(
        "Scheduled",
        "False",
        "Unschedulable",
        "no node fits pod assistant-nodes-0-1",
    );
}

mod budget;
mod idle;
mod pods;
