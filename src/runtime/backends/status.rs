//! Status computed from what the process knows: no clock but transition times, no running counters (design section 6).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Backend, Breaker, Engine, Kind, Registry, Remote, Routing};
use crate::{
    api::{
        BackendReport, BudgetReport, CircuitScope, CircuitState, CircuitStatus, DownloadStatus, EngineState,
        EngineStatus, GpuReport, InferenceDeploymentStatus, InferenceReplicaStatus, PROTOCOL_VERSION, ReplicaCircuit,
        ShareReport, conditions::reason,
    },
    error::ErrorKind,
    policy::circuit::{CircuitView, Label, Refusal},
    runtime::{
        clock::Clock,
        local::{Download, EngineView},
        remote::classify::scrub::shown,
        report::{Ears, News},
    },
};

/// The status of the replica. What it accepts it accepts of the state that was told last.
#[must_use]
pub fn replica_news(registry: &Registry, boot_id: &str, ready: bool) -> News {
    let (urgent, told) = (registry.signals.count(), registry.told_version());
    let routing = registry.routing();
    let (circuits, accepting) = replica_circuits(registry);
    let status = InferenceReplicaStatus {
        observed_generation: routing.snapshot.generation,
        protocol_version: Some(PROTOCOL_VERSION),
        boot_id: Some(boot_id.to_owned()),
        ready,
        engine: registry.engine.as_ref().map(engine),
        gpu: registry.engine.as_ref().and_then(gpu),
        backends: routing.backends.iter().map(|b| report(registry, b)).collect(),
        circuits,
        errors: registry.errors.rows(),
        budget: budget(registry, &routing),
        shares: shares(&routing),
        wanted: wanted(registry, &routing),
        saturated: registry.turned_away.lasts(),
    };
    News {
        status,
        urgent,
        over: told.filter(|_| accepting),
    }
}

fn wanted(registry: &Registry, routing: &Routing) -> Option<bool> {
    let terms = routing.snapshot.spec.scale_to_zero.as_ref();
    registry.demand.wanted(terms.map(|terms| terms.idle_after.get()))
}

/// What became of the money that was granted, also of a budget that is no more.
fn budget(registry: &Registry, routing: &Routing) -> Option<BudgetReport> {
    let leases = registry.leases()?;
    let report = leases.report();
    (routing.snapshot.spec.budget.is_some() || report.sequence > 0).then_some(report)
}

fn shares(routing: &Routing) -> Vec<ShareReport> {
    let mut rows = Vec::new();
    routing.each_share(|backend, share| rows.push(share.report(backend)));
    rows
}

/// The same for people, in the shape of the deployment's status: `/status` of a process that runs alone.
#[must_use]
pub fn deployment_status(registry: &Registry) -> InferenceDeploymentStatus {
    let routing = registry.routing();
    let mut reports = routing.backends.iter().map(|b| report(registry, b));
    InferenceDeploymentStatus {
        observed_generation: routing.snapshot.generation,
        active_backend: reports.find(|r| r.available).map(|r| r.name),
        budget: registry
            .money(&routing)
            .and_then(|money| money.status(jiff::Timestamp::now())),
        circuits: deployment_circuits(registry),
        errors: registry.errors.rows(),
        ..InferenceDeploymentStatus::default()
    }
}

fn report(registry: &Registry, backend: &Backend) -> BackendReport {
    let blocked = match &backend.kind {
        Kind::Local(_) => local_blocked(registry),
        Kind::Remote(_) if !*registry.remote_gate.borrow() => Some((
            reason::PENDING,
            "waits for its InferenceReplica, which the controller makes".to_owned(),
        )),
        Kind::Remote(remote) => remote_blocked(remote),
    };
    let available = blocked.is_none();
    let (reason, message) = blocked
        .or_else(|| limited(backend))
        .unwrap_or((reason::AVAILABLE, String::new()));
    BackendReport {
        name: backend.name.to_string(),
        available,
        reason: reason.to_owned(),
        message,
    }
}

