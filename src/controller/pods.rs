//! What is wrong with a pod, from its recorded status: the reason names it, the message says what to do (design section 6).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Pod};
use kube::ResourceExt;
use serde::Deserialize;

use crate::api::{GpuSuspect, InferenceReplica, conditions::reason};

/// Characters of what a runtime said, and of a device's UUID, and devices: what the schema takes.
const LONGEST_MESSAGE: usize = 512;
const LONGEST_UUID: usize = 96;
const MOST_DEVICES: usize = 16;

/// What is wrong with a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFailure {
    /// A reason constant.
    pub reason: &'static str,
    /// With the container, image or limit, and what to do.
    pub message: String,
}

/// The order in which failures of several pods are told: what the user must mend comes first.
const PRECEDENCE: [&str; 17] = [
    reason::IMAGE_PULL_FAILED,
    reason::CONTAINER_CONFIG_ERROR,
    reason::INIT_FAILED,
    reason::GPU_FAULTY,
    reason::CONTEXT_POISONED,
    reason::CUDA_OUT_OF_MEMORY,
    reason::DOWNLOAD_UNAUTHORIZED,
    reason::DOWNLOAD_NOT_FOUND,
    reason::DOWNLOAD_CHECKSUM_MISMATCH,
    reason::DOWNLOAD_NO_SPACE,
    reason::DOWNLOAD_FAILED,
    reason::ENGINE_START_FAILED,
    reason::OOM_KILLED,
    reason::CRASH_LOOP,
    reason::PROBE_FAILED,
    reason::UNSCHEDULABLE,
    reason::EVICTED,
];

/// The status of a pod's condition.
pub fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == type_).map(|c| c.status.as_str())
}

/// The kubelet calls it Ready.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready") == Some("True")
}

/// An evicted pod, and one of a node that was shut down, stays and speaks no more: it says nothing of now.
pub fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

/// It is this pod's, and not that of another one that had its name.
pub fn is_its_replica(pod: &Pod, replica: &InferenceReplica) -> bool {
    replica.metadata.name == pod.metadata.name && pod.metadata.uid.as_ref() == Some(&replica.spec.pod_uid)
}

/// When the pod was given to its node.
pub fn scheduled_at(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions
        .iter()
        .find(|c| c.type_ == "PodScheduled" && c.status == "True")?;
    let since = scheduled
        .last_transition_time
        .as_ref()
        .or(pod.metadata.creation_timestamp.as_ref());
    since.map(|time| time.0)
}

/// The gravest failure of `pods`, by a fixed precedence.
pub fn gravest<'a>(pods: impl Iterator<Item = &'a Pod>) -> Option<PodFailure> {
    let rank = |f: &PodFailure| PRECEDENCE.iter().position(|r| *r == f.reason);
    pods.filter_map(classify).min_by_key(rank)
}

/// What is wrong with one pod; `None` for a Ready one and for one that is merely starting.
pub fn classify(pod: &Pod) -> Option<PodFailure> {
    if condition(pod, "Ready") == Some("True") || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    // How its containers ended was the kubelet's will.
    if has_ended(pod) {
        return evicted(pod);
    }
    let status = pod.status.as_ref()?;
    let init = status.init_container_statuses.iter().flatten();
    let main = status.container_statuses.iter().flatten();
    unschedulable(pod)
        .or_else(|| init.clone().chain(main.clone()).find_map(not_started))
        .or_else(|| init.clone().find_map(init_failed))
        .or_else(|| main.clone().find_map(|c| ended(pod, c)))
}

fn failure(reason: &'static str, message: String) -> PodFailure {
    PodFailure { reason, message }
}

fn evicted(pod: &Pod) -> Option<PodFailure> {
    let status = pod.status.as_ref()?;
    let why = status.message.as_deref().unwrap_or("no reason given");
    (status.reason.as_deref() == Some("Evicted")).then(|| {
        let name = pod.name_any();
        failure(
            reason::EVICTED,
            format!("the kubelet evicted pod {name}: {why} Raise the pod's resource requests or free the node."),
        )
    })
}

