//! SIGTERM: not ready at once, accept for a while, finish what is in flight, cut what does not finish (design section 10).

use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
    time::timeout,
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

/// Waits for a signal, then drains. A second signal or the deadline cuts.
pub async fn until_done(mut signals: Signals, front: &Front, closing: &CancellationToken, mut server: JoinHandle<()>) {
    signals.next().await;
    let limit = front.registry.routing().snapshot.serving().drain();
    front.lifecycle.drain();
    info!(in_flight = front.admission.in_flight(), ?limit, "draining");
    // Outside a cluster nobody has to forget this process first.
    if front.identity.is_some() {
        let _ = timeout(STILL_ACCEPT, signals.next()).await;
    }
    closing.cancel();
    tokio::select! {
        _ = &mut server => { info!("drained"); return; }
        () = tokio::time::sleep(limit) => warn!("the time to drain is over"),
        () = signals.next() => warn!("second signal"),
    }
    front.lifecycle.cut.cancel();
    if timeout(LAST_WORDS, server).await.is_err() {
        warn!(in_flight = front.admission.in_flight(), "requests were cut");
    }
}
