//! GPU time of a priced local backend: what the ledger charges, and how many pods it lets run.

use std::{borrow::Cow, time::Duration};

use k8s_openapi::api::core::v1::Pod;

use crate::{
    api::{BudgetStatus, InferenceDeploymentSpec, NanoUsd, OnExhausted},
    controller::{
        build::{Subject, Tier, grace_seconds, tier_of},
        dereference::Live,
        pods::{has_ended, scheduled_at},
    },
    policy::budget::ledger::{GpuHold, GpuTerms},
};

/// What the spec says; nothing without a budget and a price.
pub fn terms(spec: &InferenceDeploymentSpec) -> Option<GpuTerms> {
    let budget = spec.budget.as_ref()?;
    let (_, local) = spec.local()?;
    let (price, gpus) = (local.price.as_ref()?, local.gpus.as_ref()?);
    let per_gpu_hour = price.per_gpu_hour.usd();
    Some(GpuTerms {
        // The pod that leads a group stands for all of it.
        per_pod_hour: NanoUsd(
            per_gpu_hour
                .0
                .saturating_mul(u64::from(gpus.count().saturating_mul(local.nodes()))),
        ),
        leave: Duration::from_secs(u64::try_from(grace_seconds(spec)).unwrap_or(0)),
        pods: u32::try_from(spec.replicas()).unwrap_or(0),
        release: budget.on_exhausted == Some(OnExhausted::ScaleToZero),
    })
}

/// The GPUs of a pod: its node keeps them from the moment it was given the pod until the pod has ended.
pub fn hold(subject: &Subject, live: &Live, pod_uid: &str) -> Option<GpuHold> {
    let local = |pod: &&Pod| tier_of(subject, pod) == Some(Tier::Local) && !has_ended(pod);
    let mut pods = live.pods.iter().map(AsRef::as_ref).filter(local);
    let pod = pods.find(|pod| pod.metadata.uid.as_deref() == Some(pod_uid))?;
    Some(GpuHold {
        since: scheduled_at(pod)?,
        leaves: pod.metadata.deletion_timestamp.is_some(),
    })
}

/// The spec with as many local pods as the budget pays for. Before the ledger says so none is added; while it is lost it says nothing.
pub fn affordable<'a>(
    spec: &'a InferenceDeploymentSpec,
    ledger: Option<&BudgetStatus>,
    subject: &Subject,
    live: &Live,
) -> Cow<'a, InferenceDeploymentSpec> {
    let releases = terms(spec).is_some_and(|terms| terms.release);
    if !releases || ledger.is_some_and(|ledger| ledger.lost.is_some()) {
        return Cow::Borrowed(spec);
    }
    let most = match ledger.and_then(|ledger| ledger.gpu_time.as_ref()) {
        Some(time) => i32::try_from(time.wanted).unwrap_or(i32::MAX),
        None => running(subject, live),
    };
    if spec.replicas() <= most {
        return Cow::Borrowed(spec);
    }
    Cow::Owned(InferenceDeploymentSpec {
        replicas: Some(most),
        ..spec.clone()
    })
}

fn running(subject: &Subject, live: &Live) -> i32 {
    let stays = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none() && !has_ended(pod);
    let pods = live.pods.iter().map(AsRef::as_ref).filter(stays);
    let local = pods.filter(|pod| tier_of(subject, pod) == Some(Tier::Local));
    i32::try_from(local.count()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controller::build::fixtures;

    #[test]
    fn a_group_costs_the_gpus_of_all_its_nodes() {
        let mut spec = fixtures::both().spec;
        spec.budget = serde_json::from_value(json!({"limit": "100"})).unwrap();
        spec.backends[0].local = serde_json::from_value(json!({
            "engine": "VLLM", "nodes": 2, "gpus": {"count": 8}, "price": {"perGpuHour": "2"},
        }))
        .unwrap();
        assert_eq!(terms(&spec).unwrap().per_pod_hour, NanoUsd(32_000_000_000));
    }
}
