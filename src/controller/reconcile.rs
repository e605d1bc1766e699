//! One reconcile: the five steps, and what becomes of an error in each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::Time};
use kube::{
    Client, Resource, ResourceExt,
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::controller::Action,
};

use super::{
    apply::{ApplyError, Outcome, Writer},
    build::{self, Defaults, Subject},
    call::CallError,
    decide::{self, Decisions, Situation, decide, held},
    dereference::{DereferenceError, Live, dereference, read_live},
    discover,
    events::Events,
    image_volumes::ImageVolumes,
    memory::Memory,
    metrics::Metrics,
    pace::{Pace, Turn},
    server_time::ServerTime,
    status::{self, Problem, StatusError, View, circuit_transitions, scaled, transitions},
    stores::{Guarded, Stores},
    tried::Tried,
    validate::{ValidateError, Validated, subject},
};
use crate::{
    api::{InferenceDeployment, InferenceDeploymentStatus, conditions::reason},
    policy::write_rate::Haste,
};

/// Why a reconcile must be tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Step 1.
    #[error(transparent)]
    Dereference(#[from] DereferenceError),
    /// The object names nobody.
    #[error(transparent)]
    Validate(#[from] ValidateError),
    /// Step 3.
    #[error(transparent)]
    Build(#[from] build::BuildError),
    /// Step 4.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A live read.
    #[error(transparent)]
    Read(#[from] CallError),
    /// Step 5.
    #[error(transparent)]
    Status(#[from] StatusError),
}

impl ReconcileError {
    const fn call(&self) -> Option<&CallError> {
        match self {
            Self::Apply(ApplyError::Call(error)) | Self::Status(StatusError::Call(error)) | Self::Read(error) => {
                Some(error)
            }
            _ => None,
        }
    }

    /// Part of normal work: the cache lags, or somebody else was faster. Tried again at once and not told as an error.
    fn is_routine(&self) -> bool {
        matches!(self, Self::Dereference(_)) || self.call().is_some_and(CallError::is_conflict)
    }
}

/// What a reconcile works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The caches.
    pub stores: Stores,
    /// Own writes.
    pub memory: Arc<Memory>,
    /// Verdicts on specs.
    pub validated: Arc<Validated>,
    /// What the controller adds to specs.
    pub defaults: Defaults,
    /// Where transitions go.
    pub events: Events,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Failures in a row, by object.
    pub failures: Arc<Failures>,
    /// How often statuses are written.
    pub pace: Arc<Pace>,
    /// The API server's clock.
    pub server_time: ServerTime,
    /// Shares that may have been told.
    pub tried: Arc<Tried>,
    /// What the API server does with volumes that are images.
    pub image_volumes: Arc<ImageVolumes>,
}

/// Failures in a row, by namespace and name.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<(String, String), u32>>);

impl Failures {
    fn count(&self, object: &impl ResourceExt) -> u32 {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = map
            .entry((object.namespace().unwrap_or_default(), object.name_any()))
            .or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// Starts counting anew.
    pub fn clear(&self, namespace: &str, name: &str) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.remove(&(namespace.to_owned(), name.to_owned()));
    }
}

/// A stranger's object that takes a child's name has no label of ours and is not watched: look again after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// A deletion during a relist of a watch comes as no event: look again after this long. Reads caches only and writes nothing.
const RESYNC: Duration = Duration::from_secs(600);
/// What is due at once is due with the changes of the next moment.
const SOONEST: Duration = Duration::from_millis(50);
/// How soon to look whether the cache has caught up; its own event usually comes first.
const CATCH_UP: Duration = Duration::from_millis(200);

/// Brings the cluster to what `object` says.
pub async fn reconcile(
    object: Arc<Guarded<InferenceDeployment>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let start = Instant::now();
    let result = run(&object, &context).await;
    let label = match &result {
        Ok(_) => "ok",
        Err(error) if error.is_routine() => "retry",
        Err(_) => "error",
    };
    context.metrics.reconciled(label, start.elapsed().as_secs_f64());
    if let Err(error) = &result
        && let Some(call) = error.call()
    {
        context.metrics.call_failed(call);
    }
    if result.is_ok() {
        context
            .failures
            .clear(&object.namespace().unwrap_or_default(), &object.name_any());
    }
    result
}

async fn run(object: &Guarded<InferenceDeployment>, context: &Context) -> Result<Action, ReconcileError> {
    let subject = subject(object)?;
    if object.meta().deletion_timestamp.is_some() {
        // The garbage collector removes the children by their owner references.
        return Ok(Action::await_change());
    }
    match &object.0 {
        Ok(deployment) => carry_out(&subject, deployment, context).await,
        Err(invalid) => report_undecodable(&subject, invalid, context).await,
    }
}

async fn carry_out(
    subject: &Subject,
    deployment: &InferenceDeployment,
    context: &Context,
) -> Result<Action, ReconcileError> {
    let live = dereference(&context.stores, &context.memory, subject, &deployment.metadata)?;
    let situation = Situation {
        subject,
        deployment,
        live: &live,
        now: Timestamp::now(),
        server_now: context.server_time.now(),
        read_live: false,
        jitter: rand::random(),
    };
    let decisions = decide(&situation);
    if !decisions.look_live {
        return Box::pin(follow(situation, decisions, context)).await;
    }
    // As often as the most urgent write may come: what asks for it may have to wait for its write for long.
    let mut look = context.pace.look(&subject.uid);
    if !look.may(Haste::Urgent) {
        let later = [decisions.look_again, look.later()].into_iter().flatten().min();
        let decisions = Decisions {
            look_again: later,
            ..held(&situation)
        };
        return Box::pin(follow(situation, decisions, context)).await;
    }
    let (deployment, live) = read_live(&context.client, subject, &live).await?;
    let situation = Situation {
        deployment: &deployment,
        live: &live,
        server_now: context.server_time.now(),
        read_live: true,
        ..situation
    };
    Box::pin(follow(situation, decide(&situation), context)).await
}

/// Carries out what is decided, and the rest of the spec.
async fn follow(situation: Situation<'_>, decisions: Decisions, context: &Context) -> Result<Action, ReconcileError> {
    let Situation {
        subject,
        deployment,
        live,
        ..
    } = situation;
    let mut turn = context.pace.turn(&subject.uid);
    let mut decisions = record(&situation, decisions, &mut turn, context).await?;
    let shares_later = share(&situation, &mut decisions, context);
    let writer = Writer {
        client: &context.client,
        subject,
        live,
        memory: &context.memory,
        metrics: &context.metrics,
    };
    writer.replace(&decisions.replace).await?;
    writer.release(&decisions.release).await?;
    let (outcome, missed, look_again) = if let Some((problem, look_again)) = refused(&situation, context).await? {
        // Pods that run go on being told what is decided.
        let replicas = build::replicas(subject, live, &decisions.orders);
        let (_, missed) = Box::pin(writer.apply_replicas(replicas)).await?;
        (Err(problem), missed, look_again)
    } else {
        let spec = decide::awake(&deployment.spec, decisions.idle);
        let spec = decide::affordable(&spec, decisions.record.budget.as_ref(), subject, live);
        let mut prepared = build::build(subject, &spec, live, &decisions.orders, &context.defaults)?;
        if decisions.idle {
            prepared.note_idle();
        }
        match Box::pin(writer.apply(prepared)).await {
            Ok(mut outcome) => {
                let before = decide::local_pods(subject, live);
                if let Some(transition) = scaled(&deployment.spec, decisions.idle, before, spec.replicas()) {
                    context.events.tell(subject, transition);
                }
                let missed = outcome.missed.take();
                (Ok(outcome), missed, RESYNC)
            }
            Err(error) => (Err(problem(error)?), None, LOOK_AGAIN),
        }
    };
    update_status(situation, &decisions, outcome.as_ref(), &mut turn, context).await?;
    if let Some(conflict) = missed {
        return Err(ApplyError::from(conflict).into());
    }
    let times = [decisions.look_again, turn.later(), shares_later];
    let soonest = times.into_iter().flatten().fold(look_again, Duration::min);
    Ok(Action::requeue(soonest.max(SOONEST)))
}

/// Records what is decided when it differs from what is recorded. What is not due yet is decided again when it is. To tell the replicas what
/// is recorded takes no turn: those that were not told yet, after a conflict or a crash, wait for nobody.
async fn record(
    situation: &Situation<'_>,
    decisions: Decisions,
    turn: &mut Turn<'_>,
    context: &Context,
) -> Result<Decisions, ReconcileError> {
    let held = held(situation);
    let recorded = decisions.record == held.record;
    if recorded && decisions.annotations.is_empty() && decisions.release.is_empty() {
        return Ok(decisions);
    }
    if !turn.may(Haste::urgent_if(decisions.urgent)) {
        return Ok(Decisions {
            look_again: decisions.look_again,
            ..held
        });
    }
    let (subject, mut version) = (situation.subject, situation.deployment.resource_version());
    if !recorded {
        let over = version.unwrap_or_default();
        let record = &decisions.record;
        version = Some(
            status::record(
                &context.client,
                subject,
                &over,
                [&held.record, record],
                &context.metrics,
            )
            .await?,
        );
        for warning in status::warnings(held.record.budget.as_ref(), record.budget.as_ref()) {
            context.events.tell(subject, warning);
        }
        for transition in circuit_transitions(&held.record.circuits, &record.circuits) {
            context.events.tell(subject, transition);
        }
    }
    if !decisions.annotations.is_empty() {
        let (over, annotations) = (version.unwrap_or_default(), &decisions.annotations);
        version = Some(status::annotate(&context.client, subject, &over, annotations, &context.metrics).await?);
    }
    context.memory.recorded(subject, version.unwrap_or_default());
    Ok(decisions)
}

/// Shares rate limits out; gives the time until what was put off is due. The spec of a replica is an object of its own, with a pace of
/// its own.
fn share(situation: &Situation<'_>, decisions: &mut Decisions, context: &Context) -> Option<Duration> {
    let (Context { pace, tried, .. }, uid) = (context, &situation.subject.uid);
    let shares = decide::share(situation, |replica| tried.of(replica));
    let is_there = |pod: &str| shares.iter().any(|(replica, _)| replica.spec.pod_uid == pod);
    pace.keep(uid, is_there);
    tried.keep(uid, is_there);
    let mut later = None;
    for (replica, shares) in shares {
        let orders = decisions.orders.entry(replica.name_any()).or_default();
        if orders.shares == shares {
            continue;
        }
        let mut turn = pace.turn_of(uid, &replica.spec.pod_uid);
        if turn.may(Haste::Urgent) {
            tried.begin(replica, &shares);
            orders.shares = shares;
        }
        later = [later, turn.later()].into_iter().flatten().min();
    }
    later
}

/// Why the spec is not carried out, and when to look again: an API may come, a spec comes with an event of its own.
async fn refused(situation: &Situation<'_>, context: &Context) -> Result<Option<(Problem, Duration)>, ReconcileError> {
    let Situation {
        subject, deployment, ..
    } = situation;
    if let Err(error) = context.validated.check(subject, deployment) {
        let problem = Problem {
            reason: error.reason(),
            message: error.to_string(),
        };
        return Ok(Some((problem, RESYNC)));
    }
    let (client, spec) = (&context.client, &deployment.spec);
    let missing = match discover::missing(client, spec).await? {
        None => context.image_volumes.missing(client, &subject.namespace, spec).await?,
        missing => missing,
    };
    Ok(missing.map(|problem| (problem, LOOK_AGAIN)))
}

/// What people must mend.
///
/// # Errors
/// What the next try may get over.
fn problem(error: ApplyError) -> Result<Problem, ApplyError> {
    let reason = match &error {
        ApplyError::NameConflict { .. } => reason::NAME_CONFLICT,
        ApplyError::Call(call) if call.is_refusal() => reason::APPLY_FAILED,
        ApplyError::Template(_) | ApplyError::Json(..) => reason::APPLY_FAILED,
        ApplyError::Leaving(..) | ApplyError::Call(_) => return Err(error),
    };
    tracing::warn!(%error, "stalled");
    Ok(Problem {
        reason,
        message: error.to_string(),
    })
}

async fn update_status(
    situation: Situation<'_>,
    decisions: &Decisions,
    outcome: Result<&Outcome, &Problem>,
    turn: &mut Turn<'_>,
    context: &Context,
) -> Result<(), StatusError> {
    let (deployments, kept, problem) = match outcome {
        Ok(Outcome { resources, kept, .. }) => (resources.workloads(), kept.as_slice(), None),
        Err(problem) => (cached(situation.live), [].as_slice(), Some(problem.clone())),
    };
    if let Some(ledger) = &decisions.record.budget {
        let Subject { namespace, name, .. } = situation.subject;
        context.metrics.budget(namespace, name, ledger);
    }
    let view = View::new(situation, &deployments, kept, problem, decisions);
    let old = situation.deployment.status.clone().unwrap_or_default();
    let new = status::compute(&view, &old, &Time(situation.now));
    publish(situation.subject, &old, &new, turn, context).await
}

/// What makes pods, as the caches have it.
fn cached(live: &Live) -> Vec<Deployment> {
    let groups = live.groups.iter().map(|group| group.as_deployment());
    groups.chain(live.workloads.iter().map(|d| (**d).clone())).collect()
}

/// Writes a status that differs and tells of its transitions. What is recorded by conditional writes is not compared here.
async fn publish(
    subject: &Subject,
    old: &InferenceDeploymentStatus,
    new: &InferenceDeploymentStatus,
    turn: &mut Turn<'_>,
    context: &Context,
) -> Result<(), StatusError> {
    let comparable = InferenceDeploymentStatus {
        budget: new.budget.clone(),
        circuits: new.circuits.clone(),
        gpus: new.gpus.clone(),
        ..old.clone()
    };
    if comparable == *new || !turn.may(status::haste(old, new)) {
        return Ok(());
    }
    status::write(&context.client, subject, new, &context.metrics).await?;
    for transition in transitions(old, new) {
        context.events.tell(subject, transition);
    }
    Ok(())
}

/// An object that cannot be decoded: its status is not readable in the cache either, so the memory of the last write decides.
async fn report_undecodable(
    subject: &Subject,
    invalid: &InvalidObject,
    context: &Context,
) -> Result<Action, ReconcileError> {
    let (generation, error) = (invalid.metadata.generation.unwrap_or(0), &invalid.error);
    if context.memory.told_undecodable(subject, generation, error) {
        return Ok(Action::await_change());
    }
    for transition in status::write_undecodable(&context.client, subject, invalid, &context.metrics).await? {
        context.events.tell(subject, transition);
    }
    context.memory.tell_undecodable(subject, generation, error);
    Ok(Action::await_change())
}

/// When to try again after `error`.
pub fn after_error(
    object: Arc<DeserializeGuard<InferenceDeployment>>,
    error: &ReconcileError,
    context: Arc<Context>,
) -> Action {
    if error.is_routine() {
        return Action::requeue(CATCH_UP);
    }
    let wait = backoff(context.failures.count(&*object), rand::random());
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    tracing::warn!(%name, %namespace, %error, retry_in_ms = wait.as_millis(), "reconcile failed");
    Action::requeue(wait)
}

/// 1 s, 2 s, 4 s, … 5 minutes, of which `jitter` (0 to 1) takes off up to a half.
fn backoff(failures: u32, jitter: f64) -> Duration {
    const LONGEST: Duration = Duration::from_secs(300);
    let exponent = failures.saturating_sub(1).min(16);
    let full = Duration::from_secs(1).saturating_mul(1 << exponent).min(LONGEST);
    full.mul_f64(1.0 - jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_five_minutes() {
        assert_eq!(backoff(1, 0.0), Duration::from_secs(1));
        assert_eq!(backoff(3, 0.0), Duration::from_secs(4));
        assert_eq!(backoff(u32::MAX, 0.0), Duration::from_secs(300));
        assert_eq!(backoff(3, 1.0), Duration::from_secs(2));
    }
}

#[cfg(test)]
#[path = "reconcile/tests.rs"]
mod whole;
