//! The process from start to SIGTERM.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use kube::{
    Client, Config,
    runtime::{
        controller::{Config as ApplierConfig, Error as ApplierError, applier},
        reflector::store::WriterDropped,
    },
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{
    build::Defaults,
    call::CallError,
    events::Events,
    lease::{Candidate, LeaseLost, SeizeError},
    memory::Memory,
    metrics::Metrics,
    options::Options,
    orphans::{release_all, release_everything},
    pace::Pace,
    reconcile::{Context, Failures, ReconcileError, after_error, reconcile},
    server::{Health, serve},
    server_time::ServerTime,
    stores::Stores,
    tried::Tried,
    validate::Validated,
    watch::{self, Targets, synced, unfilled},
};

/// Reconciles at once; never two of one object.
const CONCURRENCY: u16 = 8;
/// Timeouts of the election's own client.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// How often is said which caches are not filled yet.
const SAY_AGAIN: Duration = Duration::from_secs(30);

/// Why the controller ends.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No kubeconfig and no ServiceAccount.
    #[error("no cluster to connect to: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The client could not be made.
    #[error("cannot connect to the cluster: {0}")]
    Client(#[from] kube::Error),
    /// The address could not be had, or signals could not be caught.
    #[error("cannot serve on {0}: {1}")]
    Serve(String, std::io::Error),
    /// A finalizer was not taken off.
    #[error(transparent)]
    Release(#[from] CallError),
    /// Another controller may be working.
    #[error(transparent)]
    Lease(#[from] LeaseLost),
    /// The working controller could not be stopped.
    #[error(transparent)]
    Seize(#[from] SeizeError),
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from running; see [`RunError`].
pub async fn run(options: Options) -> Result<(), RunError> {
    if options.release_finalizers {
        return release_finalizers(&options).await;
    }
    let stop = CancellationToken::new();
    stop_on_signals(&stop).map_err(|e| RunError::Serve("signals".into(), e))?;
    let metrics = Arc::new(Metrics::default());
    let health = Health::default();
    let server = serve(options.address, health.clone(), metrics.clone(), stop.clone())
        .await
        .map_err(|e| RunError::Serve(options.address.to_string(), e))?;
    let config = Config::infer().await?;
    let result = if options.leader_election {
        Box::pin(lead(&options, config, &health, &metrics, &stop)).await
    } else {
        work(&options, config, &health, &metrics, &stop).await
    };
    stop.cancel();
    // Only a panic could be told here, and its hook has.
    let _ = server.await;
    result
}

fn stop_on_signals(stop: &CancellationToken) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stop.cancel();
    });
    Ok(())
}

/// Before the operator is removed. A controller that still works would put finalizers back: it loses the Lease first, and whoever starts
/// anew waits longer for it than the removal takes.
async fn release_finalizers(options: &Options) -> Result<(), RunError> {
    let config = Config::infer().await?;
    let client = Client::try_from(config.clone())?;
    let all = release_everything(&client, options.namespace.as_deref());
    if !options.leader_election {
        return Ok(all.await?);
    }
    let mut candidate = candidate(options, config)?;
    candidate.seize().await?;
    let done = CancellationToken::new();
    let releasing = all.inspect(|_| done.cancel());
    let (released, held) = tokio::join!(releasing, candidate.hold(&done));
    held?;
    Ok(released?)
}

fn candidate(options: &Options, mut config: Config) -> Result<Candidate, RunError> {
    let namespace = options.leader_election_namespace.clone();
    let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
    (config.connect_timeout, config.read_timeout) = (Some(ELECTION_TIMEOUT), Some(ELECTION_TIMEOUT));
    let client = Client::try_from(config)?;
    Ok(Candidate::new(
        client,
        &namespace,
        &options.leader_election_name,
        &options.identity,
    ))
}

/// Works while the Lease is held; what is under way is finished before it is given back.
async fn lead(
    options: &Options,
    config: Config,
    health: &Health,
    metrics: &Arc<Metrics>,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let mut candidate = candidate(options, config.clone())?;
    health.set_ready(true);
    if !candidate.acquire(stop).await {
        return Ok(());
    }
    health.set_ready(false);
    tracing::info!(identity = options.identity, "leading");
    metrics.leads(true);
    let done = CancellationToken::new();
    let working = work(options, config, health, metrics, stop).inspect(|_| done.cancel());
    // A lost Lease ends the work at once; the end of the work ends the holding.
    let held = async {
        let held = candidate.hold(&done).await;
        if held.is_err() {
            stop.cancel();
        }
        held
    };
    let (worked, held) = tokio::join!(working, held);
    metrics.leads(false);
    held?;
    candidate.release().await;
    worked
}

async fn work(
    options: &Options,
    config: Config,
    health: &Health,
    metrics: &Arc<Metrics>,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let server_time = ServerTime::default();
    let client = server_time.client(config)?;
    let (events, writing) = Events::start(client.clone(), &options.identity, metrics.clone());
    let (context, targets) = context(options, &client, server_time, events, metrics);
    let filled = CancellationToken::new();
    tokio::select! {
        () = reconcile_all(context.clone(), targets, &filled, stop) => {}
        () = fill(&context.stores, health, &filled, stop) => {}
        () = release_all(client.clone(), context.stores.clone(), metrics.clone()) => {}
    }
    drop(context);
    // Every sender is gone now: the task ends when the queue is empty.
    let _ = tokio::time::timeout(ELECTION_TIMEOUT, writing).await;
    Ok(())
}

/// Ends when `stop` comes before every cache is filled: no reconcile has begun then, and none that waits may keep the Lease.
async fn fill(stores: &Stores, health: &Health, filled: &CancellationToken, stop: &CancellationToken) {
    if let Some(Ok(())) = stop.run_until_cancelled(wait_aloud(stores)).await {
        tracing::info!("the caches are filled");
        health.set_ready(true);
        filled.cancel();
        std::future::pending::<()>().await;
    }
    stop.cancelled().await;
}

async fn wait_aloud(stores: &Stores) -> Result<(), WriterDropped> {
    let mut synced = pin!(synced(stores));
    loop {
        if let Ok(result) = tokio::time::timeout(SAY_AGAIN, synced.as_mut()).await {
            return result;
        }
        let unfilled = unfilled(stores).await.join(", ");
        tracing::warn!(
            unfilled,
            "nothing is reconciled before these can be listed: are the CRDs and rights there?"
        );
    }
}

fn context(
    options: &Options,
    client: &Client,
    server_time: ServerTime,
    events: Events,
    metrics: &Arc<Metrics>,
) -> (Arc<Context>, Targets) {
    let memory = Arc::new(Memory::default());
    let failures = Arc::new(Failures::default());
    let validated = Arc::new(Validated::default());
    let (pace, tried) = (Arc::new(Pace::default()), Arc::new(Tried::default()));
    let gone = {
        let (memory, failures, validated) = (memory.clone(), failures.clone(), validated.clone());
        let (pace, counted, tried) = (pace.clone(), metrics.clone(), tried.clone());
        move |namespace: &str, name: &str, uid: &str| {
            validated.forget(uid);
            pace.forget(uid);
            tried.forget(uid);
            counted.forget(namespace, name);
            memory.forget(namespace, name);
            failures.clear(namespace, name);
        }
    };
    let (stores, targets) = watch::start(client, options.namespace.as_deref(), metrics, gone);
    let context = Context {
        client: client.clone(),
        stores,
        memory,
        validated,
        defaults: Defaults {
            runtime_image: options.runtime_image.clone(),
            addresses: options.allow_endpoint_addresses.clone(),
            hub: options.hugging_face_endpoint.clone(),
            pull_secrets: options.runtime_image_pull_secrets.iter().cloned().collect(),
        },
        events,
        metrics: metrics.clone(),
        failures,
        pace,
        server_time,
        tried,
        image_volumes: Arc::default(),
    };
    (Arc::new(context), targets)
}

/// Reconciles until `stop`, then finishes what is under way. Nothing is decided before every cache is `filled`: a pod that is not in
/// the cache yet must not look like one that is gone.
async fn reconcile_all(context: Arc<Context>, targets: Targets, filled: &CancellationToken, stop: &CancellationToken) {
    let config = ApplierConfig::default().concurrency(CONCURRENCY);
    let gated = |object, context: Arc<Context>| {
        async move {
            filled.cancelled().await;
            reconcile(object, context).await
        }
        .boxed()
    };
    let main = context.stores.deployments.clone();
    let targets = targets.take_until(stop.clone().cancelled_owned());
    applier(gated, after_error, context, main, targets, config)
        .for_each(|result| {
            log(&result.map(|_| ()));
            std::future::ready(())
        })
        .await;
}

/// Failed reconciles were logged where their retry was decided.
fn log(result: &Result<(), ApplierError<ReconcileError, Infallible>>) {
    match result {
        Ok(()) | Err(ApplierError::ReconcilerFailed(..)) => {}
        Err(ApplierError::ObjectNotFound(object)) => tracing::debug!(%object, "gone before its reconcile"),
        Err(error) => tracing::warn!(%error, "reconcile queue"),
    }
}

#[cfg(test)]
mod tests;
