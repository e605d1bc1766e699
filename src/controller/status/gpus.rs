//! `GPUHealthy`: what replicas report of their GPUs, what pods left behind that gave up on theirs, and pods that are held.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{
    verdict::Verdict,
    view::{Member, View},
};
use crate::{
    api::{EngineState, GpuFaultReason, GpuSuspect, GpuTrouble, Gpus, conditions as types, conditions::reason},
    controller::{
        build::Tier,
        pods::{GpuEnd, gpu_end},
    },
    policy::gpu_trouble::{REPLACEMENTS, UNKNOWN, WINDOW},
};

/// Only with a local backend that has GPUs, or when a fault is known all the same.
pub fn healthy(view: &View<'_>) -> Option<Verdict> {
    let verdict = |status, reason, message: String| Verdict {
        type_: types::GPU_HEALTHY,
        status,
        reason,
        message,
    };
    let (_, local) = view.spec.local()?;
    let members = || view.members.iter().filter(|member| member.tier == Tier::Local);
    let known = |pod: &Pod| unhealthy(pod, local.gpus.as_ref()?);
    let faults = members().filter_map(|member| fault(member).or_else(|| known(member.pod)));
    let followers = view.followers.iter().filter_map(|pod| left(pod).or_else(|| known(pod)));
    let faults: Vec<(&'static str, String)> = faults.chain(followers).collect();
    for reason in [reason::GPU_FAULTY, reason::CONTEXT_POISONED, reason::GPU_UNAVAILABLE] {
        if let Some((reason, message)) = faults.iter().find(|(found, _)| *found == reason) {
            return Some(verdict("False", reason, message.clone()));
        }
    }
    let mut seen = members().filter_map(|member| member.report?.gpu.as_ref());
    if local.gpus.is_none() && !seen.any(|gpu| !gpu.devices.is_empty()) {
        return None;
    }
    let serves = |member: &Member<'_>| {
        let engine = member.report.and_then(|report| report.engine.as_ref());
        member.is_ready() && engine.is_some_and(|engine| engine.state == EngineState::Ready)
    };
    if members().any(serves) {
        return Some(verdict(
            "True",
            reason::AS_EXPECTED,
            "no fault of a GPU is known".to_owned(),
        ));
    }
    Some(verdict(
        "Unknown",
        reason::PENDING,
        "no engine computes on a GPU yet".to_owned(),
    ))
}

/// The fault of a pod: what its runtime reports, else what it left behind.
fn fault(member: &Member<'_>) -> Option<(&'static str, String)> {
    let reported = member.report.and_then(|report| report.gpu.as_ref()?.fault.as_ref());
    if let Some(fault) = reported {
        let reason = match fault.reason {
            GpuFaultReason::ContextPoisoned => reason::CONTEXT_POISONED,
            GpuFaultReason::GPUFaulty => reason::GPU_FAULTY,
        };
        return Some((reason, told(member.pod, &fault.suspects, &fault.message)));
    }
    if let Some(why) = member
        .report
        .and_then(|report| report.gpu.as_ref()?.unavailable.as_ref())
    {
        let message = format!(
            "pod {} on node {}: its container has no driver ({why}), so an engine computes without GPUs, if it can; the usual cause is that \
             podTemplate.runtimeClassName does not name the runtime class of NVIDIA's container toolkit",
            member.pod.name_any(),
            node(member.pod)
        );
        return Some((reason::GPU_UNAVAILABLE, message));
    }
    left(member.pod)
}

/// What a pod left behind whose runtime gave up.
fn left(pod: &Pod) -> Option<(&'static str, String)> {
    let GpuEnd {
        reason,
        message,
        suspects,
        ..
    } = gpu_end(pod)?;
    Some((reason, told(pod, &suspects, &message)))
}

fn told(pod: &Pod, suspects: &[GpuSuspect], message: &str) -> String {
    format!(
        "pod {} on node {}, {}: {message}",
        pod.name_any(),
        node(pod),
        devices(suspects)
    )
}

/// What the kubelet knows of the pod's devices from their plugin or driver, which may see what no process has met yet.
fn unhealthy(pod: &Pod, gpus: &Gpus) -> Option<(&'static str, String)> {
    let containers = pod.status.as_ref()?.container_statuses.iter().flatten();
    let resources = containers.flat_map(|container| container.allocated_resources_status.iter().flatten());
    let ours = resources.filter(|resource| {
        if gpus.are_claimed() {
            resource.name.starts_with("claim:")
        } else {
            resource.name == gpus.resource_name()
        }
    });
    let mut devices = ours.flat_map(|resource| resource.resources.iter().flatten());
    let bad = devices.find(|device| device.health.as_deref() == Some("Unhealthy"))?;
    let said = bad
        .message
        .as_deref()
        .map_or_else(String::new, |message| format!(": {message}"));
    let message = format!(
        "pod {} on node {}: the kubelet calls device {} unhealthy{said}",
        pod.name_any(),
        node(pod),
        bad.resource_id
    );
    Some((reason::GPU_FAULTY, message))
}

fn node(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.node_name.as_deref()).unwrap_or("unknown")
}

fn devices(suspects: &[GpuSuspect]) -> String {
    if suspects.is_empty() {
        return format!("GPU {UNKNOWN}");
    }
    let named = suspects.iter().map(|suspect| match suspect.xid {
        Some(xid) => format!("{} (Xid {xid})", suspect.uuid),
        None => suspect.uuid.clone(),
    });
    format!("GPU {}", named.collect::<Vec<_>>().join(", "))
}

/// The deployment needs help: pods are held, so that nobody else is given a faulty GPU.
pub fn stalled(view: &View<'_>) -> Option<Verdict> {
    let GpuTrouble {
        device,
        node,
        xid,
        message,
        held,
        ..
    } = view.gpus.iter().find(|row| !row.held.is_empty())?;
    let xid = xid.map_or_else(String::new, |xid| format!(" (Xid {xid})"));
    let pods: Vec<String> = view
        .members
        .iter()
        .filter(|member| member.pod.uid().is_some_and(|uid| held.contains(&uid)))
        .map(|member| member.pod.name_any())
        .collect();
    Some(Verdict {
        type_: types::STALLED,
        status: "True",
        reason: reason::GPU_FAULTY,
        message: format!(
            "GPU {device}{xid} of node {node}: {REPLACEMENTS} pods were replaced within {} minutes and the next one failed too ({message}). \
             Pod {} stays without an engine, so that the GPU is given to nobody. Reset or replace the GPU, then delete the pod.",
            WINDOW.as_mins(),
            pods.join(", "),
        ),
    })
}
