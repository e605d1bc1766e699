//! `status.budget`: the ledger of the budget itself, not a picture of it (design section 8). The controller alone writes it, always by
//! a conditional write.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NanoUsd;

/// The account of the current window, and the leases of all windows that are not closed. Amounts in USD.
///
/// At every instant `settled + uncertain + leased ≤ limit`, except for what `overLimit` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BudgetStatus {
    /// The current window.
    pub window: BudgetWindow,
    /// The limit of the spec.
    pub limit: NanoUsd,
    /// What providers reported.
    pub settled: NanoUsd,
    /// Whole reservations that ended without a report.
    pub uncertain: NanoUsd,
    /// Granted to replicas and not spent.
    pub leased: NanoUsd,
    /// What may still be granted.
    pub remaining: NanoUsd,
    /// What is spent and leased beyond the limit: after the limit was lowered, or a provider reported more than its bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_limit: Option<NanoUsd>,
    /// Raised by every write of the ledger.
    #[serde(default)]
    pub sequence: u64,
    /// Present while the ledger was lost and nobody has said from where to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<LostLedger>,
    /// What an annotation stated as not spent in this window, in all: it is taken off `uncertain` once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_off: Option<NanoUsd>,
    /// Percentages of `warnAtPercent` that were reached in this window.
    #[schemars(length(max = 10))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warned: Vec<u32>,
    /// One row a lease, a map by id.
    #[schemars(length(max = 2048), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<LeaseRow>,
    /// Time of priced GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_time: Option<GpuTime>,
    /// The last window, and earlier ones with leases that are not closed.
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["number"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed_windows: Vec<ClosedWindow>,
}

impl BudgetStatus {
    /// The limit at which local pods were let go because it does not pay for their GPUs; absent while it does, and while the ledger is lost.
    #[must_use]
    pub fn released_at(&self) -> Option<NanoUsd> {
        self.gpu_time.as_ref().filter(|_| self.lost.is_none())?.released_at
    }
}

/// From `start` until `end`; a `Total` budget has neither.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BudgetWindow {
    /// Windows are numbered, and the number only grows.
    #[serde(default)]
    pub number: u64,
    /// Period and time zone that gave the window its end.
    #[schemars(length(max = 80))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub calendar: String,
    /// First instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Time>,
    /// First instant after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Time>,
}

/// Money granted to one process in one window. All amounts only grow; what is left of them is outstanding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseRow {
    /// Never given twice.
    pub id: u64,
    /// Name of the pod and of its `InferenceReplica`.
    #[schemars(length(max = 253))]
    pub pod: String,
    /// UID of the pod.
    #[serde(rename = "podUID")]
    #[schemars(length(max = 64))]
    pub pod_uid: String,
    /// The process: one start of the runtime.
    #[serde(rename = "bootID")]
    #[schemars(length(max = 64))]
    pub boot_id: String,
    /// Number of the window.
    pub window: u64,
    /// Granted.
    pub granted: NanoUsd,
    /// Given back.
    pub surrendered: NanoUsd,
    /// Reported by providers.
    pub settled: NanoUsd,
    /// Reserved by requests that ended without a report.
    pub uncertain: NanoUsd,
    /// What is outstanding is to shrink to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall_to: Option<NanoUsd>,
    /// The process has ended and nothing of this is outstanding. The row stays until its `InferenceReplica` is proven gone, so that a
    /// stale report is not taken for a new process.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
}

/// Time of priced GPUs: what is charged is part of the ledger's `settled`, what is reserved ahead part of `leased`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuTime {
    /// USD an hour of one pod.
    pub per_pod_hour: NanoUsd,
    /// Since when time is charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Local pods that may run.
    pub wanted: u32,
    /// The limit at which GPUs were released: no local pod may run before a higher one, or the next window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_at: Option<NanoUsd>,
    /// Charged in this window.
    pub settled: NanoUsd,
    /// Reserved for pods that are wanted and not there yet.
    pub ahead: NanoUsd,
    /// One row a pod that holds GPUs, a map by UID.
    #[schemars(length(max = 2048), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["podUID"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<GpuCharge>,
}

/// GPU time of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuCharge {
    /// Name of the pod.
    #[schemars(length(max = 253))]
    pub pod: String,
    /// UID of the pod.
    #[serde(rename = "podUID")]
    #[schemars(length(max = 64))]
    pub pod_uid: String,
    /// Charged until here.
    pub until: Time,
    /// Reserved for the time after it.
    pub reserved: NanoUsd,
}

/// The account of an earlier window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClosedWindow {
    /// Its number.
    pub number: u64,
    /// What providers reported.
    pub settled: NanoUsd,
    /// Whole reservations that ended without a report.
    pub uncertain: NanoUsd,
}

/// A ledger that was found missing or older than what replicas have seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LostLedger {
    /// Sequence of the first ledger after the loss: a replica whose spec is older may still hold a lease that the ledger does not know.
    pub since: u64,
    /// The amount that the annotation stated, while it is carried out and not yet removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopting: Option<NanoUsd>,
}
