//! The kinds of children.

use std::fmt::{self, Debug};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{ControllerRevision, Deployment},
        core::v1::{Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{Role, RoleBinding},
        resource::v1::ResourceClaimTemplate,
    },
};
use kube::{Resource, core::ApiResource};
use serde::{Serialize, de::DeserializeOwned};

use super::groups::LeaderWorkerSet;
use crate::api::InferenceReplica;

/// Kinds of objects that an `InferenceDeployment` owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The identity of the pods.
    ServiceAccount,
    /// What they may do.
    Role,
    /// Who may do it.
    RoleBinding,
    /// Where clients and peers find them.
    Service,
    /// Who may connect to them.
    NetworkPolicy,
    /// From which claims on devices are made.
    ResourceClaimTemplate,
    /// A rendered pod template.
    ControllerRevision,
    /// The pods of a tier.
    Deployment,
    /// How many of them may be evicted at a time.
    PodDisruptionBudget,
    /// The local pods of a model that is spread over nodes.
    LeaderWorkerSet,
    /// The channel to one pod.
    InferenceReplica,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(self, f)
    }
}

impl Kind {
    /// Group, version and plural, for calls that do not need the kind's type.
    pub fn resource(self) -> ApiResource {
        match self {
            Self::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
            Self::Role => ApiResource::erase::<Role>(&()),
            Self::RoleBinding => ApiResource::erase::<RoleBinding>(&()),
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::NetworkPolicy => ApiResource::erase::<NetworkPolicy>(&()),
            Self::ResourceClaimTemplate => ApiResource::erase::<ResourceClaimTemplate>(&()),
            Self::ControllerRevision => ApiResource::erase::<ControllerRevision>(&()),
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Self::LeaderWorkerSet => ApiResource::erase::<LeaderWorkerSet>(&()),
            Self::InferenceReplica => ApiResource::erase::<InferenceReplica>(&()),
        }
    }
}

/// A type of child.
pub trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Its kind.
    const KIND: Kind;
    /// It carries decisions that were made on one state of it: they are written over that state only.
    const DECIDED: bool = matches!(Self::KIND, Kind::InferenceReplica);
}

macro_rules! child {
    ($($kind:ident),*) => {
        $(impl Child for $kind {
            const KIND: Kind = Kind::$kind;
        })*
    };
}
child!(
    ServiceAccount,
    Role,
    RoleBinding,
    Service,
    NetworkPolicy,
    ResourceClaimTemplate,
    ControllerRevision,
    Deployment,
    PodDisruptionBudget,
    LeaderWorkerSet,
    InferenceReplica
);
