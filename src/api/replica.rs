//! `InferenceReplica`: the narrow channel between the controller and one runtime pod, named as the pod.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    BudgetReport, ErrorRow, GpuReport, MergedCircuit, ReplicaBudget, ReplicaCircuit, ShareOrder, ShareReport,
    circuit::is_false,
};

/// Written by the controller alone.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "inference-operator.dev",
    version = "v1alpha1",
    kind = "InferenceReplica",
    plural = "inferencereplicas",
    shortname = "infr",
    category = "inference",
    namespaced,
    status = "InferenceReplicaStatus",
    derive = "PartialEq",
    doc = "One runtime pod of an InferenceDeployment. Written by controller and runtime; not for people to write.",
    printcolumn(name = "Deployment", type_ = "string", json_path = ".spec.deploymentName"),
    printcolumn(name = "Ready", type_ = "boolean", json_path = ".status.ready"),
    printcolumn(name = "Engine", type_ = "string", json_path = ".status.engine.state"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct InferenceReplicaSpec {
    /// UID of the pod of the same name; the admission policy holds writers of the status against it.
    #[serde(rename = "podUID")]
    #[schemars(length(min = 1, max = 64))]
    pub pod_uid: String,
    /// Name of the `InferenceDeployment`.
    #[schemars(length(min = 1, max = 40))]
    pub deployment_name: String,
    /// UID of the `InferenceDeployment`.
    #[serde(rename = "deploymentUID")]
    #[schemars(length(min = 1, max = 64))]
    pub deployment_uid: String,
    /// Merged circuits to follow, by (backend, scope).
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub circuits: Vec<MergedCircuit>,
    /// Why no engine may run in the pod any more: it keeps a faulty GPU from being handed out again. Absent: it may.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_hold: Option<String>,
    /// The pod's part of the ledger; absent without a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<ReplicaBudget>,
    /// The replica's shares of rate limits, one a limited backend.
    #[schemars(length(max = 8))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<ShareOrder>,
}

/// Written by the replica alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InferenceReplicaStatus {
    /// Generation of the `InferenceDeployment` that the replica acts on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What the replica speaks, see [`super::PROTOCOL_VERSION`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<i32>,
    /// One start of the runtime process.
    #[serde(rename = "bootID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub boot_id: Option<String>,
    /// True while the front takes requests.
    #[serde(default)]
    pub ready: bool,
    /// The engine; absent in a GPU-less pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineStatus>,
    /// The GPUs; absent where the runtime sees none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuReport>,
    /// Every backend of the spec, in its order.
    #[schemars(length(max = 8))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<BackendReport>,
    /// Circuits that are open, judged a call of late or follow a merged one, by (backend, scope).
    #[schemars(length(max = 17))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub circuits: Vec<ReplicaCircuit>,
    /// Errors of late, one row a kind and backend.
    #[schemars(length(max = 112))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ErrorRow>,
    /// What became of the money that was granted; absent without a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetReport>,
    /// Shares of rate limits and the demand for them, one a limited backend.
    #[schemars(length(max = 8))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<ShareReport>,
    /// With `scaleToZero`: true while a request for the local backend is in hand or came within `idleAfter`, false when none came for so
    /// long. Absent while the process is younger than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<bool>,
    /// True while more than one in ten requests of clients are turned away with backpressure, judged a minute at a time.
    #[serde(default, skip_serializing_if = "is_false")]
    pub saturated: bool,
}

/// Whether a replica may send to a backend now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendReport {
    /// The backend.
    #[schemars(length(max = 40))]
    pub name: String,
    /// True when a request may be sent now.
    pub available: bool,
    /// Why, one of the constants of [`super::conditions::reason`].
    #[schemars(length(max = 64))]
    pub reason: String,
    /// What to do about it; empty when nothing is wrong.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Phase of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EngineState {
    /// The model is being downloaded.
    Downloading,
    /// The process runs, the model does not answer yet.
    Loading,
    /// The canary was answered.
    Ready,
    /// It ended or hung and is being started anew.
    Restarting,
    /// Too many restarts: the runtime gave up.
    Failed,
}

/// Whether the engine is kept apart from the runtime's keys, journal and token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EngineIsolation {
    /// By a Landlock domain.
    Landlock,
    /// The kernel has no Landlock of 5.19 or newer: the engine image is trusted with the keys.
    None,
}

/// A download that runs, told in at most twenty steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DownloadStatus {
    /// Bytes that are there.
    pub bytes: u64,
    /// Bytes of the whole; absent until the server has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// The engine of a local pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EngineStatus {
    /// Phase.
    pub state: EngineState,
    /// What went wrong last, truncated and scrubbed; empty when nothing did.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How far the model's download is; absent when none runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download: Option<DownloadStatus>,
    /// Whether the engine is kept apart from the runtime's keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<EngineIsolation>,
    /// Tokens of context of one request, as the engine reports them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u32>,
}
