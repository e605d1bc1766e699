//! GPUs and their faults: what a replica reports, what it leaves behind when it ends, what the controller remembers of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The GPUs of a local pod, as its runtime sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuReport {
    /// The devices that the container was given.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<GpuDevice>,
    /// Why no driver can be used although the pod asked for GPUs of NVIDIA; the engine computes without them, if it can.
    #[schemars(length(max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
    /// What is wrong; absent while the engine serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<GpuFault>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuDevice {
    /// `GPU-…` or `MIG-…`.
    #[schemars(length(max = 96))]
    pub uuid: String,
    /// The product.
    #[schemars(length(max = 96))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub product: String,
}

/// How far a fault goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GpuFaultReason {
    /// A context was poisoned; the engine is started anew, for a new process may work.
    ContextPoisoned,
    /// A new process does not work either, or the driver asks for a repair.
    GPUFaulty,
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuFault {
    /// How far it goes.
    pub reason: GpuFaultReason,
    /// What was seen, truncated and scrubbed.
    #[schemars(length(max = 512))]
    pub message: String,
    /// The devices that it may be of.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspects: Vec<GpuSuspect>,
}

/// A device that a fault may be of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuSuspect {
    /// `GPU-…` or `MIG-…`.
    #[schemars(length(max = 96))]
    pub uuid: String,
    /// The last Xid that the driver told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xid: Option<i64>,
}

/// What the controller remembers of a device that pods failed on: for 30 minutes, and for as long as a pod is held for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuTrouble {
    /// `GPU-…` or `MIG-…`; `unknown` where no driver told.
    #[schemars(length(max = 96))]
    pub device: String,
    /// The node it is in.
    #[schemars(length(max = 253))]
    pub node: String,
    /// The last Xid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xid: Option<i64>,
    /// What was seen last, truncated and scrubbed.
    #[schemars(length(max = 512))]
    pub message: String,
    /// Pods that were replaced because of it.
    #[schemars(length(max = 3))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<ReplacedPod>,
    /// UIDs of pods that stay without an engine, so that nobody else is given the device.
    #[schemars(length(max = 8), inner(length(max = 64)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<String>,
}

/// A pod that was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplacedPod {
    /// Its UID.
    #[serde(rename = "podUID")]
    #[schemars(length(max = 64))]
    pub pod_uid: String,
    /// When the controller decided it.
    pub at: Time,
}
