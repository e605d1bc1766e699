//! The caches, filled by [`super::watch`].

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, Deployment},
    core::v1::{Pod, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
    rbac::v1::{Role, RoleBinding},
    resource::v1::ResourceClaimTemplate,
};
use kube::{
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::reflector::Store,
};

use super::groups::LeaderWorkerSet;
use crate::api::{InferenceDeployment, InferenceReplica};

/// An object of ours as a watch delivers it: one that cannot be decoded must not stop the others.
pub type Guarded<K> = DeserializeGuard<K>;

/// A cache for each kind. Only metadata where the content is not needed: the controller's memory is mostly this.
#[derive(Clone)]
pub struct Stores {
    /// What people write.
    pub deployments: Store<Guarded<InferenceDeployment>>,
    /// Pods with our label, without what status does not need.
    pub pods: Store<Pod>,
    /// What runtimes report.
    pub replicas: Store<Guarded<InferenceReplica>>,
    /// Deployments with our label.
    pub workloads: Store<Deployment>,
    /// Rendered pod templates.
    pub revisions: Store<ControllerRevision>,
    /// Services with our label.
    pub services: Store<PartialObjectMeta<Service>>,
    /// NetworkPolicies with our label.
    pub networks: Store<PartialObjectMeta<NetworkPolicy>>,
    /// ServiceAccounts with our label.
    pub accounts: Store<PartialObjectMeta<ServiceAccount>>,
    /// Roles with our label.
    pub roles: Store<PartialObjectMeta<Role>>,
    /// RoleBindings with our label.
    pub bindings: Store<PartialObjectMeta<RoleBinding>>,
    /// ResourceClaimTemplates with our label; none where the cluster does not have their API.
    pub claims: Store<PartialObjectMeta<ResourceClaimTemplate>>,
    /// PodDisruptionBudgets with our label.
    pub disruptions: Store<PartialObjectMeta<PodDisruptionBudget>>,
    /// LeaderWorkerSets with our label, likewise.
    pub groups: Store<LeaderWorkerSet>,
}
