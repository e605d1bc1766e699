//! What the process looks after while it serves.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::runtime::{backends::replica_news, config::Snapshot, front::Front, local::EngineView, report::News};

/// Keys are read again so often: a changed one is in force within a second. A projected Secret changes by way of a symbolic link, which
/// no file watch sees reliably, and a few small files in memory cost nothing.
const KEYS: Duration = Duration::from_millis(500);
/// The demand for shares is judged so often: more often it could not be told.
const DEMAND: Duration = Duration::from_millis(250);
/// Status is computed again at least so often, and at most four times a second.
const NEWS: Duration = Duration::from_secs(5);
const NEWS_PAUSE: Duration = Duration::from_millis(250);
/// How often it is looked whether money has lain idle.
const MONEY: Duration = Duration::from_secs(1);

/// Reads keys again and again until `shutdown`.
pub fn keys(front: &Arc<Front>, shutdown: CancellationToken) {
    let front = Arc::clone(front);
    tokio::spawn(async move {
        let mut ticks = interval(KEYS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            front.registry.refresh_keys();
            front.door.refresh(&front.registry.routing().snapshot);
        }
    });
}

/// Looks after the demand for shares of rate limits until `shutdown`.
pub fn demand(front: &Arc<Front>, shutdown: CancellationToken) {
    let front = Arc::clone(front);
    tokio::spawn(async move {
        let mut ticks = interval(DEMAND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            front.registry.judge_demand();
        }
    });
}

/// Takes every new configuration until `shutdown`.
pub fn configuration(
    front: &Arc<Front>,
    mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    shutdown: CancellationToken,
) {
    let front = Arc::clone(front);
    tokio::spawn(async move {
        while let Some(Ok(())) = shutdown.run_until_cancelled(snapshots.changed()).await {
            let snapshot = snapshots.borrow_and_update().clone();
            if let Some(snapshot) = snapshot {
                front.door.refresh(&snapshot);
                front.registry.configure(snapshot);
            }
        }
    });
}

/// Ready once the engine has answered its first canary; at once where there is no engine. The time without requests begins then.
pub fn readiness(front: &Arc<Front>) {
    let Some(mut engine) = front.registry.engine.as_ref().map(|own| own.view.clone()) else {
        front.registry.demand.start();
        front.lifecycle.configured();
        return;
    };
    let front = Arc::clone(front);
    tokio::spawn(async move {
        if engine
            .wait_for(|view| matches!(view, EngineView::Ready(_)))
            .await
            .is_ok()
        {
            info!("the engine answered its first canary");
            front.registry.demand.start();
            front.lifecycle.configured();
            front.registry.signals.routine();
        }
    });
}

/// Gives money back that is not used, until `shutdown`.
pub fn money(front: &Arc<Front>, shutdown: CancellationToken) {
    let Some(leases) = front.registry.leases().cloned() else {
        return;
    };
    tokio::spawn(async move {
        let mut ticks = interval(MONEY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            leases.tick();
        }
    });
}

/// Publishes the replica's status: only what changed in meaning. After `closing` once more, and then the task ends.
#[must_use]
pub fn news(
    front: &Arc<Front>,
    boot_id: String,
    closing: CancellationToken,
) -> (watch::Receiver<News>, JoinHandle<()>) {
    let (sender, receiver) = watch::channel(current(front, &boot_id));
    let front = Arc::clone(front);
    let task = tokio::spawn(async move {
        let mut engine = front.registry.engine.as_ref().map(|own| own.view.clone());
        let telling = async {
            loop {
                let _ = timeout(NEWS, changed(&front, &mut engine)).await;
                let now = current(&front, &boot_id);
                sender.send_if_modified(|told| {
                    let modified = told.status != now.status || told.urgent != now.urgent || told.over != now.over;
                    *told = now;
                    modified
                });
                sleep(NEWS_PAUSE).await;
            }
        };
        let () = closing.run_until_cancelled(telling).await.unwrap_or_default();
        sender.send_replace(current(&front, &boot_id));
    });
    (receiver, task)
}

fn current(front: &Front, boot_id: &str) -> News {
    replica_news(&front.registry, boot_id, front.lifecycle.ready())
}

/// Until something is worth computing the status again.
async fn changed(front: &Front, engine: &mut Option<watch::Receiver<EngineView>>) {
    let engine = async {
        // A worker that is gone changes nothing more.
        let changed = match engine {
            Some(view) => view.changed().await.is_ok(),
            None => false,
        };
        if !changed {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = front.registry.signals.changed() => {}
        () = engine => {}
    }
}
