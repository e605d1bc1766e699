//! What the process looks after while it serves.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::runtime::front::Front;

/// Keys are read again so often. A projected Secret changes by way of a symbolic link, which no file watch sees reliably.
const KEYS: Duration = Duration::from_secs(2);

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
