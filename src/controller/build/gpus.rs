//! Which node and which devices a pod gets for its `gpus`.

use k8s_openapi::api::{
    core::v1::{
        Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodResourceClaim,
        PodTemplateSpec, ResourceClaim, Toleration,
    },
    resource::v1::{
        CELDeviceSelector, DeviceClaim, DeviceRequest, DeviceSelector, ExactDeviceRequest, ResourceClaimSpec,
        ResourceClaimTemplate, ResourceClaimTemplateSpec,
    },
};
use serde_json::json;

use super::{Subject, Tier, revision};

use crate::{
    api::{Gpus, LocalBackend},
    policy::{quantity, support::NVIDIAS},
};

/// Name by which the container knows the claim of its pod.
const CLAIM: &str = "gpus";
const MIB: u64 = 1 << 20;

/// The extended resource that counts the GPUs, and how many; `None` when a claim holds them.
pub fn counted(gpus: &Gpus) -> Option<(&Gpus, u32)> {
    Some((gpus, gpus.count?)).filter(|_| !gpus.are_claimed())
}

/// What the labels of GPU feature discovery must say, in the names that it gives them: those of the resource, `nvidia.com/gpu` or a MIG
/// profile.
fn requirements(gpus: &Gpus) -> Vec<NodeSelectorRequirement> {
    let requirement = |label: &str, operator: &str, value: String| NodeSelectorRequirement {
        key: format!("{}.{label}", gpus.resource_name()),
        operator: operator.to_owned(),
        values: Some(vec![value]),
    };
    let product = gpus
        .product
        .iter()
        .map(|product| requirement("product", "In", product.clone()));
    // The label counts whole MiB. Of two numbers Kubernetes knows "greater than" only.
    let mebibytes = gpus.min_memory.as_ref().and_then(|memory| quantity::bytes(&memory.0));
    let memory = mebibytes.map(|bytes| requirement("memory", "Gt", bytes.div_ceil(MIB).saturating_sub(1).to_string()));
    product.chain(memory).collect()
}

/// The user's affinity with what `gpus` selects. Each of the user's terms is a choice of its own, so it is said in all of them.
pub fn affinity(theirs: Option<&Affinity>, gpus: Option<&Gpus>) -> Option<Affinity> {
    let ours = gpus.map(requirements).unwrap_or_default();
    if ours.is_empty() {
        return theirs.cloned();
    }
    let mut affinity = theirs.cloned().unwrap_or_default();
    let node: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    let required: &mut NodeSelector = node
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_default();
    let terms = &mut required.node_selector_terms;
    if terms.is_empty() {
        terms.push(NodeSelectorTerm::default());
    }
    for term in terms {
        term.match_expressions
            .get_or_insert_default()
            .extend(ours.iter().cloned());
    }
    Some(affinity)
}

/// Resource of a whole GPU of NVIDIA's; its nodes are tainted by this name also where their GPUs are divided.
const WHOLE: &str = "nvidia.com/gpu";

/// The user's tolerations, and one of the taint that keeps pods without GPUs from nodes with them: it is named as their resource, by
/// convention, and some clusters add this toleration by themselves.
pub fn tolerations(theirs: &[Toleration], gpus: Option<&Gpus>) -> Vec<Toleration> {
    let name = gpus.and_then(counted).map(|(gpus, _)| gpus.resource_name());
    let whole = name
        .filter(|name| *name != WHOLE && name.starts_with(NVIDIAS))
        .map(|_| WHOLE);
    let ours = name.into_iter().chain(whole).map(|key| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some("NoSchedule".to_owned()),
        ..Toleration::default()
    });
    let new = ours.filter(|ours| !theirs.contains(ours));
    theirs.iter().cloned().chain(new).collect()
}

/// The claim of the pod, made anew for each from the template.
pub fn pod_claims(subject: &Subject, local: &LocalBackend) -> Option<Vec<PodResourceClaim>> {
    let gpus = local.gpus.as_ref().filter(|gpus| gpus.are_claimed())?;
    let theirs = gpus.claim_template.as_ref().map(|template| template.name.clone());
    Some(vec![PodResourceClaim {
        name: CLAIM.to_owned(),
        resource_claim_name: None,
        resource_claim_template_name: Some(theirs.unwrap_or_else(|| template_name(subject, gpus))),
    }])
}

/// A template cannot be changed: another choice of devices is another template, and other pods.
fn template_name(subject: &Subject, gpus: &Gpus) -> String {
    let chosen = json!({"count": gpus.count, "deviceClassName": gpus.device_class_name, "selectors": gpus.selectors});
    format!("{}-gpus-{}", subject.name, revision::hash(&chosen))
}

/// The template of claims on devices of a class, by the name that the pods know it by: they may have been rendered by another version.
pub fn claim_template(
    subject: &Subject,
    local: &LocalBackend,
    pods: &PodTemplateSpec,
) -> Option<ResourceClaimTemplate> {
    let gpus = local.gpus.as_ref()?;
    let class = gpus.device_class_name.as_ref()?;
    let claims = pods.spec.as_ref()?.resource_claims.as_ref()?;
    let name = claims
        .iter()
        .find(|claim| claim.name == CLAIM)?
        .resource_claim_template_name
        .clone()?;
    Some(ResourceClaimTemplate {
        metadata: subject.meta(name, subject.tier_labels(Tier::Local)),
        spec: Some(ResourceClaimTemplateSpec {
            metadata: None,
            spec: Some(ResourceClaimSpec {
                devices: Some(DeviceClaim {
                    requests: Some(vec![request(class, gpus)]),
                    ..DeviceClaim::default()
                }),
            }),
        }),
    })
}

fn request(class: &str, gpus: &Gpus) -> DeviceRequest {
    let selectors = gpus.selectors.iter().map(|selector| DeviceSelector {
        cel: Some(CELDeviceSelector {
            expression: selector.cel.expression.clone(),
        }),
    });
    DeviceRequest {
        name: CLAIM.to_owned(),
        exactly: Some(ExactDeviceRequest {
            device_class_name: class.to_owned(),
            allocation_mode: Some("ExactCount".to_owned()),
            count: Some(i64::from(gpus.count())),
            selectors: Some(selectors.collect()).filter(|all: &Vec<_>| !all.is_empty()),
            ..ExactDeviceRequest::default()
        }),
        ..DeviceRequest::default()
    }
}

/// The same for the engine's container.
pub fn container_claims(gpus: &Gpus) -> Option<Vec<ResourceClaim>> {
    gpus.are_claimed().then(|| {
        vec![ResourceClaim {
            name: CLAIM.to_owned(),
            request: None,
        }]
    })
}
