//! Calls about our own `InferenceReplica`, each with a deadline: kube's client has no read timeout.

use std::time::Duration;

use futures::Stream;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;

use crate::api::{GROUP, InferenceReplica, InferenceReplicaStatus, VERSION, names};

const DEADLINE: Duration = Duration::from_secs(5);

/// Which `InferenceReplica` is ours: that of our pod's name, made for our pod's UID.
#[derive(Clone, Debug)]
pub struct OwnReplica {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod.
    pub pod_uid: String,
}

/// Why a report did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// No answer in time.
    #[error("no answer of the API server within {} s", DEADLINE.as_secs())]
    Deadline,
    /// The API server refused or could not be reached.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The object is that of an earlier pod of the same name; the controller will replace it.
    #[error("the InferenceReplica was made for pod UID {0}, not for ours")]
    OtherPod(String),
}

impl ReportError {
    /// Somebody else has written meanwhile.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 409)
    }
}

impl OwnReplica {
    /// Made for our pod, not for an earlier one of its name.
    pub(super) fn is(&self, replica: &InferenceReplica) -> bool {
        replica.spec.pod_uid == self.pod_uid
    }

    pub(super) fn connect(self, client: Client) -> Connected {
        Connected {
            api: Api::namespaced(client, &self.namespace),
            own: self,
        }
    }
}

pub(super) struct Connected {
    api: Api<InferenceReplica>,
    own: OwnReplica,
}

impl Connected {
    /// A live read, never from a cache.
    pub(super) async fn find(&self) -> Result<InferenceReplica, ReportError> {
        let replica = within(self.api.get(&self.own.pod)).await?;
        if self.own.is(&replica) {
            Ok(replica)
        } else {
            Err(ReportError::OtherPod(replica.spec.pod_uid))
        }
    }

    /// The object's states from now on.
    pub(super) fn watch(&self) -> impl Stream<Item = Result<InferenceReplica, watcher::Error>> + use<> {
        let config = watcher::Config::default()
            .fields(&format!("metadata.name={}", self.own.pod))
            .timeout(280);
        watcher(self.api.clone(), config).default_backoff().applied_objects()
    }

    /// Server-side apply of the whole status, over the resourceVersion `over` of the object only: what is no longer said is removed.
    /// Gives the new version.
    pub(super) async fn write(&self, status: &InferenceReplicaStatus, over: &str) -> Result<String, ReportError> {
        let object = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": "InferenceReplica",
            "metadata": {"name": self.own.pod, "resourceVersion": over},
            "status": status,
        });
        let params = PatchParams::apply(names::RUNTIME_MANAGER).force();
        let written = within(self.api.patch_status(&self.own.pod, &params, &Patch::Apply(object))).await?;
        Ok(written.metadata.resource_version.unwrap_or_default())
    }
}

async fn within<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ReportError> {
    Ok(tokio::time::timeout(DEADLINE, call)
        .await
        .map_err(|_| ReportError::Deadline)??)
}
