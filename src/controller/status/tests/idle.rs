//! What is said while local pods are away because of `scaleToZero`, and while they come back.

use super::{
    pods::{left_behind, refuse},
    *,
};

/// With `scaleToZero`, and no pod but the GPU-less one, which takes requests for the local backend alone.
fn away(wanted: bool) -> Case {
    let mut case = Case::new();
    case.spec.scale_to_zero = Some(parse(json!({"idleAfter": "10m"})));
    case.spec.backends.truncate(1);
    case.live
        .pods
        .retain(|pod| pod.metadata.name.as_deref() == Some("assistant-remote-1-c"));
    case.live.replicas.drain(..2);
    case.edit(|replica| {
        let status = replica.status.as_mut().unwrap();
        status.wanted = Some(wanted);
        status.backends.truncate(1);
        (status.backends[0].available, status.backends[0].reason) = (false, reason::PENDING.into());
    });
    let mut none = deployments().remove(0);
    none.spec.replicas = Some(0);
    none.metadata.annotations = Some([(names::ANNOTATION_IDLE.to_owned(), "true".to_owned())].into());
    none.status = Some(parse(json!({"observedGeneration": 1})));
    case.deployments[0] = none.clone();
    case.live.workloads = vec![Arc::new(none)];
    case
}

fn find<'a>(status: &'a InferenceDeploymentStatus, type_: &str) -> (&'a str, &'a str) {
    let condition = status.conditions.iter().find(|c| c.type_ == type_);
    condition.map_or(("", ""), |c| (c.status.as_str(), c.reason.as_str()))
}

const LATER: &str = "2026-01-02T00:00:00Z";

#[test]
fn what_is_away_takes_requests_and_says_why_no_model_is_loaded() {
    let case = away(false);
    case.expect("Ready", "True", reason::SCALED_TO_ZERO, "no request for 10m");
    case.expect("BackendsAvailable", "True", reason::SCALED_TO_ZERO, "held");
    case.expect(
        "ModelLoaded",
        "False",
        reason::SCALED_TO_ZERO,
        "away until the next one",
    );
    case.expect("Scheduled", "True", reason::AS_EXPECTED, "");
    case.expect("Degraded", "False", reason::AS_EXPECTED, "");
    case.absent("Reconciling");
    let status = case.first();
    assert_eq!(
        (status.replicas, status.ready_replicas, status.active_backend.as_deref()),
        (Some(0), Some(0), Some("own"))
    );
}

#[test]
fn what_comes_back_goes_on_taking_requests_until_it_fails() {
    let before = away(false).first();
    let mut waking = away(true);
    let status = waking.status(&before, LATER);
    assert_eq!(find(&status, "Ready"), ("True", reason::WAKING));
    assert_eq!(find(&status, "ModelLoaded"), ("False", reason::WAKING));
    let starting = pod("assistant-local-2-a", "local", false);
    waking.live.pods.push(Arc::new(starting.clone()));
    let status = waking.status(&status, LATER);
    assert_eq!(find(&status, "Ready"), ("True", reason::WAKING));
    let mut broken = starting;
    let crash = json!({"containerStatuses": [{"name": "engine", "image": "i", "imageID": "", "ready": false, "restartCount": 3,
        "state": {"terminated": {"exitCode": 1}}}]});
    broken.status = Some(parse(crash));
    waking.live.pods.pop();
    waking.live.pods.push(Arc::new(broken));
    let status = waking.status(&status, LATER);
    assert_eq!(find(&status, "Ready").0, "False", "nobody is answered");
    assert_eq!(find(&status, "ModelLoaded"), ("False", reason::CRASH_LOOP));
    let status = waking.status(&status, LATER);
    assert_eq!(find(&status, "Ready").0, "False", "and it stays so");
}

