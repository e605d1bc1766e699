//! A deleted `InferenceDeployment` ends its budget: what its replicas have to say of money concerns nobody any more, and their
//! finalizers are taken off. The deployment itself is gone by then, so no reconcile does it.

use std::{sync::Arc, time::Duration};

use kube::{Api, Client, Resource, ResourceExt};
use tokio::time::{MissedTickBehavior, interval};

use super::{
    apply::release,
    call::{CallError, call},
    metrics::Metrics,
    stores::{Guarded, Stores},
};
use crate::api::{InferenceDeployment, InferenceReplica, names};

/// How often the caches are looked through; where nothing is being deleted nothing is asked of the API server.
const LOOK: Duration = Duration::from_secs(2);

/// Takes finalizers off until it is dropped.
pub async fn release_all(client: Client, stores: Stores, metrics: Arc<Metrics>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for replica in stores.replicas.state().iter().filter(|replica| waits(replica)) {
            if let Err(error) = release_orphan(&client, replica, &metrics).await {
                metrics.call_failed(&error);
                tracing::warn!(%error, replica = replica.name_any(), "a finalizer was not taken off");
            }
        }
    }
}

/// It is being deleted and only the finalizer keeps it.
fn waits(replica: &Guarded<InferenceReplica>) -> bool {
    replica.meta().deletion_timestamp.is_some()
        && replica.finalizers().iter().any(|name| name == names::FINALIZER_BUDGET)
}

/// The owner is asked for live: a cache that lags must not end a budget.
async fn release_orphan(
    client: &Client,
    replica: &Guarded<InferenceReplica>,
    metrics: &Metrics,
) -> Result<(), CallError> {
    let namespace = replica.namespace().unwrap_or_default();
    let owner = replica
        .meta()
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true));
    if let Some(owner) = owner {
        let api: Api<InferenceDeployment> = Api::namespaced(client.clone(), &namespace);
        let found = call("read the owner of a replica", api.get_metadata_opt(&owner.name)).await?;
        let lives = found.is_some_and(|found| {
            found.metadata.uid.as_ref() == Some(&owner.uid) && found.metadata.deletion_timestamp.is_none()
        });
        if lives {
            return Ok(());
        }
    }
    release(client, &namespace, replica.meta(), metrics).await
}
