//! The merge of all replicas' circuits into one row a backend and scope (design section 9).
//!
//! Voters are the replicas that hold the circuit open and the Ready ones that say they may send to the backend. The circuit is open
//! for all when more than half of the voters hold it open, so a lone voter among several replicas opens only itself. A refused key is
//! no matter of votes: all replicas share the key, and one refusal is a fact. A local engine's circuits are per pod: the row is open
//! only when no pod's engine is usable. The override goes before everything.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{
    Backend, BackendKind, CircuitBreaker, CircuitOverride, CircuitScope, CircuitState, CircuitStatus,
    InferenceReplicaStatus, ReplicaCircuit,
};

/// The circuits of `backends`, in their order; a circuit that is closed everywhere has no row.
#[must_use]
pub fn merge(backends: &[Backend], replicas: &[&InferenceReplicaStatus]) -> Vec<CircuitStatus> {
    let scopes = [CircuitScope::Endpoint, CircuitScope::Credential];
    backends
        .iter()
        .flat_map(|b| scopes.map(|scope| row(b, scope, replicas)))
        .flatten()
        .collect()
}

fn row(backend: &Backend, scope: CircuitScope, replicas: &[&InferenceReplicaStatus]) -> Option<CircuitStatus> {
    let votes: Vec<&ReplicaCircuit> = replicas
        .iter()
        .flat_map(|r| &r.circuits)
        .filter(|c| c.backend == backend.name && c.scope == scope && is_open(c.state))
        .collect();
    let forced = forced(backend, scope);
    if votes.is_empty() && forced.is_none() {
        return None;
    }
    let healthy = replicas
        .iter()
        .filter(|r| {
            !r.circuits
                .iter()
                .any(|c| c.backend == backend.name && c.scope == scope && is_open(c.state))
        })
        .filter(|r| r.ready && r.backends.iter().any(|b| b.name == backend.name && b.available))
        .count();
    let state = forced.unwrap_or_else(|| decide(backend, scope, &votes, healthy));
    Some(describe(backend, scope, state, &votes))
}

const fn is_open(state: CircuitState) -> bool {
    matches!(
        state,
        CircuitState::Open | CircuitState::HalfOpen | CircuitState::ForcedOpen
    )
}

/// The override of the spec; it speaks of the endpoint's circuit.
fn forced(backend: &Backend, scope: CircuitScope) -> Option<CircuitState> {
    let breaker: &CircuitBreaker = backend.remote.as_ref()?.circuit_breaker.as_ref()?;
    match (scope, breaker.forced()) {
        (CircuitScope::Endpoint, CircuitOverride::ForceOpen) => Some(CircuitState::ForcedOpen),
        (CircuitScope::Endpoint, CircuitOverride::ForceClosed) => Some(CircuitState::ForcedClosed),
        _ => None,
    }
}

fn decide(backend: &Backend, scope: CircuitScope, votes: &[&ReplicaCircuit], healthy: usize) -> CircuitState {
    let open_for_all = match (scope, backend.kind()) {
        (CircuitScope::Credential, _) => true,
        (CircuitScope::Endpoint, Some(BackendKind::Local(_))) => healthy == 0,
        (CircuitScope::Endpoint, _) => votes.len() > healthy,
    };
    if !open_for_all {
        CircuitState::Closed
    } else if votes.iter().all(|v| v.state == CircuitState::HalfOpen) {
        CircuitState::HalfOpen
    } else {
        CircuitState::Open
    }
}

fn describe(backend: &Backend, scope: CircuitScope, state: CircuitState, votes: &[&ReplicaCircuit]) -> CircuitStatus {
    let first = votes.iter().min_by_key(|v| v.opened_at.as_ref().map(|t| t.0));
    let (provider, endpoint) = address(backend);
    CircuitStatus {
        backend: backend.name.clone(),
        scope,
        provider,
        endpoint,
        state,
        opened_at: first.and_then(|v| v.opened_at.clone()),
        retry_at: votes
            .iter()
            .filter_map(|v| v.retry_at.as_ref().map(|t| t.0))
            .max()
            .map(Time),
        trips: votes.iter().map(|v| v.trips).max(),
        open_replicas: u32::try_from(votes.len()).ok().filter(|n| *n > 0),
        last_error: first.and_then(|v| v.last_error.clone()),
    }
}