fn unschedulable(pod: &Pod) -> Option<PodFailure> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions
        .iter()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False" && c.reason.as_deref() == Some("Unschedulable"))?;
    let why = found.message.as_deref().unwrap_or("the scheduler gives no reason");
    Some(failure(
        reason::UNSCHEDULABLE,
        format!(
            "no node fits pod {}: {why} Add such a node, or ask for less in gpus, resources or podTemplate.",
            pod.name_any()
        ),
    ))
}

/// The container waits for something that it will not get by itself.
fn not_started(container: &ContainerStatus) -> Option<PodFailure> {
    let ContainerStateWaiting { reason: why, message } = container.state.as_ref()?.waiting.as_ref()?;
    let (name, image) = (&container.name, &container.image);
    let detail = message.as_deref().map_or("the kubelet gives no message", plain);
    match why.as_deref()? {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError" => {
            Some(failure(
                reason::IMAGE_PULL_FAILED,
                format!(
                    "container {name} cannot get image {image}: {detail}. Check the image's name, that the registry is reachable, and the Secrets for pulling: podTemplate.imagePullSecrets, or runtime.imagePullSecrets of the operator's chart for all pods."
                ),
            ))
        }
        "CreateContainerConfigError" | "CreateContainerError" => Some(cannot_run(container, &format!(": {detail}"))),
        _ => None,
    }
}

fn cannot_run(container: &ContainerStatus, detail: &str) -> PodFailure {
    failure(
        reason::CONTAINER_CONFIG_ERROR,
        format!(
            "container {} of image {} cannot be run{detail}. Check podTemplate and what it refers to.",
            container.name, container.image
        ),
    )
}

/// The kubelet says the same with and without the words of its back-off: without, or the status would change with every try.
fn plain(message: &str) -> &str {
    message.split_once("ErrImagePull: ").map_or(message, |(_, cause)| cause)
}

/// One restart is no loop: it may have been the node's.
fn is_looping(container: &ContainerStatus) -> bool {
    let running = container.state.as_ref().is_some_and(|s| s.running.is_some());
    !running || container.restart_count >= 2
}

fn last_end(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let now = container.state.as_ref().and_then(|s| s.terminated.as_ref());
    now.or_else(|| container.last_state.as_ref()?.terminated.as_ref())
}

fn init_failed(container: &ContainerStatus) -> Option<PodFailure> {
    let end = last_end(container).filter(|end| end.exit_code != 0)?;
    Some(failure(
        reason::INIT_FAILED,
        format!(
            "init container {} of image {} ended with exit code {}{}. Check spec.runtimeImage: it must hold the runtime.",
            container.name,
            container.image,
            end.exit_code,
            words(end),
        ),
    ))
}

/// The container ran and ended.
fn ended(pod: &Pod, container: &ContainerStatus) -> Option<PodFailure> {
    let end = last_end(container)?;
    let (name, code) = (&container.name, end.exit_code);
    if end.reason.as_deref() == Some("OOMKilled") {
        return Some(out_of_memory(pod, name));
    }
    if let Some(report) = report(end) {
        return Some(failure(
            report.reason(),
            format!("container {name}: {}", report.message),
        ));
    }
    if !is_looping(container) {
        return None;
    }
    if matches!(end.reason.as_deref(), Some("StartError" | "ContainerCannotRun")) {
        return Some(cannot_run(container, &words(end)));
    }
    if matches!(code, 0 | 137 | 143) {
        return Some(failure(
            reason::PROBE_FAILED,
            format!(
                "the kubelet restarted container {name} (exit code {code}): its liveness probe /livez got no answer. Look for a starved CPU: raise resources.requests.cpu."
            ),
        ));
    }
    Some(failure(
        reason::CRASH_LOOP,
        format!(
            "container {name} of image {} ended with exit code {code}{}",
            container.image,
            words(end)
        ),
    ))
}

