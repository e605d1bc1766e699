//! One way to answer.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{LocalBackend, RemoteBackend};

/// One way to answer: exactly one of `local` and `remote`. The list's order is the order of preference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.local) != has(self.remote)", "a backend has exactly one of local and remote"))]
pub struct Backend {
    /// Name of the backend, unique in the list; it appears in status, metrics and answers. A DNS label of at most 40 characters.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A model run by an engine in this deployment's own pods. A change in it replaces them, but for `price` and what says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalBackend>,
    /// A provider's API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteBackend>,
}

/// What a backend is, with the schema's "exactly one" already decided.
#[derive(Clone, Copy, Debug)]
pub enum BackendKind<'a> {
    /// An engine in a runtime pod.
    Local(&'a LocalBackend),
    /// A provider's API.
    Remote(&'a RemoteBackend),
}

impl Backend {
    /// The backend's kind; `None` when an object that got past an older schema has both or neither.
    #[must_use]
    pub const fn kind(&self) -> Option<BackendKind<'_>> {
        match (&self.local, &self.remote) {
            (Some(local), None) => Some(BackendKind::Local(local)),
            (None, Some(remote)) => Some(BackendKind::Remote(remote)),
            _ => None,
        }
    }
}
