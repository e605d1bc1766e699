//! The configuration from the cluster: a watch on the process's own object.

use std::sync::Arc;

use futures::{StreamExt, pin_mut};
use kube::{
    Api, Client,
    api::DynamicObject,
    core::ApiResource,
    runtime::{WatchStreamExt, watcher},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Identity, Snapshot};
use crate::{
    api::InferenceDeployment,
    policy::support::{Mode, unsupported},
};

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
