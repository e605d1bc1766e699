//! The circuits of all replicas: one merge a remote backend and scope, and what each replica is told of it. The engine's circuit is its
//! pod's own and never merged.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Decisions, Situation};
use crate::{
    api::{CircuitScope, CircuitState, CircuitStatus, InferenceDeployment, MergedCircuit},
    controller::pods::{has_ended, is_ready},
    policy::circuit::merge::{Merged, Replica, Subject, merge, project},
};

const SCOPES: [CircuitScope; 2] = [CircuitScope::Endpoint, CircuitScope::Credential];

/// Merges what the replicas report, and says what they are told.
pub fn decide(situation: &Situation<'_>, decisions: &mut Decisions) {
    let mut rows = Vec::new();
    let mut look_again: Option<Timestamp> = None;
    for subject in subjects(situation.deployment) {
        let before = find(&decisions.record.circuits, &subject);
        let replicas = replicas(situation, &subject);
        let Merged { row, look_again: again } = merge(&subject, before, &replicas, situation.now, situation.jitter);
        look_again = look_again.into_iter().chain(again).min();
        rows.extend(row);
    }
    decisions.urgent |= numbers(&rows) != numbers(&decisions.record.circuits);
    decisions.record.circuits = rows;
    for (name, orders) in &mut decisions.orders {
        orders.circuits = told(situation.deployment, &decisions.record.circuits, name, &orders.circuits);
    }
    decisions.look_again = look_again.and_then(|at| at.duration_since(situation.now).try_into().ok());
}

/// What replica `name` is to be told of `rows`, and was told before.
pub fn told(
    deployment: &InferenceDeployment,
    rows: &[CircuitStatus],
    name: &str,
    before: &[MergedCircuit],
) -> Vec<MergedCircuit> {
    let tell = |subject: Subject| {
        let is_same =
            |c: &&MergedCircuit| c.backend == subject.backend && c.scope == subject.scope && c.target == subject.target;
        let before = before.iter().find(is_same);
        find(rows, &subject)
            .and_then(|row| project(row, &subject.target, name, before))
            .or_else(|| before.cloned())
    };
    subjects(deployment).filter_map(tell).collect()
}

fn subjects(deployment: &InferenceDeployment) -> impl Iterator<Item = Subject> + use<'_> {
    let remotes = deployment.spec.backends.iter();
    let remotes = remotes.filter_map(|b| Some((b.name.as_str(), b.remote.as_ref()?)));
    remotes.flat_map(|(backend, remote)| SCOPES.map(|scope| Subject::new(backend, scope, remote)))
}

fn find<'a>(rows: &'a [CircuitStatus], subject: &Subject) -> Option<&'a CircuitStatus> {
    rows.iter()
        .find(|row| row.backend == subject.backend && row.scope == subject.scope)
}

/// What every decision raises, and what people force. A row that only says who holds it open for itself may wait.
fn numbers(rows: &[CircuitStatus]) -> Vec<(&str, CircuitScope, u64, CircuitState)> {
    rows.iter()
        .filter(|row| row.sequence > 0 || row.state != CircuitState::Closed)
        .map(|row| (row.backend.as_str(), row.scope, row.sequence, row.state))
        .collect()
}

/// The replicas with their pods. One whose pod is gone or not Ready holds what it holds, and has no vote.
fn replicas<'a>(situation: &Situation<'a>, subject: &Subject) -> Vec<Replica<'a>> {
    let pods = &situation.live.pods;
    let stays = |pod: &Pod, uid: &str| {
        pod.uid().as_deref() == Some(uid)
            && pod.metadata.deletion_timestamp.is_none()
            && is_ready(pod)
            && !has_ended(pod)
    };
    // An object of a deployment of the same name that is gone says nothing of this one.
    let uid = &situation.subject.uid;
    let replicas = situation.live.replicas.iter();
    replicas
        .filter(|object| object.spec.deployment_uid == *uid)
        .map(|object| {
            let pod = pods.iter().find(|pod| pod.metadata.name == object.metadata.name);
            let stays = pod.is_some_and(|pod| stays(pod, &object.spec.pod_uid));
            Replica::new(object, subject, stays)
        })
        .collect()
}
