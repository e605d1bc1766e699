//! What the replica tells the cluster: its `InferenceReplica` status, Events, the termination message.

use crate::api::InferenceReplicaStatus;

/// What the rest of the runtime publishes through a `tokio::sync::watch` for the reporter.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// The whole status as it should read now.
    pub status: InferenceReplicaStatus,
    /// Urgent transitions so far (a circuit opened or closed, a probe, credentials refused): a rise is written at once, the rest
    /// at most every 5 s (design section 8, write rates).
    pub urgent: u64,
}
