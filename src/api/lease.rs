//! The budget between controller and one replica: what is granted in `InferenceReplica.spec`, what became of it in its status
//! (design section 8). Amounts in USD; all of a lease's only grow.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NanoUsd;

/// The pod's rows of the ledger: a projection, written again until it is equal. A replica takes the newest by `sequence` and the
/// maximum of what was granted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaBudget {
    /// Sequence of the ledger that this was read from.
    pub sequence: u64,
    /// The window in which money is spent. What is left of leases of other windows is given back.
    pub window: WindowEnd,
    /// Leases of all processes of the pod that are not closed.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<LeaseGrant>,
    /// What the window has no money for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Denied>,
}

/// A window as a replica needs to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WindowEnd {
    /// Its number.
    pub number: u64,
    /// First instant after it; absent when it never ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Time>,
}

/// A lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseGrant {
    /// Its id.
    pub id: u64,
    /// The process that may spend it, and no other.
    #[serde(rename = "bootID")]
    #[schemars(length(max = 64))]
    pub boot_id: String,
    /// Number of its window.
    pub window: u64,
    /// Granted.
    pub granted: NanoUsd,
    /// What is outstanding is to shrink to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall_to: Option<NanoUsd>,
}

/// The window can no longer pay for a request that may cost more than `above`, whatever comes back from leases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Denied {
    /// The want that this answers.
    pub want: u64,
    /// What may still be spent in this window, leases included.
    pub above: NanoUsd,
}

/// What a process did with its leases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BudgetReport {
    /// The highest `sequence` that this pod has seen.
    pub sequence: u64,
    /// Leases of this process, a map by id.
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<LeaseReport>,
    /// Earlier processes of this pod, from the journal: their last word.
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["bootID"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<EndedProcess>,
    /// The least that a request of this window was to reserve here, whether it was paid or not; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cheapest: Option<NanoUsd>,
    /// What the process needs beyond what it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub want: Option<Want>,
    /// The last word of this process: it spends nothing more, and what is not listed was not spent.
    #[serde(default, rename = "final", skip_serializing_if = "std::ops::Not::not")]
    pub is_final: bool,
}

/// A lease as its process accounts for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseReport {
    /// Its id.
    pub id: u64,
    /// The grant as far as the process has seen it.
    pub granted: NanoUsd,
    /// Given back.
    pub surrendered: NanoUsd,
    /// Reported by providers.
    pub settled: NanoUsd,
    /// Reserved by requests that ended without a report.
    pub uncertain: NanoUsd,
    /// Reserved by requests in flight.
    pub reserved: NanoUsd,
}

/// A process that has ended, from the journal it left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndedProcess {
    /// The process.
    #[serde(rename = "bootID")]
    #[schemars(length(max = 64))]
    pub boot_id: String,
    /// Its leases; what was in flight is uncertain.
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<LeaseReport>,
    /// Part of the journal could not be read: of a lease that is not listed nothing is known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub damaged: bool,
}

/// Money that a process needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Want {
    /// Raised with every change of the want.
    pub sequence: u64,
    /// All that is wanted beyond what the process has seen granted.
    pub amount: NanoUsd,
    /// What the cheapest waiting request lacks; 0 while none waits.
    pub least: NanoUsd,
    /// The most that the cheapest waiting request may cost; 0 while none waits.
    pub request: NanoUsd,
}
