//! Shares of rate limits, as controller and replica tell them to each other. Rates are whole thousandths a minute: they are summed up
//! exactly, and a share may be less than one request a minute.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A replica's share of a backend's rate limit. Written by the controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShareOrder {
    /// The backend.
    #[schemars(length(min = 1, max = 40))]
    pub backend: String,
    /// Rises with every change; the replica repeats it when it keeps to the order.
    #[schemars(range(min = 1))]
    pub sequence: i64,
    /// All replicas together ask for more than the limit: room that is not used is to be told at once.
    #[serde(default)]
    pub contended: bool,
    /// Another replica waits for what this one is to leave: the order is to be confirmed at once.
    #[serde(default)]
    pub awaited: bool,
    /// Requests; absent when they are not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<OrderedRate>,
    /// Tokens, input and output; absent when they are not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<OrderedRate>,
}

/// Thousandths of requests or tokens a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderedRate {
    /// The share.
    #[schemars(range(max = 2_000_000_000_000_u64))]
    pub milli_per_minute: u64,
    /// What the replica may be using until it has confirmed this order: shares that it was given before.
    #[schemars(range(max = 2_000_000_000_000_u64))]
    pub reserved_milli_per_minute: u64,
}

/// The same from the replica's side. Written by the replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShareReport {
    /// The backend.
    #[schemars(length(min = 1, max = 40))]
    pub backend: String,
    /// Of the order that is kept to; 0 before there was one.
    #[schemars(range(min = 0))]
    pub sequence: i64,
    /// Requests; absent when they are not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<ReportedRate>,
    /// Tokens, input and output; absent when they are not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<ReportedRate>,
}

/// Thousandths of requests or tokens a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReportedRate {
    /// The share that is kept to.
    #[schemars(range(max = 2_000_000_000_000_u64))]
    pub milli_per_minute: u64,
    /// What would be sent if there were no limit, in steps of a fifth.
    #[schemars(range(max = 100_000_000_000_000_u64))]
    pub demand_milli_per_minute: u64,
}
