//! One `InferenceReplica` a pod. It goes when its pod is gone: the sweep removes what is not built here.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Subject, Tier};
use crate::{
    api::{InferenceReplica, InferenceReplicaSpec, names},
    controller::{
        decide::Orders,
        dereference::{Live, controller_of},
    },
};

/// The replicas of all pods that exist, ending ones included: they still have news to tell.
pub fn build(subject: &Subject, live: &Live, orders: &BTreeMap<String, Orders>) -> Vec<InferenceReplica> {
    let told = |pod: &Pod| orders.get(&pod.name_any()).cloned().unwrap_or_default();
    live.pods
        .iter()
        .filter_map(|pod| replica(subject, pod, told(pod)))
        .collect()
}

fn replica(subject: &Subject, pod: &Pod, orders: Orders) -> Option<InferenceReplica> {
    let tier = tier_of(subject, pod)?;
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

/// The tier of a pod, if a ReplicaSet of ours made it: a label alone proves nothing.
pub fn tier_of(subject: &Subject, pod: &Pod) -> Option<Tier> {
    let owner = controller_of(&pod.metadata)?;
    let label = pod.labels().get(names::LABEL_TIER)?;
    let tier = [Tier::Local, Tier::Remote].into_iter().find(|t| t.as_str() == label)?;
    let prefix = format!("{}-", tier.workload(&subject.name));
    (owner.kind == "ReplicaSet" && owner.name.starts_with(&prefix)).then_some(tier)
}