/// Provider as the spec spells it, and endpoint.
fn address(backend: &Backend) -> (String, Option<String>) {
    match &backend.remote {
        None => ("local".into(), None),
        Some(remote) => {
            let provider = serde_json::to_value(remote.provider).ok();
            let provider = provider.as_ref().and_then(|p| p.as_str()).unwrap_or_default();
            (provider.to_owned(), Some(remote.endpoint.clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::BackendReport, controller::build::fixtures};

    fn report(available: bool, state: Option<CircuitState>, scope: CircuitScope) -> InferenceReplicaStatus {
        InferenceReplicaStatus {
            ready: true,
            backends: vec![BackendReport {
                name: "openai".into(),
                available,
                reason: "Available".into(),
                message: String::new(),
            }],
            circuits: state
                .map(|state| ReplicaCircuit {
                    backend: "openai".into(),
                    scope,
                    state,
                    opened_at: Some(Time("2026-01-01T00:00:00Z".parse().unwrap())),
                    retry_at: None,
                    trips: 2,
                    last_error: Some("server_error".into()),
                    message: String::new(),
                })
                .into_iter()
                .collect(),
            ..InferenceReplicaStatus::default()
        }
    }

    fn endpoint(states: &[Option<CircuitState>]) -> Option<CircuitState> {
        let reports: Vec<_> = states
            .iter()
            .map(|s| report(s.is_none(), *s, CircuitScope::Endpoint))
            .collect();
        let rows = merge(&fixtures::both().spec.backends, &reports.iter().collect::<Vec<_>>());
        rows.first().map(|r| r.state)
    }

    #[test]
    fn open_for_all_only_when_more_than_half_of_the_voters_are() {
        use CircuitState::{Closed, HalfOpen, Open};
        assert_eq!(endpoint(&[None, None]), None);
        assert_eq!(endpoint(&[Some(Open)]), Some(Open));
        assert_eq!(endpoint(&[Some(Open), None]), Some(Closed));
        assert_eq!(endpoint(&[Some(Open), Some(Open), None]), Some(Open));
        assert_eq!(endpoint(&[Some(HalfOpen), Some(HalfOpen), None]), Some(HalfOpen));
        assert_eq!(endpoint(&[Some(Open), None, None]), Some(Closed));
    }

    #[test]
    fn one_refused_key_is_refused_for_all_and_the_row_says_who() {
        let reports = [
            report(false, Some(CircuitState::Open), CircuitScope::Credential),
            report(true, None, CircuitScope::Endpoint),
            report(true, None, CircuitScope::Endpoint),
        ];
        let rows = merge(&fixtures::both().spec.backends, &reports.iter().collect::<Vec<_>>());
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (rows[0].scope, rows[0].state),
            (CircuitScope::Credential, CircuitState::Open)
        );
        assert_eq!((rows[0].open_replicas, rows[0].trips), (Some(1), Some(2)));
        assert_eq!(rows[0].provider, "OpenAICompatible");
        assert_eq!(rows[0].last_error.as_deref(), Some("server_error"));
    }

    #[test]
    fn the_override_goes_before_everything() {
        let mut deployment = fixtures::both();
        deployment.spec.backends[1].remote.as_mut().unwrap().circuit_breaker = Some(CircuitBreaker {
            r#override: Some(CircuitOverride::ForceClosed),
            ..CircuitBreaker::default()
        });
        let open = report(false, Some(CircuitState::Open), CircuitScope::Endpoint);
        let rows = merge(&deployment.spec.backends, &[&open]);
        assert_eq!(rows[0].state, CircuitState::ForcedClosed);
    }
}
