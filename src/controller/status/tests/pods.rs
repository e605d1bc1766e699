//! What is said of pods that ended, and of those that may not be created.

use super::*;

/// Dead for a long time, after its containers ended with exit code 143; its own ReplicaSet leaves it where it is.
pub fn left_behind(reason: &str) -> Pod {
    let mut left = pod("assistant-local-1-0", "local", false);
    left.metadata.creation_timestamp = Some(Time("2025-01-01T00:00:00Z".parse().unwrap()));
    left.status.as_mut().unwrap().container_statuses =
        parse(json!([{"name": "engine", "image": "i", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"terminated": {"exitCode": 143}}}]));
    dead(left, reason)
}

#[test]
fn a_pod_that_ended_and_was_replaced_is_told_nowhere() {
    let well = Case::new();
    for reason in ["Evicted", "Terminated"] {
        let mut case = Case::new();
        case.live.pods.insert(0, Arc::new(left_behind(reason)));
        assert_eq!(case.first(), well.first(), "{reason}");
        case.live.pods.truncate(1);
        case.live.replicas.clear();
        case.expect("Ready", "False", reason::PENDING, "being created");
        case.expect("Scheduled", "Unknown", reason::PENDING, "0 of 3 pods");
        case.expect("Degraded", "False", reason::AS_EXPECTED, "");
    }
}

#[test]
fn a_rollout_that_stands_still_names_the_eviction_of_its_pods() {
    let mut case = late();
    case.live.pods[0] = Arc::new(pod("assistant-local-1-a", "local", false));
    let (mut evicted, words) = (left_behind("Evicted"), "made no progress within its deadline: ");
    case.live.pods.push(Arc::new(evicted.clone()));
    let unknown = format!("{words}see the conditions");
    case.expect("Stalled", "True", reason::PROGRESS_DEADLINE_EXCEEDED, &unknown);
    evicted.metadata.creation_timestamp = Some(Time("2025-12-31T23:00:00Z".parse().unwrap()));
    case.live.pods.push(Arc::new(evicted));
    let known = format!("{words}the kubelet evicted pod assistant-local-1-0");
    case.expect("Stalled", "True", reason::PROGRESS_DEADLINE_EXCEEDED, &known);
}

const OVER_QUOTA: &str =
    "pods \"assistant-local-1-c\" is forbidden: exceeded quota: team, requested: pods=1, used: pods=2, limited: pods=2";

/// A namespace whose quota is used up, as a Deployment tells of it.
pub fn refuse(workload: &mut Deployment) {
    told_by(workload).push(parse(
        json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": OVER_QUOTA}),
    ));
}

#[test]
fn pods_that_may_not_be_created_are_told_with_the_api_servers_words() {
    let mut case = late();
    refuse(&mut case.deployments[0]);
    let words = format!("pods of assistant-local cannot be created: {OVER_QUOTA}. Mend");
    case.expect("Stalled", "True", reason::PROGRESS_DEADLINE_EXCEEDED, &words);
    case.expect("Degraded", "True", reason::PODS_REFUSED, &words);
    case.expect("Ready", "True", reason::AVAILABLE, "");
    case.expect("ModelLoaded", "True", reason::LOADED, "");
    case.live = Live::default();
    case.expect("Ready", "False", reason::PODS_REFUSED, &words);
    case.expect("ModelLoaded", "False", reason::PODS_REFUSED, &words);
    let over = told_by(&mut case.deployments[0]);
    over[1].reason = Some("FailedDelete".into());
    case.expect("Ready", "False", reason::PENDING, "being created");
}

#[test]
fn what_is_wrong_with_pods_that_there_are_goes_before_those_that_may_not_be_created() {
    let mut case = Case::new();
    refuse(&mut case.deployments[1]);
    case.live.pods = vec![Arc::new(gave_up("DownloadNoSpace", "p"))];
    case.expect("Ready", "False", reason::DOWNLOAD_NO_SPACE, "");
    case.expect("Degraded", "True", reason::DOWNLOAD_NO_SPACE, "");
}
