//! Which changes of a status are worth an Event: transitions only, and one Warning a cause. Those of circuits are told when they are
//! recorded, see [`super::circuit_transitions`].

use crate::api::{InferenceDeploymentStatus, conditions as types, conditions::reason};

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
const QUIET: [&str; 6] = [
    reason::DOWNLOADING,
    reason::PENDING,
    reason::LOADING,
    reason::ROLLING_OUT,
    reason::NO_READY_REPLICAS,
    reason::AS_EXPECTED,
];
/// What is False because it was asked for is news and no trouble, nor the cause of any.
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
        warning: good == Some(false) && !INTENDED.contains(&now.reason.as_str()),
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
    fn pods_that_go_and_come_back_are_one_event_each_and_no_warning() {
        let model = |status_: &'static str, reason| ("ModelLoaded", status_, reason);
        let up = status(&[("Ready", "True", "Available"), model("True", "Loaded")]);
        let away = status(&[("Ready", "True", "ScaledToZero"), model("False", "ScaledToZero")]);
        let waking = status(&[("Ready", "True", "Waking"), model("False", "Waking")]);
        let loading = status(&[("Ready", "True", "Waking"), model("False", "Loading")]);
        let told = |old, new| {
            let all = transitions(old, new).into_iter();
            all.map(|t| (t.warning, t.reason)).collect::<Vec<_>>()
        };
        let news = |reason: &str| (false, reason.to_owned());
        assert_eq!(told(&up, &away), [news("ScaledToZero")]);
        assert_eq!(told(&away, &waking), [news("Waking")]);
        assert_eq!(told(&waking, &loading), []);
        assert_eq!(told(&loading, &up), [news("Loaded"), news("Available")]);
        let gone = status(&[("Ready", "False", "CrashLoop"), model("False", "ScaledToZero")]);
        assert_eq!(
            told(&away, &gone),
            [(true, "CrashLoop".to_owned())],
            "what is asked for excuses nothing"
        );
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
