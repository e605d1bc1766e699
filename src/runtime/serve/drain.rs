//! The end: not ready at once, accept for a while, finish what is in flight, cut what does not finish (design section 10).

use std::{io, time::Duration};

use futures::future::{JoinAll, join_all};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::runtime::front::Front;

/// Endpoints need so long to forget a pod that is no longer ready.
const STILL_ACCEPT: Duration = Duration::from_secs(5);
/// Streams that were cut need so long to say so.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    /// From now on these signals no longer end the process by themselves.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// The ports that are served, and what closes them.
#[derive(Debug)]
pub struct Servers {
    /// Cancelled: no new connections, idle ones are closed.
    pub closing: CancellationToken,
    /// End when the last request has.
    pub running: Vec<JoinHandle<()>>,
}

/// Drains. A further signal or the deadline cuts.
pub async fn drain(signals: &mut Signals, front: &Front, servers: Servers, limit: Duration) {
    let Servers { closing, running } = servers;
    front.lifecycle.drain();
    front.registry.signals.routine();
    info!(in_flight = front.admission.in_flight(), ?limit, "draining");
    let mut running = join_all(running);
    tokio::select! {
        () = finish(front, &closing, &mut running) => {
            info!("drained");
            return;
        }
        () = sleep(limit) => warn!("the time to drain is over"),
        () = signals.next() => warn!("second signal"),
    }
    closing.cancel();
    front.lifecycle.cut.cancel();
    if timeout(LAST_WORDS, running).await.is_err() {
        warn!(in_flight = front.admission.in_flight(), "requests were cut");
    }
}

async fn finish(front: &Front, closing: &CancellationToken, running: &mut JoinAll<JoinHandle<()>>) {
    // Outside a cluster nobody has to forget this process first.
    if front.identity.is_some() {
        sleep(STILL_ACCEPT).await;
    }
    closing.cancel();
    running.await;
}
