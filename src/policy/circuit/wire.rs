//! The circuit's words as the API carries them. The clock is the caller's.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::types::{CircuitView, OpenForAll, Word};
use crate::{
    api::{CircuitScope, CircuitState, MergedCircuit, ReplicaCircuit},
    error::ErrorKind,
};

impl Word {
    /// A merged circuit as a replica with the key `key` follows it; `instant` translates to its own clock.
    #[must_use]
    pub fn of(merged: &MergedCircuit, key: Option<&String>, instant: impl Fn(Timestamp) -> Duration) -> Self {
        let open = merged.opened_at.as_ref().map(|opened_at| OpenForAll {
            opened_at: instant(opened_at.0),
            retry_at: instant(merged.retry_at.as_ref().unwrap_or(opened_at).0),
            trips: merged.trips,
            last_error: merged.last_error.as_deref().and_then(ErrorKind::named),
            token: merged.probe,
        });
        Self {
            epoch: merged.epoch,
            sequence: merged.sequence,
            open,
            binds: merged.scope == CircuitScope::Endpoint || merged.key_hash.as_ref() == key,
        }
    }
}

/// Whose circuit a report is.
#[derive(Clone, Copy, Debug)]
pub struct Label<'a> {
    /// Name of the backend.
    pub backend: &'a str,
    /// What it breaks.
    pub scope: CircuitScope,
    /// Mark of its endpoint.
    pub target: &'a str,
}

impl CircuitView {
    /// What the controller merges; `None` when it is closed, has no vote and follows nothing. `time` translates from the own clock.
    #[must_use]
    pub fn report(
        &self,
        label: Label<'_>,
        key: Option<String>,
        time: impl Fn(Duration) -> Timestamp,
    ) -> Option<ReplicaCircuit> {
        if self.state == CircuitState::Closed && !self.judged && self.sequence == 0 {
            return None;
        }
        let Label { backend, scope, target } = label;
        Some(ReplicaCircuit {
            state: self.state,
            epoch: self.epoch,
            sequence: self.sequence,
            judged: self.judged,
            demand: self.demand,
            opened_at: self.opened_at.map(|at| Time(time(at))),
            retry_at: self.retry_at.map(|at| Time(time(at))),
            trips: self.trips,
            last_error: self.last_error.map(|kind| kind.as_str().to_owned()),
            key_hash: key,
            probe: self.probe,
            ..ReplicaCircuit::closed(backend.to_owned(), scope, target.to_owned())
        })
    }
}