type Blocked = Option<(&'static str, String)>;

/// It takes requests and refuses most of them.
fn limited(backend: &Backend) -> Blocked {
    let Kind::Remote(remote) = &backend.kind else {
        return None;
    };
    let message =
        "the provider refused most requests of a minute with 429: raise the limit there, or state it in rateLimit";
    let lasts = remote.limited().lasts();
    lasts.then(|| (reason::UPSTREAM_RATE_LIMITED, message.to_owned()))
}

fn local_blocked(registry: &Registry) -> Blocked {
    let Some(own) = &registry.engine else {
        return Some((reason::PENDING, "the local pods answer for this backend".to_owned()));
    };
    match &*own.view.borrow() {
        EngineView::Ready(_) => None,
        view @ EngineView::Downloading(download) => Some((view.reason(), downloading(*download))),
        view @ EngineView::Loading => Some((view.reason(), "the engine loads the model".to_owned())),
        view @ (EngineView::Restarting(error) | EngineView::Failed(error) | EngineView::NoModel(_, error)) => {
            Some((view.reason(), shown(&error.to_string())))
        }
    }
}

fn downloading(Download { bytes, total }: Download) -> String {
    match total {
        Some(total) => format!("the model is being downloaded: {bytes} of {total} bytes"),
        None => format!("the model is being downloaded: {bytes} bytes"),
    }
}

pub(super) fn remote_blocked(remote: &Remote) -> Blocked {
    if let Some(unusable) = remote.unusable() {
        return Some((unusable.reason(), unusable.to_string()));
    }
    if remote.bound_violated() {
        let message = "the provider reported more than had been reserved, which is booked: the backend is stopped until its model, \
            contextLength, outputLimitField or price is changed";
        return Some((reason::BOUND_VIOLATED, message.to_owned()));
    }
    let [endpoint, credential] = remote.circuits();
    circuit_blocked(credential).or_else(|| circuit_blocked(endpoint))
}

fn circuit_blocked((scope, breaker): (CircuitScope, &Breaker)) -> Blocked {
    let view = breaker.view();
    let because = view.last_error.map_or("nothing yet", ErrorKind::as_str);
    let reason = match (view.state, scope, view.last_error) {
        (CircuitState::Closed | CircuitState::ForcedClosed, ..) => return None,
        (CircuitState::ForcedOpen, ..) => reason::FORCED,
        (_, CircuitScope::Credential, error) => Refusal::of(error).reason(),
        (CircuitState::HalfOpen, ..) => reason::HALF_OPEN,
        (CircuitState::Open, ..) => reason::OPEN,
    };
    let advice = match scope {
        CircuitScope::Credential => Refusal::of(view.last_error)
            .advice()
            .unwrap_or("mend the key or the account; a changed key is tried at once"),
        CircuitScope::Endpoint => "it is probed by itself",
    };
    Some((reason, format!("the circuit is open, last error {because}; {advice}")))
}

fn gpu(own: &Engine) -> Option<GpuReport> {
    let mut report = own.gpu.borrow().clone()?;
    if let Some(fault) = &mut report.fault {
        fault.message = shown(&fault.message);
    }
    Some(report)
}

fn engine(own: &Engine) -> EngineStatus {
    let mut download = None;
    let (state, message, context_length) = match &*own.view.borrow() {
        EngineView::Downloading(progress) => {
            let Download { bytes, total } = *progress;
            download = Some(DownloadStatus { bytes, total });
            (EngineState::Downloading, String::new(), None)
        }
        EngineView::Loading => (EngineState::Loading, String::new(), None),
        EngineView::Ready(target) => (EngineState::Ready, String::new(), target.context_length),
        EngineView::Restarting(error) => (EngineState::Restarting, shown(&error.to_string()), None),
        EngineView::Failed(error) | EngineView::NoModel(_, error) => {
            (EngineState::Failed, shown(&error.to_string()), None)
        }
    };
    EngineStatus {
        state,
        message,
        download,
        isolation: own.isolation,
        context_length,
    }
}

/// What the controller merges, and whether a probe token is accepted with it.
fn replica_circuits(registry: &Registry) -> (Vec<ReplicaCircuit>, bool) {
    let (mut rows, mut accepting) = (Vec::new(), false);
    each_circuit(registry, |backend, remote, scope, breaker| {
        let (row, accepts) = breaker.report(Label {
            backend: &backend.name,
            scope,
            target: &remote.target,
        });
        rows.extend(row);
        accepting |= accepts;
    });
    (rows, accepting)
}

fn deployment_circuits(registry: &Registry) -> Vec<CircuitStatus> {
    let mut rows = Vec::new();
    each_circuit(registry, |backend, remote, scope, breaker| {
        let view = breaker.view();
        let times = times(registry.clock, &view);
        let (provider, endpoint) = (format!("{:?}", remote.spec.provider), remote.spec.endpoint.clone());
        rows.push(CircuitStatus {
            state: view.state,
            opened_at: times.0,
            retry_at: times.1,
            trips: Some(view.trips),
            last_error: view.last_error.map(|kind| kind.as_str().to_owned()),
            ..CircuitStatus::closed(backend.name.to_string(), scope, provider, Some(endpoint))
        });
    });
    rows
}

type Times = (Option<Time>, Option<Time>);

fn each_circuit(registry: &Registry, mut row: impl FnMut(&Backend, &Remote, CircuitScope, &Breaker)) {
    for backend in &registry.routing().backends {
        let Kind::Remote(remote) = &backend.kind else { continue };
        for (scope, breaker) in remote.circuits() {
            row(backend, remote, scope, breaker);
        }
    }
}

fn times(clock: Clock, view: &CircuitView) -> Times {
    let time = |at: Option<std::time::Duration>| at.map(|at| Time(clock.timestamp(at)));
    (time(view.opened_at), time(view.retry_at))
}
