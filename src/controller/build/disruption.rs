//! How many pods of a tier an eviction, for example of a node that is drained, may take at a time.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{Subject, Tier};

/// Fewer pods have none: it would hold up the drain of a node for ever.
const FROM: i32 = 2;

/// One pod at a time, as in a rollout; one that is not Ready is in nobody's way.
pub fn build(subject: &Subject, tier: Tier, replicas: i32) -> Option<PodDisruptionBudget> {
    let selector = LabelSelector {
        match_labels: Some(tier.selector(&subject.name)),
        ..LabelSelector::default()
    };
    let spec = PodDisruptionBudgetSpec {
        max_unavailable: Some(IntOrString::Int(1)),
        selector: Some(selector),
        unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
        ..PodDisruptionBudgetSpec::default()
    };
    (replicas >= FROM).then(|| PodDisruptionBudget {
        metadata: subject.meta(tier.workload(&subject.name), subject.tier_labels(tier)),
        spec: Some(spec),
        status: None,
    })
}
