//! What a replica is told of a merged circuit.

use crate::api::{CircuitState, CircuitStatus, MergedCircuit, ProbePhase, ProbeToken};

/// What replica `name` is to be told of `row`, beneath what is forced: the override it reads itself. `target` is the mark of the row's endpoint, `told` what it was told last. `None` for a
/// circuit that was never decided on. Never older than what it was told: a controller whose cache lags says nothing new.
#[must_use]
pub fn project(row: &CircuitStatus, target: &str, name: &str, told: Option<&MergedCircuit>) -> Option<MergedCircuit> {
    let probe = row.probes.iter().find(|p| p.replica == name);
    let (number, token) = probe.map_or((0, None), |probe| match probe.phase {
        ProbePhase::Offered | ProbePhase::Accepted => (
            probe.sequence,
            Some(ProbeToken {
                sequence: probe.sequence,
                calls: probe.calls,
            }),
        ),
        ProbePhase::Withdrawn => (probe.withdrawn.unwrap_or(probe.sequence), None),
    });
    let sequence = number.max(row.changed);
    let same_target = told.filter(|t| t.target == target);
    if let Some(told) = same_target.filter(|t| t.sequence >= sequence) {
        return Some(told.clone());
    }
    (sequence > 0).then(|| MergedCircuit {
        backend: row.backend.clone(),
        scope: row.scope,
        target: target.to_owned(),
        epoch: row.epoch,
        sequence,
        state: match (row.is_open(), token) {
            (false, _) => CircuitState::Closed,
            (true, None) => CircuitState::Open,
            (true, Some(_)) => CircuitState::HalfOpen,
        },
        opened_at: row.opened_at.clone(),
        retry_at: row.retry_at.clone(),
        trips: row.trips.unwrap_or(0),
        last_error: row.last_error.clone(),
        key_hash: row.key_hash.clone(),
        probe: token,
    })
}
