//! One `InferenceReplica` a pod. It goes when its pod is gone: the sweep removes what is not built here.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Subject, Tier, group};
use crate::{
    api::{InferenceReplica, InferenceReplicaSpec, names},
    controller::{
        decide::Orders,
        dereference::{Live, controller_of},
        pods::is_its_replica,
    },
};

/// The replicas of all pods that exist and answer, ending ones included: they still have news to tell. A StatefulSet gives a new pod the
/// name of the one before: that one's replica goes first, with what it reported last.
pub fn build(subject: &Subject, live: &Live, orders: &BTreeMap<String, Orders>) -> Vec<InferenceReplica> {
    let told = |pod: &Pod| orders.get(&pod.name_any()).cloned().unwrap_or_default();
    live.pods
        .iter()
        .filter(|pod| !live.replicas.iter().any(|replica| is_of_namesake(replica, pod)))
        .filter_map(|pod| replica(subject, pod, told(pod)))
        .collect()
}

fn is_of_namesake(replica: &InferenceReplica, pod: &Pod) -> bool {
    replica.metadata.name == pod.metadata.name && !is_its_replica(pod, replica)
}

fn replica(subject: &Subject, pod: &Pod, orders: Orders) -> Option<InferenceReplica> {
    let tier = tier_of(subject, pod).filter(|tier| *tier != Tier::Follower)?;
    let Orders {
        circuits,
        budget,
        shares,
        hold,
    } = orders;
    let finalizers = budget.is_some().then(|| vec![names::FINALIZER_BUDGET.to_owned()]);
    let mut replica = InferenceReplica::new(
        pod.metadata.name.as_deref()?,
        InferenceReplicaSpec {
            pod_uid: pod.uid()?,
            deployment_name: subject.name.clone(),
            deployment_uid: subject.uid.clone(),
            budget,
            circuits,
            shares,
            engine_hold: hold,
        },
    );
    replica.metadata = subject.meta(pod.name_any(), subject.tier_labels(tier));
    replica.metadata.finalizers = finalizers;
    Some(replica)
}

/// The tier of a pod, if a ReplicaSet of ours made it, or a StatefulSet of a LeaderWorkerSet of ours: a label alone proves nothing.
pub fn tier_of(subject: &Subject, pod: &Pod) -> Option<Tier> {
    let owner = controller_of(&pod.metadata)?;
    let label = pod.labels().get(names::LABEL_TIER)?;
    let mut tiers = [Tier::Local, Tier::Remote, Tier::Follower].into_iter();
    let tier = tiers.find(|t| t.as_str() == label)?;
    let below = |workload: String| owner.name.starts_with(&format!("{workload}-"));
    let ours = match (owner.kind.as_str(), tier) {
        ("ReplicaSet", Tier::Local | Tier::Remote) => below(tier.workload(&subject.name)),
        ("StatefulSet", Tier::Local) => owner.name == group::name(subject),
        ("StatefulSet", Tier::Follower) => below(group::name(subject)),
        _ => false,
    };
    ours.then_some(tier)
}
