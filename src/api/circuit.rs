//! Circuits as the two resources carry them (design section 9): merged in the deployment's status, projected into every replica's
//! spec, judged in every replica's status. Numbers of one circuit only grow: `epoch` with every close, `sequence` with every decision.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a circuit breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CircuitScope {
    /// The provider's endpoint: network errors, 5xx, timeouts.
    Endpoint,
    /// The key: 401, 403, quota.
    Credential,
}

/// State of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CircuitState {
    /// Requests flow.
    Closed,
    /// Nothing is sent.
    Open,
    /// Probes are sent.
    HalfOpen,
    /// Held open by `override`.
    ForcedOpen,
    /// Held closed by `override`.
    ForcedClosed,
}

/// A circuit as all replicas together see it. Written by the controller, which goes on from here after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CircuitStatus {
    /// The backend.
    #[schemars(length(max = 40))]
    pub backend: String,
    /// What it breaks.
    pub scope: CircuitScope,
    /// Provider of the backend, as the spec spells it; `local` for an engine.
    #[schemars(length(max = 40))]
    pub provider: String,
    /// The provider's address; absent for an engine.
    #[schemars(length(max = 500))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// State, the override included. While forced, `openedAt` says that it is open beneath.
    pub state: CircuitState,
    /// When it opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Time>,
    /// When the next probe may be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
    /// Times it opened since it was last healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trips: Option<u32>,
    /// Replicas that hold it open; while it is open for all, those whose votes opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_replicas: Option<u32>,
    /// Kind of the error that opened it, as the wire spells it.
    #[schemars(length(max = 40))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Salted hash of the key that it speaks of; of a credential's circuit only.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_hash: Option<String>,
    /// Raised when it closes and when the endpoint changes: votes of an earlier epoch count no more.
    #[serde(default)]
    pub epoch: u64,
    /// Number of the last decision.
    #[serde(default)]
    pub sequence: u64,
    /// Number of the decision that last opened or closed it.
    #[serde(default)]
    pub changed: u64,
    /// Probes of this round that have succeeded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub succeeded: u32,
    /// Probe tokens that may still be used.
    #[schemars(length(max = 100))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<CircuitProbe>,
}

impl CircuitStatus {
    /// A closed circuit of which nothing else is known.
    #[must_use]
    pub const fn closed(backend: String, scope: CircuitScope, provider: String, endpoint: Option<String>) -> Self {
        Self {
            backend,
            scope,
            provider,
            endpoint,
            state: CircuitState::Closed,
            opened_at: None,
            retry_at: None,
            trips: None,
            open_replicas: None,
            last_error: None,
            key_hash: None,
            epoch: 0,
            sequence: 0,
            changed: 0,
            succeeded: 0,
            probes: Vec::new(),
        }
    }
}

/// A probe token that may still be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CircuitProbe {
    /// The replica that holds it.
    #[schemars(length(max = 253))]
    pub replica: String,
    /// Its number.
    pub sequence: u64,
    /// Requests it allows.
    pub calls: u32,
    /// What became of it.
    pub phase: ProbePhase,
    /// Since when.
    pub since: Time,
    /// Number of the decision that took it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<u64>,
}

/// What became of a probe token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProbePhase {
    /// In the replica's spec.
    Offered,
    /// The replica may probe.
    Accepted,
    /// Taken back; until the replica is seen without it, nobody else gets one.
    Withdrawn,
}

/// A merged circuit as a replica is to follow it. A circuit that never opened for all has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MergedCircuit {
    /// The backend.
    #[schemars(length(max = 40))]
    pub backend: String,
    /// What it breaks.
    pub scope: CircuitScope,
    /// Short hash of provider and endpoint: a circuit of another endpoint is not followed.
    #[schemars(length(max = 64))]
    pub target: String,
    /// Votes carry it; see `status.circuits` of the deployment.
    pub epoch: u64,
    /// Number of the decision: one with a lower number is older.
    pub sequence: u64,
    /// `Closed`, `Open` or `HalfOpen`; the override is in the deployment's spec.
    pub state: CircuitState,
    /// When it opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Time>,
    /// When the next probe may be sent: for people. A replica needs a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
    /// Times it opened since it was last healthy.
    #[serde(default)]
    pub trips: u32,
    /// Kind of the error that opened it, as the wire spells it.
    #[schemars(length(max = 40))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Salted hash of the key: binds only replicas with the same.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_hash: Option<String>,
    /// Leave to probe, once the replica has accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeToken>,
}

/// Leave to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbeToken {
    /// Its number.
    pub sequence: u64,
    /// Requests it allows.
    pub calls: u32,
}

/// A circuit as one replica sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaCircuit {
    /// The backend.
    #[schemars(length(max = 40))]
    pub backend: String,
    /// What it breaks.
    pub scope: CircuitScope,
    /// Short hash of provider and endpoint that it speaks of.
    #[schemars(length(max = 64))]
    #[serde(default)]
    pub target: String,
    /// State, the override included. While forced, `openedAt` says that it is open beneath.
    pub state: CircuitState,
    /// Epoch of the merged circuit that the vote belongs to.
    #[serde(default)]
    pub epoch: u64,
    /// Number of the merged circuit's decision that is followed.
    #[serde(default)]
    pub sequence: u64,
    /// A call was judged within the window: the replica has a vote.
    #[serde(default, skip_serializing_if = "is_false")]
    pub judged: bool,
    /// Requests are refused for this circuit: a probe would find one to send.
    #[serde(default, skip_serializing_if = "is_false")]
    pub demand: bool,
    /// When it opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Time>,
    /// When the next probe may be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
    /// Times it opened since it was last healthy.
    #[serde(default)]
    pub trips: u32,
    /// Kind of the error that opened it, as the wire spells it.
    #[schemars(length(max = 40))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What was said, truncated and scrubbed.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Salted hash of the key in use; of a credential's circuit only.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_hash: Option<String>,
    /// The probe token that was taken last, and what became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeReport>,
}

impl ReplicaCircuit {
    /// A closed circuit that has no vote and follows nothing.
    #[must_use]
    pub const fn closed(backend: String, scope: CircuitScope, target: String) -> Self {
        Self {
            backend,
            scope,
            target,
            state: CircuitState::Closed,
            epoch: 0,
            sequence: 0,
            judged: false,
            demand: false,
            opened_at: None,
            retry_at: None,
            trips: 0,
            last_error: None,
            message: String::new(),
            key_hash: None,
            probe: None,
        }
    }
}

/// What became of a probe token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbeReport {
    /// Number of the token.
    pub sequence: u64,
    /// How it stands.
    pub outcome: ProbeOutcome,
    /// Probes that succeeded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub succeeded: u32,
    /// Seconds that the provider asked to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// How a probe token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProbeOutcome {
    /// Taken; written only over the state of the object that carried the token.
    Accepted,
    /// Handed back; `succeeded` of its requests were sent and went well, the others were not sent.
    Done,
    /// A probe failed.
    Failed,
    /// A probe was sent and told nothing.
    Inconclusive,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(super) const fn is_false(flag: &bool) -> bool {
    !*flag
}
