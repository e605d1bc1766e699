//! What people are told of the merged circuits: one Event a transition of each, and their words.

use super::Transition;
use crate::api::{CircuitScope, CircuitState, CircuitStatus, conditions as types, conditions::reason};

/// The transitions from `old` to `new`, of endpoints: a key's circuit is told by CredentialsAccepted.
pub fn circuit_transitions(old: &[CircuitStatus], new: &[CircuitStatus]) -> Vec<Transition> {
    let told = new.iter().filter(|row| row.scope == CircuitScope::Endpoint);
    told.filter_map(|row| {
        let before = old.iter().find(|b| b.backend == row.backend && b.scope == row.scope);
        let before = before.map_or(CircuitState::Closed, |before| before.state);
        (before != row.state).then(|| transition(row))
    })
    .collect()
}

fn transition(row: &CircuitStatus) -> Transition {
    Transition {
        warning: matches!(row.state, CircuitState::Open | CircuitState::ForcedOpen),
        reason: reason_of(row.state).to_owned(),
        condition: types::CIRCUIT_CLOSED.to_owned(),
        message: words(row),
    }
}

/// The reason of a state.
pub const fn reason_of(state: CircuitState) -> &'static str {
    match state {
        CircuitState::Open => reason::OPEN,
        CircuitState::HalfOpen => reason::HALF_OPEN,
        CircuitState::Closed => reason::CLOSED,
        CircuitState::ForcedOpen | CircuitState::ForcedClosed => reason::FORCED,
    }
}

/// A circuit in words.
pub fn words(row: &CircuitStatus) -> String {
    let is = match row.state {
        CircuitState::Open => "open",
        CircuitState::HalfOpen => "half open",
        CircuitState::Closed => "closed",
        CircuitState::ForcedOpen => "held open by circuitBreaker.override",
        CircuitState::ForcedClosed => "held closed by circuitBreaker.override",
    };
    let after = row
        .last_error
        .as_ref()
        .map_or_else(String::new, |e| format!(" after {e}"));
    format!(
        "the circuit of backend {} ({:?}) is {is}{after}",
        row.backend, row.scope
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(backend: &str, scope: CircuitScope, state: CircuitState) -> CircuitStatus {
        CircuitStatus {
            state,
            ..CircuitStatus::closed(backend.into(), scope, "OpenAI".into(), None)
        }
    }

    #[test]
    fn every_transition_of_every_backend_is_told_once() {
        use CircuitScope::{Credential, Endpoint};
        use CircuitState::{Closed, ForcedOpen, HalfOpen, Open};
        let steps = [Closed, Open, Open, HalfOpen, Open, HalfOpen, Closed, ForcedOpen, Closed];
        let mut before = vec![row("other", Endpoint, Open), row("a", Credential, Closed)];
        let mut told = Vec::new();
        for state in steps {
            let now = vec![
                row("other", Endpoint, Open),
                row("a", Endpoint, state),
                row("a", Credential, Open),
            ];
            told.extend(
                circuit_transitions(&before, &now)
                    .into_iter()
                    .map(|t| (t.warning, t.reason)),
            );
            before = now;
        }
        let expected = [
            (true, "Open"),
            (false, "HalfOpen"),
            (true, "Open"),
            (false, "HalfOpen"),
            (false, "Closed"),
            (true, "Forced"),
            (false, "Closed"),
        ];
        assert_eq!(told, expected.map(|(warning, reason)| (warning, reason.to_owned())));
    }
}
