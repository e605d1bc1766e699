//! Step 3: what should exist. Pure: the same spec and the same live state give the same resources.

mod deployment;
mod disruption;
mod engine;
#[cfg(test)]
pub mod fixtures;
mod gpus;
mod group;
mod network;
mod pod;
mod rbac;
mod replica;
mod revision;
mod services;
mod volumes;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    marker::PhantomData,
};

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, Deployment},
        core::v1::{Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{Role, RoleBinding},
        resource::v1::ResourceClaimTemplate,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Resource, ResourceExt};

use super::{decide::Orders, dereference::Live, groups::LeaderWorkerSet};
use crate::{
    api::{InferenceDeployment, InferenceDeploymentSpec, InferenceReplica, LocalBackend, names},
    policy::reach::AllowedAddresses,
};

/// Why the resources could not be made; a defect of this program, not of a spec.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A part could not be written as JSON.
    #[error("cannot write the local backend as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Whom this is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Name of the `InferenceDeployment`.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
}

impl Subject {
    /// The reference that makes a child ours.
    pub fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: InferenceDeployment::api_version(&()).into_owned(),
            kind: InferenceDeployment::kind(&()).into_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }

    /// Metadata of a child.
    fn meta(&self, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels),
            owner_references: Some(vec![self.owner()]),
            ..ObjectMeta::default()
        }
    }

    /// Labels of every child.
    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (names::LABEL_NAME.into(), names::MANAGED_BY.into()),
            (names::LABEL_INSTANCE.into(), self.name.clone()),
            (names::LABEL_MANAGED_BY.into(), names::MANAGED_BY.into()),
            (names::LABEL_DEPLOYMENT.into(), self.name.clone()),
        ])
    }

    /// Selects all of its pods.
    fn selector(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(names::LABEL_DEPLOYMENT.to_owned(), self.name.clone())])
    }

    fn tier_labels(&self, tier: Tier) -> BTreeMap<String, String> {
        let mut labels = self.labels();
        labels.insert(names::LABEL_TIER.into(), tier.as_str().into());
        labels
    }
}

/// The kinds of pods (design section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Pods that hold the engine.
    Local,
    /// GPU-less pods that only forward.
    Remote,
    /// Pods with a part of an engine, beside the local pod that leads their group: nobody sends them requests.
    Follower,
}

impl Tier {
    /// Value of the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => names::TIER_LOCAL,
            Self::Remote => names::TIER_REMOTE,
            Self::Follower => names::TIER_FOLLOWER,
        }
    }

    /// Name of the tier's Deployment.
    pub fn workload(self, name: &str) -> String {
        format!("{name}-{}", self.as_str())
    }

    /// Selects the tier's pods: the Deployment's selector and `status.selector`.
    pub fn selector(self, name: &str) -> BTreeMap<String, String> {
        BTreeMap::from([
            (names::LABEL_DEPLOYMENT.into(), name.into()),
            (names::LABEL_TIER.into(), self.as_str().into()),
        ])
    }
}

/// The tier that `spec.replicas` and the scale subresource speak of.
pub fn scaled_tier(spec: &InferenceDeploymentSpec) -> Tier {
    if spec.local().is_some() {
        Tier::Local
    } else {
        Tier::Remote
    }
}

/// The wanted tiers with their pods, the scaled one first.
pub fn tiers(spec: &InferenceDeploymentSpec) -> Vec<(Tier, i32)> {
    let mut tiers = vec![(scaled_tier(spec), spec.replicas())];
    if let (Some(_), Some(spill)) = (spec.local(), &spec.spill) {
        tiers.push((Tier::Remote, spill.replicas));
    }
    tiers
}

/// What the resources of a stage stand for.
pub trait Stage: Debug {}

/// As they should be.
#[derive(Clone, Copy, Debug)]
pub struct Prepared;

/// As the API server has them.
#[derive(Clone, Copy, Debug)]
pub struct Applied;

impl Stage for Prepared {}
impl Stage for Applied {}

