//! The conditions of design section 6, one small function each. Unknown never counts as true; reasons come in a fixed order.

use jiff::SignedDuration;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::ResourceExt;

use super::{
    budget::within_budget,
    credentials, gpus,
    verdict::{FALSE, TRUE, UNKNOWN, Verdict, verdict},
    view::{View, makes, told},
};
use crate::{
    api::{
        BackendReport, DownloadStatus, EngineState, InferenceReplicaStatus, conditions as types, conditions::reason,
    },
    controller::{build::Tier, pods},
};

/// All conditions, in a fixed order.
pub fn all(view: &View<'_>) -> Vec<Verdict> {
    let stalled = stalled(view);
    let reconciling = if stalled.is_some() { None } else { reconciling(view) };
    let mut all = vec![ready(view)];
    all.extend(reconciling);
    all.extend(stalled);
    all.push(scheduled(view));
    all.extend(model_loaded(view));
    all.push(backends_available(view));
    all.push(credentials::accepted(view));
    all.push(credentials::closed(view));
    all.extend(gpus::healthy(view));
    all.extend(within_budget(view));
    all.push(degraded(view));
    all
}

fn ready(view: &View<'_>) -> Verdict {
    let ready = view.ready().count();
    if ready == 0 {
        return no_ready_pod(view);
    }
    let backends = backends_available(view);
    if backends.status != TRUE || backends.reason != reason::AVAILABLE {
        return Verdict {
            type_: types::READY,
            ..backends
        };
    }
    let first = view.active_backend().unwrap_or_default();
    let out = dead_backends(view).fold(String::new(), |out, report| {
        out + &format!("; backend {} is out ({})", report.name, report.reason)
    });
    let message = format!(
        "{ready} of {} replicas are Ready, backend {first} answers first{out}",
        view.wanted()
    );
    verdict(types::READY, TRUE, reason::AVAILABLE, message)
}

/// Why there is no Ready pod: what the pods say, else the engine, else that they are not there yet.
fn no_ready_pod(view: &View<'_>) -> Verdict {
    if view.wanted() == 0 {
        let released = within_budget(view).filter(|_| view.released().is_some());
        let message = released.map_or_else(
            || "spec.replicas is 0: set it to 1 or more".to_owned(),
            |why| why.message,
        );
        return verdict(types::READY, FALSE, reason::SCALED_TO_ZERO, message);
    }
    if let Some(problem) = view.problem.as_ref().filter(|_| view.members.is_empty()) {
        return verdict(types::READY, FALSE, problem.reason, problem.message.clone());
    }
    if let Some((reason, message)) = pod_trouble(view) {
        return verdict(types::READY, FALSE, reason, message);
    }
    if let Some(loaded) = model_loaded(view).filter(|l| l.status == FALSE) {
        return Verdict {
            type_: types::READY,
            ..loaded
        };
    }
    if view.members.is_empty() {
        return verdict(types::READY, FALSE, reason::PENDING, "the pods are being created");
    }
    let message = format!("none of {} pods is Ready yet", view.members.len());
    verdict(types::READY, FALSE, reason::NO_READY_REPLICAS, message)
}

/// The gravest failure of the pods that there are, else why there are not more.
fn pod_trouble(view: &View<'_>) -> Option<(&'static str, String)> {
    let failure = pods::gravest(view.pods()).map(|failure| (failure.reason, failure.message));
    failure.or_else(|| Some((reason::PODS_REFUSED, refused(view.refusals().next()?))))
}

fn refused((workload, why): (&Deployment, &str)) -> String {
    format!(
        "pods of {} cannot be created: {}. Mend what it names: a quota or the pod security of the namespace, or podTemplate.",
        workload.name_any(),
        why.trim_end_matches('.')
    )
}

/// Evictions of pods that are older explain no stall of now: the longest deadline is below five hours.
const EVICTED_WITHIN: SignedDuration = SignedDuration::from_hours(6);

