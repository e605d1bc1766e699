//! The configuration from the cluster: a watch on the process's own object, and the gate before remote backends.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, pin_mut};
use kube::{
    Api, Client,
    api::DynamicObject,
    core::{ApiResource, Resource},
    runtime::{WatchStreamExt, watcher},
};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Identity, Snapshot};
use crate::{
    api::{InferenceDeployment, InferenceReplica},
    policy::support::{Mode, unsupported},
};

const CALL_DEADLINE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);

/// Follows the process's own object. The channel holds `None` until the first good state; an object that cannot be read or asks for
/// what this version does not do leaves the last good one in force.
#[must_use]
pub fn follow(
    client: &Client,
    identity: &Identity,
    shutdown: CancellationToken,
) -> watch::Receiver<Option<Arc<Snapshot>>> {
    let (sender, receiver) = watch::channel(None);
    let kind = ApiResource::erase::<InferenceDeployment>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &identity.namespace, &kind);
    let name = identity.deployment.clone();
    tokio::spawn(async move {
        let () = shutdown
            .run_until_cancelled(watch_object(api, &name, &sender))
            .await
            .unwrap_or_default();
    });
    receiver
}

async fn watch_object(api: Api<DynamicObject>, name: &str, sender: &watch::Sender<Option<Arc<Snapshot>>>) {
    let config = watcher::Config::default()
        .fields(&format!("metadata.name={name}"))
        .timeout(280);
    let events = watcher(api, config).default_backoff().applied_objects();
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(object) => take(object, sender),
            Err(error) => {
                warn!(%error, "the watch of the InferenceDeployment failed; the last good configuration stays in force");
            }
        }
    }
}

fn take(object: DynamicObject, sender: &watch::Sender<Option<Arc<Snapshot>>>) {
    match decode(object) {
        Ok(snapshot) => {
            let changed = sender.borrow().as_deref() != Some(&snapshot);
            if changed {
                info!(generation = snapshot.generation, "configuration taken");
                sender.send_replace(Some(Arc::new(snapshot)));
            }
        }
        Err(reason) => warn!(
            reason,
            "the InferenceDeployment cannot be carried out; the last good configuration stays in force"
        ),
    }
}

fn decode(object: DynamicObject) -> Result<Snapshot, String> {
    let object: InferenceDeployment = object.try_parse().map_err(|error| error.to_string())?;
    let refused: Vec<_> = unsupported(&object.spec, Mode::Cluster)
        .into_iter()
        .map(|u| format!("{}: {}", u.field, u.message))
        .collect();
    if refused.is_empty() {
        Ok(object.into())
    } else {
        Err(refused.join("; "))
    }
}

/// Opens once this process has read its own `InferenceReplica` live, with its pod's UID: before that nothing goes to a remote backend
/// (design section 9).
#[must_use]
pub fn gate(client: &Client, identity: &Identity, shutdown: CancellationToken) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    let api: Api<InferenceReplica> = Api::namespaced(client.clone(), &identity.namespace);
    let identity = identity.clone();
    tokio::spawn(async move {
        let opened = shutdown.run_until_cancelled(until_read(&api, &identity)).await;
        if opened.is_some() {
            info!("own InferenceReplica read: remote backends may be used");
            sender.send_replace(true);
        }
    });
    receiver
}

async fn until_read(api: &Api<InferenceReplica>, identity: &Identity) {
    loop {
        match timeout(CALL_DEADLINE, api.get_opt(&identity.pod)).await {
            Ok(Ok(Some(replica))) if replica.spec.pod_uid == identity.pod_uid => return,
            Ok(Ok(Some(replica))) => {
                warn!(
                    found = replica.spec.pod_uid,
                    "the InferenceReplica of this name belongs to another pod; waiting for ours"
                );
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => warn!(%error, "cannot read the own {}", InferenceReplica::kind(&())),
            Err(_) => warn!("the API server did not answer within {CALL_DEADLINE:?}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(spec: serde_json::Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "inference-operator.dev/v1alpha1", "kind": "InferenceDeployment",
            "metadata": {"name": "assistant", "namespace": "prod", "generation": 3}, "spec": spec,
        }))
        .unwrap()
    }

    fn good() -> serde_json::Value {
        json!({"backends": [{"name": "a", "remote": {"provider": "LiteLLM", "endpoint": "http://x.example", "model": "m"}}]})
    }

    #[test]
    fn an_unreadable_object_leaves_the_last_good_one() {
        let (sender, receiver) = watch::channel(None);
        take(object(good()), &sender);
        assert_eq!(receiver.borrow().as_ref().unwrap().generation, Some(3));
        take(object(json!({"backends": "nonsense"})), &sender);
        take(object(json!({})), &sender);
        let kept = receiver.borrow().clone().unwrap();
        assert_eq!(
            (kept.full_name(), kept.spec.backends.len()),
            ("prod/assistant".into(), 1)
        );
    }
}
