//! A process in a pod of the controller's.

use std::{env, sync::Arc};

use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    Options, ServeError,
    assemble::{self, Cluster, Parts},
    drain::Signals,
    open, tend,
};
use crate::{
    api::{Backend, LocalBackend, names},
    runtime::{
        access::Verifier,
        config::{self, Identity, Keys, Snapshot},
        front::admin::Admin,
    },
};

/// Serves the pod's own InferenceDeployment.
pub async fn serve(
    options: &Options,
    mut signals: Signals,
    shown: &Admin,
    shutdown: &CancellationToken,
) -> Result<(), ServeError> {
    let identity = Identity::from_env()?;
    let client = Client::try_default()
        .await
        .map_err(|error| ServeError::Kube(error.to_string()))?;
    let mut snapshots = config::follow(&client, &identity, shutdown.clone());
    let gate = config::gate(&client, &identity, shutdown.clone());
    let verifier = Arc::new(Verifier::in_pod(client.clone())?);
    let snapshot = tokio::select! {
        snapshot = first(&mut snapshots) => snapshot,
        () = signals.next() => None,
    };
    let Some(snapshot) = snapshot else {
        info!("asked to end before there was a configuration");
        return Ok(());
    };
    let keys = options.keys.clone().unwrap_or_else(|| names::DIR_KEYS.into());
    let front = Arc::new(assemble::front(Parts {
        snapshot,
        keys: Keys::Directory(keys),
        engine: None,
        cluster: Some(Cluster {
            identity,
            gate,
            verifier,
        }),
    })?);
    tend::configuration(&front, snapshots, shutdown.clone());
    open(options, &front, signals, shown, shutdown).await
}

/// The first good configuration; `None` when there will be none.
async fn first(snapshots: &mut watch::Receiver<Option<Arc<Snapshot>>>) -> Option<Arc<Snapshot>> {
    snapshots.wait_for(Option::is_some).await.ok()?.clone()
}

/// The pod's engine, from its own template: never from the watch (design section 4).
pub fn local_backend() -> Result<Option<(String, LocalBackend)>, ServeError> {
    let Ok(text) = env::var(names::ENV_LOCAL_BACKEND) else {
        return Ok(None);
    };
    let backend: Backend = serde_json::from_str(&text).map_err(|error| ServeError::LocalBackend(error.to_string()))?;
    let Backend { name, local, remote: _ } = backend;
    let local = local.ok_or_else(|| ServeError::LocalBackend("it has no field local".into()))?;
    Ok(Some((name, local)))
}