/// Present only while true (kstatus).
fn reconciling(view: &View<'_>) -> Option<Verdict> {
    let says = |message: String| Some(verdict(types::RECONCILING, TRUE, reason::ROLLING_OUT, message));
    if view.deployments.is_empty() {
        return says("the children are being created".into());
    }
    if let Some(deployment) = view.deployments.iter().find(|d| !is_rolled_out(d)) {
        return says(format!("{} is being rolled out", deployment.name_any()));
    }
    if let Some(kept) = view.kept.first() {
        return says(format!("{kept} stays until the new pods are Ready"));
    }
    let generation = Some(view.generation);
    let mut staying = view
        .members
        .iter()
        .filter(|m| m.pod.metadata.deletion_timestamp.is_none());
    let behind = staying.find(|m| m.report.and_then(|r| r.observed_generation) < generation)?;
    says(format!(
        "replica {} has not acted on generation {} yet",
        behind.pod.name_any(),
        view.generation
    ))
}

/// The newest template has been rolled out completely once; a pod that fails later is no rollout.
fn is_rolled_out(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else { return false };
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let updated = status.updated_replicas.unwrap_or(0);
    status.observed_generation >= deployment.metadata.generation
        && updated == wanted
        && status.replicas.unwrap_or(0) == wanted
        && (wanted == 0 || progressing(deployment) == Some("NewReplicaSetAvailable"))
}

/// Reason of the Deployment's own Progressing condition.
fn progressing(deployment: &Deployment) -> Option<&str> {
    told(deployment, "Progressing")?.reason.as_deref()
}

/// Present only while true (kstatus).
fn stalled(view: &View<'_>) -> Option<Verdict> {
    if let Some(problem) = &view.problem {
        return Some(verdict(types::STALLED, TRUE, problem.reason, problem.message.clone()));
    }
    if let Some(held) = gpus::stalled(view) {
        return Some(held);
    }
    let overdue = view.overdue().map(ResourceExt::name_any);
    let late = overdue.or_else(|| {
        let mut deployments = view.deployments.iter();
        let late = deployments.find(|d| progressing(d) == Some("ProgressDeadlineExceeded"));
        late.map(ResourceExt::name_any)
    })?;
    // Pods that were evicted one after the other look well while they last.
    let recent = |pod: &&Pod| {
        let created = pod.metadata.creation_timestamp.as_ref();
        created.is_some_and(|created| view.now.duration_since(created.0) < EVICTED_WITHIN)
    };
    let evicted = || Some(pods::gravest(view.ended.iter().copied().filter(recent))?.message);
    let cause = pod_trouble(view).map(|(_, message)| message).or_else(evicted);
    let cause = cause.unwrap_or_else(|| "see the conditions of its pods".to_owned());
    let message = format!("{late} made no progress within its deadline: {cause}");
    Some(verdict(
        types::STALLED,
        TRUE,
        reason::PROGRESS_DEADLINE_EXCEEDED,
        message,
    ))
}

fn scheduled(view: &View<'_>) -> Verdict {
    let mut unschedulable = view.pods().filter_map(pods::classify);
    if let Some(failure) = unschedulable.find(|f| f.reason == reason::UNSCHEDULABLE) {
        return verdict(types::SCHEDULED, FALSE, failure.reason, failure.message);
    }
    if view.wanted() == 0 {
        return verdict(types::SCHEDULED, TRUE, reason::SCALED_TO_ZERO, "no pods are wanted");
    }
    let placed = view
        .members
        .iter()
        .filter(|m| pods::condition(m.pod, "PodScheduled") == Some(TRUE));
    let placed = i32::try_from(placed.count()).unwrap_or(i32::MAX);
    if placed < view.wanted() {
        let message = format!("{placed} of {} pods have a node", view.wanted());
        return verdict(types::SCHEDULED, UNKNOWN, reason::PENDING, message);
    }
    verdict(types::SCHEDULED, TRUE, reason::AS_EXPECTED, "all pods have a node")
}

