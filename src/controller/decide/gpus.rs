//! Pods whose runtime gave up because of a GPU: whether they are replaced or held.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Decisions, Doomed, Situation};
use crate::{
    api::GpuTrouble,
    controller::{
        build::{Tier, tier_of},
        dereference::Live,
        pods::{gpu_end, has_ended},
    },
    policy::gpu_trouble::{Failure, REPLACEMENTS, WINDOW, held_for, is_replaced, next_change, note},
};

/// Takes note of the pods that gave up.
pub fn decide(situation: &Situation<'_>, decisions: &mut Decisions) {
    let Situation { subject, live, now, .. } = *situation;
    let local = live
        .pods
        .iter()
        .filter(|pod| tier_of(subject, pod) == Some(Tier::Local));
    let failures: Vec<Failure> = local.filter_map(|pod| failure(pod, now)).collect();
    let exists = |uid: &str| {
        live.pods
            .iter()
            .any(|pod| stays(pod) && !has_ended(pod) && pod.uid().as_deref() == Some(uid))
    };
    let rows = &mut decisions.record.gpus;
    let before = rows.clone();
    note(rows, &failures, exists, now);
    decisions.urgent |= *rows != before;
    let again = next_change(rows, now);
    decisions.look_again = decisions.look_again.into_iter().chain(again).min();
    for (name, orders) in &mut decisions.orders {
        orders.hold = told(&decisions.record.gpus, live, name);
    }
    decisions.replace = doomed(&decisions.record.gpus, live);
}

/// Pods that are recorded as replaced and still there.
pub fn doomed(rows: &[GpuTrouble], live: &Live) -> Vec<Doomed> {
    let there = live.pods.iter().filter(|pod| stays(pod));
    let named = there.filter_map(|pod| {
        Some(Doomed {
            name: pod.name_any(),
            uid: pod.uid()?,
        })
    });
    named.filter(|pod| is_replaced(rows, &pod.uid)).collect()
}

/// Why no engine may run in pod `name`.
pub fn told(rows: &[GpuTrouble], live: &Live, name: &str) -> Option<String> {
    let pod = live.pods.iter().find(|pod| pod.name_any() == name)?;
    let row = held_for(rows, pod.metadata.uid.as_deref()?)?;
    let GpuTrouble { device, node, .. } = row;
    Some(format!(
        "{REPLACEMENTS} pods failed on GPU {device} of node {node} within {} minutes: this one keeps it from being given to another",
        WINDOW.as_mins()
    ))
}

fn stays(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
}

/// A pod that did its failing long ago is left alone.
fn failure(pod: &Pod, now: Timestamp) -> Option<Failure> {
    let end = gpu_end(pod)?;
    let age = end.at.map_or(SignedDuration::ZERO, |at| now.duration_since(at));
    (age < WINDOW).then_some(Failure {
        pod_uid: pod.uid()?,
        node: pod.spec.as_ref()?.node_name.clone().unwrap_or_default(),
        message: end.message,
        suspects: end.suspects,
    })
}
