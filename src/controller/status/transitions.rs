//! Which changes of a status are worth an Event: transitions only, and one Warning a cause. Those of circuits are told when they are
//! recorded, see [`super::circuit_transitions`].

use crate::api::{InferenceDeploymentSpec, InferenceDeploymentStatus, conditions as types, conditions::reason};

/// A change that people should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// True for trouble, false for its end.
    pub warning: bool,
    /// Reason of the condition: the event's reason.
    pub reason: String,
    /// Type of the condition: the event's action.
    pub condition: String,
    /// Message of the condition.
    pub message: String,
}

/// Conditions whose changes are events, the most precise first: of several with one reason the first speaks.
const TOLD: [&str; 8] = [
    types::STALLED,
    types::GPU_HEALTHY,
    types::CREDENTIALS_ACCEPTED,
    types::WITHIN_BUDGET,
    types::MODEL_LOADED,
    types::READY,
    types::BACKENDS_AVAILABLE,
    types::DEGRADED,
];
/// Conditions that follow from others: no Warning while one of their causes is bad, which has been told.
const CONSEQUENCES: [&str; 3] = [types::READY, types::BACKENDS_AVAILABLE, types::DEGRADED];
const CAUSES: [&str; 6] = [
    types::STALLED,
    types::GPU_HEALTHY,
    types::CREDENTIALS_ACCEPTED,
    types::CIRCUIT_CLOSED,
    types::WITHIN_BUDGET,
    types::MODEL_LOADED,
];
/// What every deployment passes through is no event.
const QUIET: [&str; 8] = [
    reason::DOWNLOADING,
    reason::PENDING,
    reason::LOADING,
    reason::ROLLING_OUT,
    reason::NO_READY_REPLICAS,
    reason::AS_EXPECTED,
    // Told when it is done: the status may be written too late to show it.
    reason::SCALED_TO_ZERO,
    reason::WAKING,
];
/// What is False because it was asked for is no cause of trouble.
const INTENDED: [&str; 2] = [reason::SCALED_TO_ZERO, reason::WAKING];

/// The transitions from `old` to `new`.
pub fn transitions(old: &InferenceDeploymentStatus, new: &InferenceDeploymentStatus) -> Vec<Transition> {
    let mut all: Vec<Transition> = Vec::new();
    for transition in TOLD.iter().filter_map(|type_| transition(type_, old, new)) {
        let told = all.iter().any(|t| t.reason == transition.reason);
        let follows = transition.warning && follows(&transition.condition, new);
        if !told && !follows {
            all.push(transition);
        }
    }
    all
}

/// That `scaleToZero` let local pods go, or brought them back: `before` and `now` are how many were
/// and are wanted, `idle` says that nobody asks for them.
pub fn scaled(spec: &InferenceDeploymentSpec, idle: bool, before: Option<i32>, now: i32) -> Option<Transition> {
    let terms = spec.scale_to_zero.as_ref().filter(|_| spec.replicas() > 0)?;
    let (reason, message) = match (before?, now) {
        (0, 1..) => (
            reason::WAKING,
            format!("requests ask for the model: {now} local pods come back"),
        ),
        (1.., 0) if idle => (
            reason::SCALED_TO_ZERO,
            format!(
                "there was no request for {}: the local pods are let go until the next one",
                terms.idle_after
            ),
        ),
        _ => return None,
    };
    Some(Transition {
        warning: false,
        reason: reason.to_owned(),
        condition: types::MODEL_LOADED.to_owned(),
        message,
    })
}

/// True when another condition that is bad now is the cause.
fn follows(type_: &str, new: &InferenceDeploymentStatus) -> bool {
    let bad = |c: &str| {
        let condition = new.conditions.iter().find(|n| n.type_ == c);
        let trouble = condition.filter(|n| !INTENDED.contains(&n.reason.as_str()));
        trouble.is_some_and(|n| is_good(&n.type_, &n.status) == Some(false))
    };
    CONSEQUENCES.contains(&type_) && CAUSES.iter().any(|c| bad(c))
}

fn transition(type_: &str, old: &InferenceDeploymentStatus, new: &InferenceDeploymentStatus) -> Option<Transition> {
    let find = |status: &InferenceDeploymentStatus| status.conditions.iter().find(|c| c.type_ == type_).cloned();
    let (before, now) = (find(old), find(new)?);
    let same = before
        .as_ref()
        .is_some_and(|b| (&b.status, &b.reason) == (&now.status, &now.reason));
    let good = is_good(type_, &now.status);
    // The first good word of a condition is no news, except that the endpoint is there at all.
    let first = good == Some(true) && before.as_ref().is_none_or(|b| is_good(type_, &b.status).is_none());
    if same || good.is_none() || QUIET.contains(&now.reason.as_str()) || (first && type_ != types::READY) {
        return None;
    }
    Some(Transition {
        warning: good == Some(false),
        reason: now.reason,
        condition: now.type_,
        message: now.message,
    })
}

