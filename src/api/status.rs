//! What the controller says of an `InferenceDeployment`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BudgetStatus, CircuitStatus, GpuTrouble};

/// Status of an `InferenceDeployment`. No clock but transition times, no running counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InferenceDeploymentStatus {
    /// Generation the conditions speak of; -1 before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions, a map by type.
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Pods of the scaled kind: local ones, or GPU-less ones where there is no local backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Ready ones among `replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Label selector of the scaled kind, for the scale subresource.
    #[schemars(length(max = 500))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Base address of the OpenAI-compatible API inside the cluster.
    #[schemars(length(max = 500))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// First backend in order that takes requests now.
    #[schemars(length(max = 40))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_backend: Option<String>,
    /// The budget's account in its current window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetStatus>,
    /// Circuits, a map by backend and scope.
    #[schemars(length(max = 17), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["backend", "scope"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub circuits: Vec<CircuitStatus>,
    /// GPUs that pods failed on of late, a map by device and node.
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["device", "node"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuTrouble>,
    /// Errors of late, one row a kind and backend.
    #[schemars(length(max = 112))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ErrorRow>,
}

/// Errors of one kind at one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorRow {
    /// The kind, as the wire spells it.
    #[schemars(length(max = 40))]
    pub kind: String,
    /// The backend.
    #[schemars(length(max = 40))]
    pub backend: String,
    /// 1, 10, 100, …: the largest power of ten that the count has reached.
    pub count_bucket: u64,
    /// When the first was seen.
    pub first_seen: Time,
    /// What was said, truncated and scrubbed.
    #[schemars(length(max = 512))]
    pub message: String,
}
