//! Requests that wait for a local pod to come back (design section 4, Scaling): bounded in number and time, first come first served.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout_at},
};

use super::admission::Shed;
use crate::runtime::{metrics::Metrics, peer::Peers};

/// How often it is looked whether a local pod is Ready.
const LOOK: Duration = Duration::from_millis(250);

/// Requests that wait for a local pod.
#[derive(Debug, Default)]
pub struct Hold {
    /// The first in line looks for all.
    line: Mutex<()>,
    held: AtomicUsize,
}

/// How many, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Requests that wait at once.
    pub capacity: usize,
    /// Until when this one waits.
    pub until: Instant,
}

impl Hold {
    /// Waits until a peer can be asked. Dropping the future leaves the line. `comes_back` tells while it is waited whether pods are still
    /// to come.
    ///
    /// # Errors
    /// There are too many already, none came in time, or none is to come any more.
    pub async fn wait(
        &self,
        peers: &Peers,
        bounds: Bounds,
        metrics: &Arc<Metrics>,
        comes_back: impl Fn() -> bool,
    ) -> Result<(), Shed> {
        let place = Place::take(&self.held, bounds.capacity, metrics).ok_or(Shed::HoldFull)?;
        let looking = async {
            let _first = self.line.lock().await;
            while comes_back() {
                if peers.any().await {
                    return Ok(());
                }
                sleep(LOOK).await;
            }
            Err(Shed::Off)
        };
        let came = timeout_at(bounds.until, looking).await;
        drop(place);
        came.unwrap_or(Err(Shed::HoldTimeout))
    }
}

/// A place in the line.
struct Place<'a> {
    held: &'a AtomicUsize,
    metrics: &'a Metrics,
}

impl<'a> Place<'a> {
    fn take(held: &'a AtomicUsize, capacity: usize, metrics: &'a Metrics) -> Option<Self> {
        let taken = held.fetch_add(1, Ordering::Relaxed);
        let place = Self { held, metrics };
        place.show();
        (taken < capacity).then_some(place)
    }

    fn show(&self) {
        self.metrics.held(self.held.load(Ordering::Relaxed));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        self.show();
    }
}
