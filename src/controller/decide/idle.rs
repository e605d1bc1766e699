//! `scaleToZero`: whether the local pods are away because nobody asks for them, from what the replicas say.
//!
//! That they are is recorded nowhere but in an annotation of their workload: its 0 pods alone may as well be the budget's doing, or the
//! wish of a user, and those come back by themselves.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Decisions, Situation};
use crate::{
    api::{InferenceDeploymentSpec, names},
    controller::{
        build::{Subject, Tier, tier_of},
        dereference::Live,
        pods::{classify, has_ended, is_its_replica, is_ready},
    },
    policy::scale_to_zero::{Member, State, away},
};

/// Decides whether they are away. They go on a live read only: a request that the cache does not know of keeps them.
pub fn decide(situation: &Situation<'_>, decisions: &mut Decisions) {
    let spec = &situation.deployment.spec;
    if spec.scale_to_zero.is_none() || spec.replicas() == 0 {
        return;
    }
    let before = are_away(situation.subject, situation.live);
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

/// Local pods that were wanted last; groups of them when the model is spread over nodes.
pub fn local_pods(subject: &Subject, live: &Live) -> Option<i32> {
    match live.groups.first() {
        Some(group) => group.spec.replicas,
        None => live.workload(&Tier::Local.workload(&subject.name))?.spec.replicas,
    }
}

fn are_away(subject: &Subject, live: &Live) -> bool {
    let deployment = live.workload(&Tier::Local.workload(&subject.name));
    let groups = live.groups.iter().map(|group| group.annotations());
    let mut noted = groups.chain(deployment.map(ResourceExt::annotations));
    noted.any(|annotations| annotations.contains_key(names::ANNOTATION_IDLE))
}

/// All that take requests; of those that leave only the GPU-less ones, which hold them.
fn members(situation: &Situation<'_>) -> Vec<Member> {
    let pods = situation.live.pods.iter().map(AsRef::as_ref);
    pods.filter(|pod| !has_ended(pod))
        .filter_map(|pod| {
            let local = match tier_of(situation.subject, pod)? {
                Tier::Local => true,
                Tier::Remote => false,
                Tier::Follower => return None,
            };
            let state = state(pod);
            (!local || state != State::Leaving).then(|| Member {
                local,
                state,
                wanted: wanted(situation, pod),
            })
        })
        .collect()
}

fn state(pod: &Pod) -> State {
    if pod.metadata.deletion_timestamp.is_some() {
        State::Leaving
    } else if is_ready(pod) {
        State::Serving
    } else if classify(pod).is_some() {
        State::Failing
    } else {
        State::Starting
    }
}

/// Under another spec a replica may have called nobody idle for another time.
fn wanted(situation: &Situation<'_>, pod: &Pod) -> Option<bool> {
    let mut replicas = situation.live.replicas.iter();
    let status = replicas.find(|replica| is_its_replica(pod, replica))?.status.as_ref()?;
    let current = status.observed_generation >= situation.deployment.metadata.generation;
    status.wanted.filter(|wanted| *wanted || current)
}