/// The children of one `InferenceDeployment`.
#[derive(Clone, Debug)]
pub struct Resources<S: Stage> {
    /// The identity of the pods.
    pub account: ServiceAccount,
    /// What they may do.
    pub role: Role,
    /// Who may do it.
    pub binding: RoleBinding,
    /// The one for clients, and the headless one for peers.
    pub services: Vec<Service>,
    /// Who may connect to the pods.
    pub network: NetworkPolicy,
    /// From which the local pods' claims on devices of a class are made.
    pub claims: Option<ResourceClaimTemplate>,
    /// A rendered pod template a tier.
    pub revisions: Vec<ControllerRevision>,
    /// A Deployment a tier.
    pub deployments: Vec<Deployment>,
    /// One a tier of two or more pods.
    pub disruptions: Vec<PodDisruptionBudget>,
    /// In place of the local pods' Deployment when a model is spread over nodes.
    pub group: Option<LeaderWorkerSet>,
    /// One a pod.
    pub replicas: Vec<InferenceReplica>,
    /// The stage.
    pub stage: PhantomData<S>,
}

impl Resources<Prepared> {
    /// Notes that `scaleToZero` keeps the local pods away.
    pub fn note_idle(&mut self) {
        let local = |d: &&mut Deployment| {
            d.labels()
                .get(names::LABEL_TIER)
                .is_some_and(|tier| tier == names::TIER_LOCAL)
        };
        let deployments = self.deployments.iter_mut().filter(local).map(|d| &mut d.metadata);
        for meta in deployments.chain(self.group.iter_mut().map(|group| &mut group.metadata)) {
            let annotations = meta.annotations.get_or_insert_default();
            annotations.insert(names::ANNOTATION_IDLE.to_owned(), "true".to_owned());
        }
    }
}

impl<S: Stage> Resources<S> {
    /// What makes pods: the Deployments, and the group as a Deployment would tell of it.
    pub fn workloads(&self) -> Vec<Deployment> {
        let group = self.group.as_ref().map(LeaderWorkerSet::as_deployment);
        group.into_iter().chain(self.deployments.iter().cloned()).collect()
    }
}

/// What the controller adds to a spec.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Image of the runtime where the spec names none.
    pub runtime_image: String,
    /// Addresses that endpoints of providers may have beyond ordinary ones: pod-shaped, since a user must not set it.
    pub addresses: AllowedAddresses,
    /// Address of the Hugging Face hub.
    pub hub: String,
    /// Names of Secrets for pulling images, beside those of a `podTemplate`.
    pub pull_secrets: BTreeSet<String>,
}

impl Defaults {
    /// The hub's address when pods of `local` have to be told: they download from it, and it is not the usual one.
    fn hub_of(&self, local: Option<&LocalBackend>) -> Option<&str> {
        local?.source.as_ref()?.hugging_face.as_ref()?;
        Some(self.hub.as_str()).filter(|hub| *hub != names::HUGGING_FACE)
    }
}

/// Makes all children of a spec that has passed validation.
pub fn build(
    subject: &Subject,
    spec: &InferenceDeploymentSpec,
    live: &Live,
    orders: &BTreeMap<String, Orders>,
    defaults: &Defaults,
) -> Result<Resources<Prepared>, BuildError> {
    let (mut revisions, mut deployments, mut disruptions) = (Vec::new(), Vec::new(), Vec::new());
    let (mut claims, mut group) = (None, None);
    for (tier, replicas) in tiers(spec) {
        let revision = revision::build(subject, spec, tier, live, defaults)?;
        let local = spec.local().filter(|_| tier == Tier::Local).map(|(_, local)| local);
        let spread = local.filter(|local| local.nodes() > 1);
        let deployment = if let Some(local) = spread {
            group
                .insert(group::build(subject, replicas, local.nodes(), &revision)?)
                .as_deployment()
        } else {
            deployment::build(subject, tier, replicas, local, &revision)?
        };
        claims = claims.or(local.and_then(|local| gpus::claim_template(subject, local, &deployment.spec.template)));
        deployments.extend(Some(deployment).filter(|_| spread.is_none()));
        revisions.push(revision);
        disruptions.extend(disruption::build(subject, tier, replicas, spread.is_some()));
    }
    Ok(Resources {
        account: rbac::account(subject),
        role: rbac::role(subject),
        binding: rbac::binding(subject),
        services: services::build(subject, spec),
        network: network::build(subject),
        claims,
        revisions,
        deployments,
        disruptions,
        group,
        replicas: replica::build(subject, live, orders),
        stage: PhantomData,
    })
}

pub use deployment::{deadline_seconds, set_template};
pub use group::set_templates;
pub use pod::grace_seconds;
pub use replica::{build as replicas, tier_of};

#[cfg(test)]
mod tests;