#[test]
fn what_does_not_come_back_in_time_takes_no_requests_and_needs_help() {
    let mut waking = away(true);
    let before = waking.status(&away(false).first(), LATER);
    let mut starting = pod("assistant-local-2-a", "local", false);
    starting.metadata.creation_timestamp = Some(Time(LATER.parse().unwrap()));
    waking.live.pods.push(Arc::new(starting));
    let at_the_end = waking.status(&before, "2026-01-02T00:31:00Z");
    assert_eq!(find(&at_the_end, "Ready"), ("True", reason::WAKING));
    assert_eq!(find(&at_the_end, "Stalled"), ("", ""));
    let late = waking.status(&at_the_end, "2026-01-02T00:31:01Z");
    assert_eq!(find(&late, "Ready").0, "False");
    assert_eq!(find(&late, "Stalled"), ("True", reason::PROGRESS_DEADLINE_EXCEEDED));
}

/// The dead pod is older than any that comes back may become.
#[test]
fn a_pod_that_ended_earlier_keeps_nobody_from_waking() {
    let mut waking = away(true);
    waking.live.pods.push(Arc::new(left_behind("Evicted")));
    let before = waking.status(&away(false).first(), LATER);
    let mut starting = pod("assistant-local-2-a", "local", false);
    starting.metadata.creation_timestamp = Some(Time(LATER.parse().unwrap()));
    waking.live.pods.push(Arc::new(starting));
    for status in [&before, &waking.status(&before, "2026-01-02T00:10:00Z")] {
        assert_eq!(find(status, "Ready"), ("True", reason::WAKING));
        assert_eq!(find(status, "ModelLoaded"), ("False", reason::WAKING));
        assert_eq!(find(status, "Degraded").0, "False");
        assert_eq!(find(status, "Stalled"), ("", ""));
    }
}

#[test]
fn what_may_not_be_created_does_not_come_back() {
    let mut waking = away(true);
    let before = waking.status(&away(false).first(), LATER);
    assert_eq!(find(&before, "Ready"), ("True", reason::WAKING));
    refuse(&mut waking.deployments[0]);
    let refused = waking.status(&before, LATER);
    assert_eq!(find(&refused, "Ready").0, "False", "nobody is answered");
    assert_eq!(find(&refused, "ModelLoaded"), ("False", reason::PODS_REFUSED));
    assert_eq!(find(&refused, "Degraded"), ("True", reason::PODS_REFUSED));
}

#[test]
fn an_engine_that_gave_up_takes_no_requests() {
    let mut waking = away(true);
    let before = waking.status(&away(false).first(), LATER);
    waking
        .live
        .pods
        .push(Arc::new(pod("assistant-local-2-a", "local", false)));
    let mut report = replica("assistant-local-2-a", "local");
    report.status.as_mut().unwrap().engine.as_mut().unwrap().state = crate::api::EngineState::Failed;
    waking.live.replicas.push(report);
    let status = waking.status(&before, LATER);
    assert_eq!(find(&status, "Ready").0, "False");
}

#[test]
fn what_never_was_there_is_not_ready() {
    let new = away(true).first();
    assert_eq!(find(&new, "Ready"), ("False", reason::PENDING));
    assert_eq!(find(&new, "ModelLoaded"), ("Unknown", reason::PENDING));
}

#[test]
fn what_is_switched_off_does_not_wake() {
    let mut off = away(true);
    off.spec.replicas = Some(0);
    let before = away(false).first();
    let status = off.status(&before, LATER);
    assert_eq!(find(&status, "Ready").0, "False");
    assert_eq!(find(&status, "ModelLoaded"), ("False", reason::SCALED_TO_ZERO));
}

#[test]
fn another_backend_that_answers_comes_first() {
    let mut case = away(false);
    case.spec.backends = fixtures::both().spec.backends;
    case.edit(|replica| {
        let status = replica.status.as_mut().unwrap();
        status.backends.push(parse(
            json!({"name": "openai", "available": true, "reason": "Available"}),
        ));
    });
    case.expect("Ready", "True", reason::AVAILABLE, "backend openai answers first");
    case.expect("ModelLoaded", "False", reason::SCALED_TO_ZERO, "");
}