/// Only with a local backend.
fn model_loaded(view: &View<'_>) -> Option<Verdict> {
    view.spec.local()?;
    let says = |status, reason, message: String| Some(verdict(types::MODEL_LOADED, status, reason, message));
    let members = || view.members.iter().filter(|m| m.tier == Tier::Local);
    let engines = || members().filter_map(|m| m.report?.engine.as_ref());
    let with = |state: EngineState| engines().find(|e| e.state == state);
    // The last report of a container that was killed stays until the next one: only a Ready pod's counts.
    let mut ready = members()
        .filter(|m| m.is_ready())
        .filter_map(|m| m.report?.engine.as_ref());
    if ready.any(|e| e.state == EngineState::Ready) {
        return says(
            TRUE,
            reason::LOADED,
            "an engine has loaded the model and answers".into(),
        );
    }
    if view.spec.replicas() == 0 {
        return says(
            FALSE,
            reason::SCALED_TO_ZERO,
            "spec.replicas is 0: no engine is wanted".into(),
        );
    }
    if view.released().is_some() {
        return says(
            FALSE,
            reason::SCALED_TO_ZERO,
            "the budget does not pay for GPUs: no engine is wanted".into(),
        );
    }
    if view.idle {
        return says(FALSE, reason::SCALED_TO_ZERO, idle(view));
    }
    let mut reports = members().filter_map(|m| m.report);
    let failed = reports.find_map(|r| Some((r, r.engine.as_ref().filter(|e| e.state == EngineState::Failed)?)));
    if let Some((report, engine)) = failed {
        return says(FALSE, why_failed(report), or(&engine.message, "the engine gave up"));
    }
    if let Some(failure) = pods::gravest(members().map(|m| m.pod)) {
        return says(FALSE, failure.reason, failure.message);
    }
    let mut refusals = view.refusals().filter(|(workload, _)| makes(workload, Tier::Local));
    if let Some(refusal) = refusals.next().filter(|_| members().next().is_none()) {
        return says(FALSE, reason::PODS_REFUSED, refused(refusal));
    }
    if let Some(engine) = with(EngineState::Restarting) {
        return says(
            FALSE,
            reason::ENGINE_RESTARTING,
            or(&engine.message, "the engine is being restarted"),
        );
    }
    if let Some(engine) = with(EngineState::Downloading) {
        return says(FALSE, reason::DOWNLOADING, downloading(engine.download.as_ref()));
    }
    if let Some(engine) = with(EngineState::Loading) {
        return says(
            FALSE,
            reason::LOADING,
            or(&engine.message, "the engine is loading the model"),
        );
    }
    if view.is_waking() {
        return says(FALSE, reason::WAKING, "local pods come back".into());
    }
    says(UNKNOWN, reason::PENDING, "no engine has reported yet".into())
}

fn idle(view: &View<'_>) -> String {
    let after = view
        .spec
        .scale_to_zero
        .as_ref()
        .map(|terms| terms.idle_after.to_string());
    format!(
        "there was no request for {}: the local pods are away until the next one",
        after.unwrap_or_default()
    )
}

/// The replica gives the reason with its backends.
fn why_failed(report: &InferenceReplicaStatus) -> &'static str {
    let told = |reason: &&str| report.backends.iter().any(|backend| backend.reason == *reason);
    reason::DOWNLOAD_FAILURES
        .into_iter()
        .find(told)
        .unwrap_or(reason::ENGINE_START_FAILED)
}

/// In quarters: eight pods that download must not be eight times twenty writes.
fn downloading(download: Option<&DownloadStatus>) -> String {
    let Some((download, total)) = download.and_then(|d| Some((d, d.total.filter(|total| *total > 0)?))) else {
        return "the model is being downloaded".to_owned();
    };
    let quarters = download.bytes.saturating_mul(4) / total;
    let bytes = total / 4 * quarters.min(3);
    format!("the model is being downloaded: at least {bytes} of {total} bytes are there")
}

fn or(message: &str, otherwise: &str) -> String {
    if message.is_empty() { otherwise } else { message }.to_owned()
}

fn backends_available(view: &View<'_>) -> Verdict {
    let says = |status, reason, message| verdict(types::BACKENDS_AVAILABLE, status, reason, message);
    if let Some(active) = view.answering_backend() {
        return says(TRUE, reason::AVAILABLE, format!("backend {active} takes requests"));
    }
    if let Some(held) = view.held_backend() {
        let (reason, why) = if view.idle {
            (reason::SCALED_TO_ZERO, idle(view))
        } else {
            (reason::WAKING, "the local pods come back".to_owned())
        };
        return says(
            TRUE,
            reason,
            format!("{why}; requests for backend {held} are held meanwhile"),
        );
    }
    if let Some(spent) = within_budget(view).filter(|_| view.available().next().is_some()) {
        let message = format!("only paid backends could take requests: {}", spent.message);
        return says(FALSE, spent.reason, message);
    }
    let refusals: Vec<&BackendReport> = view
        .spec
        .backends
        .iter()
        .filter_map(|b| refusal(view, &b.name))
        .collect();
    if refusals.is_empty() {
        return says(
            UNKNOWN,
            reason::PENDING,
            "no Ready replica has reported on the backends yet".into(),
        );
    }
    let words: Vec<String> = refusals.iter().map(|r| refusal_words(r)).collect();
    let message = format!("no backend takes requests: {}", words.join("; "));
    let starting = refusals.iter().all(|r| is_starting(r));
    let reason = if starting {
        reason::PENDING
    } else {
        reason::NO_BACKEND_AVAILABLE
    };
    says(FALSE, reason, message)
}

