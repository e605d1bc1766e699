//! What a replica is told of a merged circuit.

use crate::api::{CircuitState, CircuitStatus, MergedCircuit, ProbePhase, ProbeToken};

/// What replica `name` is now to be told of `row`, whose endpoint has the mark `target`; `None` when that is nothing new. Never what is
/// older than what it was told: a controller whose cache lags has nothing new to say. The override replicas read themselves: they are
/// told what is beneath it.
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
    let known = told.filter(|t| t.target == target).map_or(0, |t| t.sequence);
    (sequence > known).then(|| MergedCircuit {
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
