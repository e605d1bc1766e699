//! The part of the LeaderWorkerSet API (leaderworkerset.x-k8s.io/v1) that this program uses. Its CRD is not part of Kubernetes.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// Groups of pods, each with a leader.
#[derive(Clone, CustomResource, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "leaderworkerset.x-k8s.io",
    version = "v1",
    kind = "LeaderWorkerSet",
    namespaced,
    schema = "disabled",
    status = "LeaderWorkerSetStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct LeaderWorkerSetSpec {
    /// Groups.
    pub replicas: Option<i32>,
    /// Their pods.
    pub leader_worker_template: LeaderWorkerTemplate,
    /// How they are replaced.
    #[serde(default)]
    pub rollout_strategy: RolloutStrategy,
    /// When the other pods of a group are made.
    pub startup_policy: String,
}

/// The pods of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaderWorkerTemplate {
    /// Pods, the leader among them.
    pub size: Option<i32>,
    /// What becomes of a group one of whose containers ended.
    pub restart_policy: Option<String>,
    /// The leader.
    pub leader_template: Option<PodTemplateSpec>,
    /// The others.
    pub worker_template: PodTemplateSpec,
}

/// How groups are replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStrategy {
    /// There is one type.
    pub r#type: String,
    /// How many at once.
    pub rolling_update_configuration: Option<RollingUpdate>,
}

/// How many groups are replaced at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollingUpdate {
    /// Groups that may be missing.
    pub max_unavailable: serde_json::Value,
    /// Groups that there may be more.
    pub max_surge: serde_json::Value,
}

/// What its controller says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaderWorkerSetStatus {
    /// Among them `Available`.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Groups.
    #[serde(default)]
    pub replicas: i32,
    /// Groups all of whose pods are Ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Groups of the newest templates.
    #[serde(default)]
    pub updated_replicas: i32,
}

impl LeaderWorkerSet {
    /// What a Deployment would say in its place. It does not tell which generation its status is of.
    pub fn as_deployment(&self) -> Deployment {
        let status = self.status.as_ref().map(|status| DeploymentStatus {
            observed_generation: self.metadata.generation,
            replicas: Some(status.replicas),
            ready_replicas: Some(status.ready_replicas),
            updated_replicas: Some(status.updated_replicas),
            conditions: is_available(status).then(|| vec![rolled_out()]),
            ..DeploymentStatus::default()
        });
        Deployment {
            metadata: self.metadata.clone(),
            spec: DeploymentSpec {
                replicas: self.spec.replicas,
                template: self
                    .spec
                    .leader_worker_template
                    .leader_template
                    .clone()
                    .unwrap_or_default(),
                ..DeploymentSpec::default()
            },
            status,
        }
    }
}

fn is_available(status: &LeaderWorkerSetStatus) -> bool {
    let mut conditions = status.conditions.iter();
    conditions.any(|condition| condition.type_ == "Available" && condition.status == "True")
}

fn rolled_out() -> DeploymentCondition {
    DeploymentCondition {
        type_: Some("Progressing".to_owned()),
        status: Some("True".to_owned()),
        reason: Some("NewReplicaSetAvailable".to_owned()),
        ..DeploymentCondition::default()
    }
}