/// On its way, which is neither good nor bad.
fn is_starting(report: &BackendReport) -> bool {
    [reason::PENDING, reason::DOWNLOADING, reason::LOADING].contains(&report.reason.as_str())
}

/// The first replica's report that a backend may not be sent to.
fn refusal<'a>(view: &View<'a>, backend: &str) -> Option<&'a BackendReport> {
    view.backend(backend).into_iter().find(|b| !b.available)
}

fn refusal_words(report: &BackendReport) -> String {
    let BackendReport {
        name,
        available: _,
        reason,
        message,
    } = report;
    if message.is_empty() {
        format!("{name}: {reason}")
    } else {
        format!("{name}: {reason} ({message})")
    }
}

/// Always present. Of several causes the first in this order: a fault of our own, pods, engines, backends, rate limits, overload.
fn degraded(view: &View<'_>) -> Verdict {
    let says = |status, reason, message| verdict(types::DEGRADED, status, reason, message);
    let reports = || view.spec.backends.iter().flat_map(|b| view.backend(&b.name));
    let with = |reason: &'static str| {
        reports()
            .find(|b| b.reason == reason)
            .map(|b| (reason, backend_words(b)))
    };
    let cause = with(reason::INTERNAL_ERROR)
        .or_else(|| pod_trouble(view))
        .or_else(|| engine_trouble(view))
        .or_else(|| unavailable(view))
        .or_else(|| with(reason::UPSTREAM_RATE_LIMITED))
        .or_else(|| saturated(view));
    match cause {
        Some((reason, message)) => says(TRUE, reason, message),
        None => says(
            FALSE,
            reason::AS_EXPECTED,
            "nothing works worse than it should".to_owned(),
        ),
    }
}

/// While the model is on its way, which is told elsewhere, nobody wonders.
fn saturated(view: &View<'_>) -> Option<(&'static str, String)> {
    let loaded = model_loaded(view).is_none_or(|loaded| loaded.status == TRUE);
    let mut ready = view.ready().filter(|_| loaded);
    let member = ready.find(|m| m.report.is_some_and(|report| report.saturated))?;
    let message = format!(
        "pod {} turns requests away (503): status.errors says why; raise replicas, serving.maxConcurrent, serving.queue, or a backend's rateLimit",
        member.pod.name_any()
    );
    Some((reason::SATURATED, message))
}

fn backend_words(report: &BackendReport) -> String {
    format!("backend {}: {}", report.name, or(&report.message, &report.reason))
}

fn engine_trouble(view: &View<'_>) -> Option<(&'static str, String)> {
    let engines = view
        .members
        .iter()
        .filter_map(|m| Some((m, m.report?, m.report?.engine.as_ref()?)));
    let trouble = |report, state| match state {
        EngineState::Failed => Some(why_failed(report)),
        EngineState::Restarting => Some(reason::ENGINE_RESTARTING),
        EngineState::Downloading | EngineState::Loading | EngineState::Ready => None,
    };
    let (member, engine, reason) = engines
        .into_iter()
        .find_map(|(m, r, e)| Some((m, e, trouble(r, e.state)?)))?;
    let message = format!(
        "pod {}: {}",
        member.pod.name_any(),
        or(&engine.message, "the engine does not answer")
    );
    Some((reason, message))
}

/// A backend that nobody may send to, although it is not on its way.
fn unavailable(view: &View<'_>) -> Option<(&'static str, String)> {
    let dead = dead_backends(view).next()?;
    Some((reason::BACKEND_UNAVAILABLE, format!("backend {}", refusal_words(dead))))
}

/// A refusal of every backend that nobody may send to.
fn dead_backends<'a>(view: &View<'a>) -> impl Iterator<Item = &'a BackendReport> {
    view.spec.backends.iter().filter_map(|b| {
        let reports = view.backend(&b.name);
        let nobody = !reports.is_empty() && !reports.iter().any(|r| r.available || is_starting(r));
        nobody.then(|| refusal(view, &b.name)).flatten()
    })
}
