//! How many pods of a tier an eviction, for example of a node that is drained, may take at a time.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
        util::intstr::IntOrString,
    },
};

use super::{Subject, Tier};
use crate::api::names;

/// Fewer pods have none: it would hold up the drain of a node for ever.
const FROM: i32 = 2;

/// One pod at a time, as in a rollout; one that is not Ready is in nobody's way. Of a model that is `spread` over nodes any pod ends the
/// whole group with it, so its followers count too.
pub fn build(subject: &Subject, tier: Tier, replicas: i32, spread: bool) -> Option<PodDisruptionBudget> {
    let selector = if spread { groups(subject) } else { pods(subject, tier) };
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

fn pods(subject: &Subject, tier: Tier) -> LabelSelector {
    LabelSelector {
        match_labels: Some(tier.selector(&subject.name)),
        ..LabelSelector::default()
    }
}

fn groups(subject: &Subject) -> LabelSelector {
    let tiers = [Tier::Local, Tier::Follower].map(|tier| tier.as_str().to_owned());
    LabelSelector {
        match_labels: Some(subject.selector()),
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: names::LABEL_TIER.to_owned(),
            operator: "In".to_owned(),
            values: Some(tiers.into()),
        }]),
    }
}
