//! `scaleToZero`: whether the local pods are away because nobody asks for them, from what the replicas say.
//!
//! That they are is recorded nowhere but in the Deployment of the local pods, which has 0 of them.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::Pod;

use super::{Decisions, Situation};
use crate::{
    api::{InferenceDeploymentSpec, InferenceReplica},
    controller::{
        build::{Subject, Tier, tier_of},
        dereference::Live,
        pods::{classify, has_ended, is_ready},
    },
    policy::scale_to_zero::{Member, State, away},
};

/// Decides whether they are away. They go on a live read only: a request that the cache does not know of keeps them.
pub fn decide(situation: &Situation<'_>, decisions: &mut Decisions) {
    let spec = &situation.deployment.spec;
    if spec.scale_to_zero.is_none() || spec.replicas() == 0 {
        return;
    }
    let before = local_pods(situation.subject, situation.live) == Some(0);
    let now = away(before, &members(situation));
    let unsure = now && !before && !situation.read_live;
    decisions.look_live |= unsure;
    decisions.idle = now && !unsure;
}

/// The spec with the pods that are wanted now.
pub fn awake(spec: &InferenceDeploymentSpec, idle: bool) -> Cow<'_, InferenceDeploymentSpec> {
    if !idle {
        return Cow::Borrowed(spec);
    }
    Cow::Owned(InferenceDeploymentSpec {
        replicas: Some(0),
        ..spec.clone()
    })
}

/// Local pods that were wanted last.
pub fn local_pods(subject: &Subject, live: &Live) -> Option<i32> {
    live.workload(&Tier::Local.workload(&subject.name))?.spec.replicas
}

fn members(situation: &Situation<'_>) -> Vec<Member> {
    let stays = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none() && !has_ended(pod);
    let pods = situation.live.pods.iter().map(AsRef::as_ref).filter(stays);
    pods.filter_map(|pod| {
        let tier = tier_of(situation.subject, pod)?;
        Some(Member {
            local: tier == Tier::Local,
            state: state(pod),
            wanted: wanted(situation, pod),
        })
    })
    .collect()
}

fn state(pod: &Pod) -> State {
    if is_ready(pod) {
        State::Serving
    } else if classify(pod).is_some() {
        State::Failing
    } else {
        State::Starting
    }
}

/// Under another spec a replica may have called nobody idle for another time.
fn wanted(situation: &Situation<'_>, pod: &Pod) -> Option<bool> {
    let of_pod = |replica: &&InferenceReplica| {
        replica.metadata.name == pod.metadata.name && pod.metadata.uid.as_ref() == Some(&replica.spec.pod_uid)
    };
    let status = situation.live.replicas.iter().find(of_pod)?.status.as_ref()?;
    let current = status.observed_generation >= situation.deployment.metadata.generation;
    status.wanted.filter(|wanted| *wanted || current)
}