/// `None` for Unknown.
fn is_good(type_: &str, status: &str) -> Option<bool> {
    let bad_when_true = matches!(type_, types::STALLED | types::DEGRADED);
    match status {
        "True" => Some(!bad_when_true),
        "False" => Some(bad_when_true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use serde_json::json;

    use super::*;

    fn status(conditions: &[(&str, &str, &str)]) -> InferenceDeploymentStatus {
        let conditions = conditions.iter().map(|(type_, status, reason)| Condition {
            type_: (*type_).into(),
            status: (*status).into(),
            reason: (*reason).into(),
            message: "m".into(),
            observed_generation: None,
            last_transition_time: Time("2026-01-01T00:00:00Z".parse().unwrap()),
        });
        InferenceDeploymentStatus {
            conditions: conditions.collect(),
            ..InferenceDeploymentStatus::default()
        }
    }

    #[test]
    fn one_cause_is_one_warning() {
        let good = status(&[
            ("Ready", "True", "Available"),
            ("CredentialsAccepted", "True", "Accepted"),
            ("CircuitClosed", "True", "Closed"),
        ]);
        let bad = status(&[
            ("Ready", "False", "NoBackendAvailable"),
            ("BackendsAvailable", "False", "NoBackendAvailable"),
            ("Degraded", "True", "BackendUnavailable"),
            ("CredentialsAccepted", "False", "Unauthorized"),
            ("CircuitClosed", "False", "Open"),
        ]);
        let told = transitions(&good, &bad);
        assert_eq!(told.len(), 1);
        assert_eq!(
            (told[0].warning, told[0].condition.as_str()),
            (true, "CredentialsAccepted")
        );
        assert!(transitions(&bad, &bad).is_empty());
        let back = transitions(&bad, &good);
        assert!(back.iter().all(|t| !t.warning) && back.len() == 2, "{back:?}");
    }

    #[test]
    fn pods_that_go_and_come_back_are_one_event_each_and_excuse_nothing() {
        let spec = |replicas: i32| -> InferenceDeploymentSpec {
            let spec = json!({"replicas": replicas, "backends": [], "scaleToZero": {"idleAfter": "10m"}});
            serde_json::from_value(spec).unwrap()
        };
        let told = |before, now| scaled(&spec(2), now == 0, before, now).map(|t| (t.warning, t.reason));
        assert_eq!(told(Some(2), 0), Some((false, "ScaledToZero".into())));
        assert_eq!(told(Some(0), 2), Some((false, "Waking".into())));
        for (before, now) in [(None, 2), (Some(0), 0), (Some(2), 2), (Some(2), 3)] {
            assert_eq!(told(before, now), None);
        }
        assert_eq!(scaled(&spec(0), false, Some(2), 0), None, "switched off by hand");
        assert_eq!(
            scaled(&spec(2), false, Some(2), 0),
            None,
            "by the budget, which tells it itself"
        );
        let away = status(&[
            ("Ready", "True", "ScaledToZero"),
            ("ModelLoaded", "False", "ScaledToZero"),
        ]);
        let waking = status(&[("Ready", "True", "Waking"), ("ModelLoaded", "False", "Waking")]);
        let gone = status(&[
            ("Ready", "False", "CrashLoop"),
            ("ModelLoaded", "False", "ScaledToZero"),
        ]);
        let up = status(&[("Ready", "True", "Available"), ("ModelLoaded", "True", "Loaded")]);
        assert_eq!(transitions(&up, &away), []);
        assert_eq!(transitions(&away, &waking), []);
        assert_eq!(transitions(&away, &gone).len(), 1);
    }

    #[test]
    fn a_new_deployment_that_starts_as_expected_is_told_once() {
        let new = status(&[("Ready", "False", "Pending"), ("Degraded", "False", "AsExpected")]);
        assert!(transitions(&InferenceDeploymentStatus::default(), &new).is_empty());
        let ready = status(&[
            ("Ready", "True", "Available"),
            ("BackendsAvailable", "True", "Available"),
            ("CredentialsAccepted", "True", "Accepted"),
        ]);
        assert_eq!(transitions(&new, &ready).len(), 1);
    }
}
