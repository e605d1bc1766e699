//! The circuits of all replicas, merged.

use super::{Decisions, Situation};
use crate::{
    api::InferenceReplicaStatus,
    controller::{circuits::merge, status::reports},
};

/// Merges what the replicas report.
pub fn decide(situation: &Situation<'_>, decisions: &mut Decisions) {
    let reports: Vec<&InferenceReplicaStatus> = reports(situation.subject, situation.live);
    let circuits = merge(&situation.deployment.spec.backends, &reports);
    let states = |rows: &[crate::api::CircuitStatus]| {
        let states = rows.iter().map(|row| (row.backend.clone(), row.scope, row.state));
        states.collect::<Vec<_>>()
    };
    decisions.urgent |= states(&circuits) != states(&decisions.record.circuits);
    decisions.record.circuits = circuits;
}
