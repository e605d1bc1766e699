//! How requests are taken in.

use std::time::Duration;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DurationString;

/// How one replica takes requests in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Serving {
    /// Requests one replica works on at once; 32 when absent.
    #[schemars(range(min = 1, max = 10_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u32>,
    /// Requests that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// Output limit given to requests that name none; none when absent (a budget always sets one, 4096).
    #[schemars(range(min = 1, max = 10_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_max_tokens: Option<u32>,
    /// Time that requests in flight have to finish after SIGTERM; `10m` when absent. A change replaces the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DurationString>,
}

/// Requests that wait for their turn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.capacity) || self.capacity > 0 || !has(self.timeout)",
    "with capacity 0 nothing waits and a timeout would do nothing"
))]
pub struct Queue {
    /// Requests that may wait in one replica; 256 when absent, 0 for none.
    #[schemars(range(min = 0, max = 100_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
    /// How long a request waits at most; `30s` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<DurationString>,
}

/// GPU-less pods kept beside local ones so that remote backends answer while no GPU does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Spill {
    /// How many.
    #[schemars(range(min = 1, max = 1000))]
    pub replicas: i32,
}

/// Local pods are 0 while idle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "duration(self.idleAfter) >= duration('10s')",
    "scaleToZero.idleAfter is at least 10s: with less, pods would only come and go"
))]
pub struct ScaleToZero {
    /// Time without a request for the local backend after which its pods go, at least `10s`. The next request brings them back.
    pub idle_after: DurationString,
    /// Requests that wait for the pods to come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}

/// Requests that no backend can take while the local pods are away wait in GPU-less pods until one is Ready.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.capacity) || self.capacity > 0 || !has(self.timeout)",
    "with hold.capacity 0 no request is held and a timeout would do nothing"
))]
pub struct Hold {
    /// Requests that one GPU-less pod holds; 256 when absent, at most 1000: each keeps a connection and its body. With 0 none is held, and a
    /// request brings the pods back all the same.
    #[schemars(range(min = 0, max = 1_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
    /// How long a request is held at most; `5m` when absent. A model has to be loaded in this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<DurationString>,
}

impl ScaleToZero {
    /// Requests that one GPU-less pod holds.
    #[must_use]
    pub fn hold_capacity(&self) -> usize {
        self.hold.as_ref().and_then(|h| h.capacity).map_or(256, |n| n as usize)
    }

    /// How long a request is held at most.
    #[must_use]
    pub fn hold_timeout(&self) -> Duration {
        self.hold
            .as_ref()
            .and_then(|h| h.timeout.as_ref())
            .map_or(Duration::from_secs(300), DurationString::get)
    }
}

impl Serving {
    /// Requests one replica works on at once.
    #[must_use]
    pub fn max_concurrent(&self) -> usize {
        self.max_concurrent.map_or(32, |n| n as usize)
    }

    /// Requests that may wait in one replica.
    #[must_use]
    pub fn queue_capacity(&self) -> usize {
        self.queue.as_ref().and_then(|q| q.capacity).map_or(256, |n| n as usize)
    }

    /// How long a request waits at most.
    #[must_use]
    pub fn queue_timeout(&self) -> Duration {
        self.queue
            .as_ref()
            .and_then(|q| q.timeout.as_ref())
            .map_or(Duration::from_secs(30), DurationString::get)
    }

    /// Time that requests in flight have to finish after SIGTERM.
    #[must_use]
    pub fn drain(&self) -> Duration {
        self.drain
            .as_ref()
            .map_or(Duration::from_secs(600), DurationString::get)
    }
}
