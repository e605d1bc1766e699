use super::*;

fn pod(name: &str) -> Pod {
    let file = format!(
        "{}/src/controller/pods/recorded/{name}.yaml",
        env!("CARGO_MANIFEST_DIR")
    );
    serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn check(name: &str, reason: &str, words: &[&str]) {
    let failure = classify(&pod(name)).unwrap_or_else(|| panic!("{name} is a failure"));
    assert_eq!(failure.reason, reason, "{name}: {}", failure.message);
    for word in words {
        assert!(
            failure.message.contains(word),
            "{name}: {word} is missing in {:?}",
            failure.message
        );
    }
}

#[test]
fn every_recorded_failure_has_its_reason_and_says_what_to_do() {
    check(
        "image-pull",
        reason::IMAGE_PULL_FAILED,
        &["localhost/inference-runtime:1", "imagePullSecrets"],
    );
    check(
        "config-error",
        reason::CONTAINER_CONFIG_ERROR,
        &["engine", "secret \"nothere\" not found"],
    );
    check(
        "init-failed",
        reason::INIT_FAILED,
        &["exit code 1", "no space left on device"],
    );
    check(
        "init-no-binary",
        reason::INIT_FAILED,
        &["/inference-runtime", "spec.runtimeImage"],
    );
    check(
        "engine-start-failed",
        reason::ENGINE_START_FAILED,
        &["error loading model: invalid magic"],
    );
    check(
        "oom-killed",
        reason::OOM_KILLED,
        &["engine", "32Mi", "resources.limits.memory"],
    );
    check(
        "crash-loop",
        reason::CRASH_LOOP,
        &["exit code 3", "unknown argument --foo"],
    );
    check("liveness", reason::PROBE_FAILED, &["/livez"]);
    check("unschedulable", reason::UNSCHEDULABLE, &["Insufficient nvidia.com/gpu"]);
    check("evicted", reason::EVICTED, &["EmptyDir volume", "evicted"]);
}

#[test]
fn how_a_pod_ended_that_the_kubelet_ended_is_no_fault_of_its_containers() {
    let mut shut_down = pod("liveness");
    shut_down.status.as_mut().unwrap().phase = Some("Failed".into());
    assert_eq!(classify(&shut_down), None);
}

#[test]
fn the_words_of_a_back_off_do_not_change_the_message() {
    let backing_off = pod("image-pull");
    let mut failing = backing_off.clone();
    let init = failing
        .status
        .as_mut()
        .unwrap()
        .init_container_statuses
        .as_mut()
        .unwrap();
    let waiting = init[0].state.as_mut().unwrap().waiting.as_mut().unwrap();
    waiting.reason = Some("ErrImagePull".into());
    let (_, cause) = waiting
        .message
        .as_deref()
        .unwrap()
        .split_once("ErrImagePull: ")
        .unwrap();
    waiting.message = Some(cause.to_owned());
    assert_eq!(classify(&failing), classify(&backing_off));
}

#[test]
fn what_the_user_must_mend_is_told_first() {
    let pods = [pod("unschedulable"), pod("crash-loop"), pod("image-pull")];
    assert_eq!(gravest(pods.iter()).unwrap().reason, reason::IMAGE_PULL_FAILED);
}

#[test]
fn a_ready_pod_and_one_that_goes_are_no_failures() {
    let mut ready = pod("oom-killed");
    for condition in ready.status.as_mut().unwrap().conditions.as_mut().unwrap() {
        condition.status = "True".into();
    }
    assert_eq!(classify(&ready), None);
    let mut once = pod("crash-loop");
    let container = &mut once.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0];
    container.restart_count = 1;
    container.state = serde_json::from_value(serde_json::json!({"running": {}})).unwrap();
    assert_eq!(classify(&once), None, "one restart is no loop");
}
