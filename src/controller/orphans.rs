//! A deleted `InferenceDeployment` ends its budget: what its replicas have to say of money concerns nobody any more, and their
//! finalizers are taken off. The deployment itself is gone by then, so no reconcile does it.

use std::{sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client, Resource, ResourceExt, api::ListParams};
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

/// How often all replicas are looked through before the operator is removed.
const PASSES: usize = 10;

/// Takes all finalizers off, until twice in a row there was none. Where the CRDs are gone there are none.
pub async fn release_everything(client: &Client, namespace: Option<&str>) -> Result<(), CallError> {
    let metrics = Metrics::default();
    let api: Api<InferenceReplica> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let (mut ticks, mut clean) = (interval(LOOK), 0);
    for _ in 0..PASSES {
        ticks.tick().await;
        let replicas = match call("list all replicas", api.list_metadata(&ListParams::default())).await {
            Err(error) if error.is_not_found() => return Ok(()),
            replicas => replicas?,
        };
        let held: Vec<_> = replicas
            .items
            .iter()
            .filter(|replica| is_held(&replica.metadata))
            .collect();
        clean = if held.is_empty() { clean + 1 } else { 0 };
        for replica in held {
            release(
                client,
                &replica.namespace().unwrap_or_default(),
                &replica.metadata,
                &metrics,
            )
            .await?;
        }
        if clean == 2 {
            break;
        }
    }
    Ok(())
}

fn is_held(meta: &ObjectMeta) -> bool {
    meta.finalizers
        .iter()
        .flatten()
        .any(|name| name == names::FINALIZER_BUDGET)
}

/// It is being deleted and only the finalizer keeps it.
fn waits(replica: &Guarded<InferenceReplica>) -> bool {
    replica.meta().deletion_timestamp.is_some() && is_held(replica.meta())
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