fn out_of_memory(pod: &Pod, name: &str) -> PodFailure {
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let limit = containers.filter(|c| c.name == name).find_map(memory_limit);
    let limit = limit.map_or_else(
        || "the node's memory".to_owned(),
        |l| format!("its memory limit of {l}"),
    );
    failure(
        reason::OOM_KILLED,
        format!(
            "container {name} was killed for exceeding {limit}: raise resources.limits.memory, or lower contextLength or parallel."
        ),
    )
}

fn memory_limit(container: &Container) -> Option<String> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    limits.get("memory").map(|q| q.0.clone())
}

/// The JSON that the runtime leaves behind when it gives up.
#[derive(Deserialize)]
struct LastWords {
    #[serde(default)]
    reason: String,
    message: String,
    #[serde(default)]
    devices: Vec<GpuSuspect>,
}

impl LastWords {
    /// The runtime spells its verdict as a reason of conditions; what is not known here is a failed start.
    fn reason(&self) -> &'static str {
        const KNOWN: [&str; 6] = [
            reason::GPU_FAULTY,
            reason::CUDA_OUT_OF_MEMORY,
            reason::INVALID_SPEC,
            reason::ENGINE_RESTARTING,
            reason::CONTEXT_POISONED,
            reason::OOM_KILLED,
        ];
        KNOWN
            .into_iter()
            .chain(reason::DOWNLOAD_FAILURES)
            .find(|known| *known == self.reason)
            .unwrap_or(reason::ENGINE_START_FAILED)
    }
}

/// What a runtime said that gave up because of a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuEnd {
    /// [`reason::CONTEXT_POISONED`] or [`reason::GPU_FAULTY`].
    pub reason: &'static str,
    /// What happened, within the bounds of the schema.
    pub message: String,
    /// Devices that it may be the fault of.
    pub suspects: Vec<GpuSuspect>,
    /// When it ended, by the node's clock.
    pub at: Option<Timestamp>,
}

/// The last end of a pod's container, when that was because of a GPU. A pod that goes, that came to serve again, or that ended and so gave
/// its GPUs back, is left alone.
pub fn gpu_end(pod: &Pod) -> Option<GpuEnd> {
    if pod.metadata.deletion_timestamp.is_some() || is_ready(pod) || has_ended(pod) {
        return None;
    }
    let containers = pod.status.as_ref()?.container_statuses.iter().flatten();
    let end = containers.into_iter().find_map(last_end)?;
    let words = report(end)?;
    let reason = words.reason();
    [reason::CONTEXT_POISONED, reason::GPU_FAULTY]
        .contains(&reason)
        .then(|| GpuEnd {
            reason,
            message: cut(&words.message, LONGEST_MESSAGE),
            suspects: words.devices.into_iter().filter(is_uuid).take(MOST_DEVICES).collect(),
            at: end.finished_at.as_ref().map(|at| at.0),
        })
}

/// The engine's container wrote it, which is trusted with nothing: what the schema would refuse is left out.
fn is_uuid(suspect: &GpuSuspect) -> bool {
    (1..=LONGEST_UUID).contains(&suspect.uuid.len()) && suspect.uuid.is_ascii()
}

/// The schema counts characters.
fn cut(text: &str, longest: usize) -> String {
    text.chars().take(longest).collect()
}

fn report(end: &ContainerStateTerminated) -> Option<LastWords> {
    serde_json::from_str(end.message.as_deref()?.trim()).ok()
}

/// The end of what the container said, for a message.
fn words(end: &ContainerStateTerminated) -> String {
    let Some(text) = end.message.as_deref().map(str::trim).filter(|t| !t.is_empty()) else {
        return String::new();
    };
    let lines: Vec<_> = text.lines().rev().take(3).collect();
    format!(": {}", lines.into_iter().rev().collect::<Vec<_>>().join(" | "))
}

#[cfg(test)]
mod tests;
