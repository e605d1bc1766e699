//! What is told of keys and circuits: the merged circuits, with what the replicas heard from the providers.

use super::{
    circuits,
    verdict::{FALSE, TRUE, UNKNOWN, Verdict, verdict},
    view::View,
};
use crate::{
    api::{CircuitScope, CircuitState, CircuitStatus, conditions as types, conditions::reason},
    error::ErrorKind,
    policy::circuit::Refusal,
};

/// `CredentialsAccepted`.
pub fn accepted(view: &View<'_>) -> Verdict {
    let says = |status, reason, message| verdict(types::CREDENTIALS_ACCEPTED, status, reason, message);
    let mut refused = view.circuits.iter().filter(|c| c.scope == CircuitScope::Credential);
    // One replica's word is enough for people, though not for the other replicas.
    if let Some(circuit) = refused.find(|c| c.state != CircuitState::Closed || c.open_replicas.is_some()) {
        let (reason, message) = refused_key(view, circuit);
        return says(FALSE, reason, message);
    }
    let remote = || view.spec.backends.iter().filter(|b| b.remote.is_some());
    let mut reports = remote().flat_map(|b| view.backend(&b.name)).peekable();
    let reported = reports.peek().is_some();
    if let Some(missing) = reports.find(|b| b.reason == reason::CREDENTIALS_MISSING) {
        let message = format!("backend {}: {}", missing.name, missing.message);
        return says(FALSE, reason::CREDENTIALS_MISSING, message);
    }
    if remote().next().is_some() && !reported {
        return says(
            UNKNOWN,
            reason::PENDING,
            "no Ready replica has reported on the backends yet".into(),
        );
    }
    says(TRUE, reason::ACCEPTED, "no provider refuses its credentials".into())
}

fn refused_key(view: &View<'_>, circuit: &CircuitStatus) -> (&'static str, String) {
    let refusal = Refusal::of(circuit.last_error.as_deref().and_then(ErrorKind::named));
    let advice = refusal
        .advice()
        .map_or_else(|| other_key(view, &circuit.backend), str::to_owned);
    let said = said(view, circuit).map_or_else(String::new, |s| format!(" ({s})"));
    let message = format!(
        "{} {} of backend {}{said}: {advice}",
        circuit.provider,
        refusal.words(),
        circuit.backend
    );
    (refusal.reason(), message)
}

fn other_key(view: &View<'_>, backend: &str) -> String {
    let backend = view.spec.backends.iter().find(|b| b.name == backend);
    let credentials = backend.and_then(|b| b.remote.as_ref()?.credentials.as_ref());
    credentials.map_or_else(
        || "put a valid key into spec.backends[].remote.credentials, which is absent".to_owned(),
        |c| format!("put a valid key into key {} of Secret {}", c.secret.key, c.secret.name),
    )
}

/// What the provider said when the circuit opened.
fn said<'a>(view: &View<'a>, circuit: &CircuitStatus) -> Option<&'a str> {
    let rows = view.reports().into_iter().flat_map(|r| &r.circuits);
    let mut same = rows.filter(|c| c.backend == circuit.backend && c.scope == circuit.scope);
    same.find(|c| !c.message.is_empty()).map(|c| c.message.as_str())
}

/// `CircuitClosed`.
pub fn closed(view: &View<'_>) -> Verdict {
    let says = |status, reason, message| verdict(types::CIRCUIT_CLOSED, status, reason, message);
    let words = |circuit: &CircuitStatus| {
        let detail = said(view, circuit).map_or_else(String::new, |s| format!(": {s}"));
        format!("{}{detail}", circuits::words(circuit))
    };
    let gravest = [
        (CircuitState::Open, FALSE),
        (CircuitState::HalfOpen, FALSE),
        (CircuitState::ForcedOpen, FALSE),
        (CircuitState::ForcedClosed, TRUE),
    ];
    for (state, status) in gravest {
        if let Some(circuit) = view.circuits.iter().find(|c| c.state == state) {
            return says(status, circuits::reason_of(state), words(circuit));
        }
    }
    let alone = view.circuits.iter().find_map(|c| Some((c, c.open_replicas?)));
    let message = alone.map_or_else(
        || "all circuits are closed".to_owned(),
        |(circuit, count)| {
            format!(
                "{}; {count} of the replicas hold it open for themselves",
                words(circuit)
            )
        },
    );
    says(TRUE, reason::CLOSED, message)
}
