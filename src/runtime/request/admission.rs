//! The queue in front of the backends, with its wakers.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{
    body::Bodies,
    queue::{Arrival, Limits, Priority, Queue},
};
use crate::{
    error::InferenceError,
    runtime::{metrics::Metrics, sync::lock},
};

/// Called with the time at which the turn began.
type Waker = oneshot::Sender<Duration>;

/// Nobody is told to stay away longer, seconds.
const LONGEST_WAIT: u64 = 300;
/// A model that is being loaded is not there sooner, seconds.
const LOADING: u64 = 5;

/// Why a request was turned away before any backend was asked: the label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// No place to wait.
    Full,
    /// The measured rate says that its turn would come too late.
    PredictedWait,
    /// A more urgent one, or one of a priority below its share, took its place.
    Displaced,
    /// Its turn did not come in time.
    Timeout,
    /// The bodies of the requests in hand have all the memory that there is for them.
    Memory,
    /// The same as [`Self::PredictedWait`] and [`Self::Timeout`] at the own engine, after the request was taken in.
    Engine,
    /// So many wait for a local pod already.
    HoldFull,
    /// No local pod came in time.
    HoldTimeout,
    /// While it waited for a local pod, it was decided that none comes.
    Off,
}

impl Shed {
    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::PredictedWait => "predicted_wait",
            Self::Displaced => "displaced",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Engine => "engine",
            Self::HoldFull => "hold_full",
            Self::HoldTimeout => "hold_timeout",
            Self::Off => "off",
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::Full => "the queue is full",
            Self::PredictedWait => "the queue is too slow: the turn would come after the queue's timeout",
            Self::Displaced => "the queue is full of more urgent requests",
            Self::Timeout => "no turn came within the queue's timeout",
            Self::Memory => "the requests in hand have all the memory that there is for bodies",
            Self::Engine => "all places of the engine are taken",
            Self::HoldFull => "the model comes back from scaleToZero and as many requests as hold.capacity wait for it",
            Self::HoldTimeout => "the model did not come back from scaleToZero within hold.timeout",
            Self::Off => {
                "no local pod comes back: the deployment was switched off, or the budget does not pay for its GPUs"
            }
        }
    }
}

/// The queue in front of the backends.
#[derive(Debug)]
pub struct Admission {
    queue: Mutex<Queue<Waker>>,
    origin: Instant,
    /// `None` for a line behind the queue, which is not shown.
    metrics: Option<Arc<Metrics>>,
    /// Memory for the bodies of all requests in hand.
    pub bodies: Bodies,
}

/// Turned away.
#[derive(Debug, PartialEq, Eq)]
pub struct TurnedAway {
    /// Why.
    pub reason: Shed,
    /// When to come again, whole seconds: 1 to 300.
    pub retry_after: u64,
}

impl From<TurnedAway> for InferenceError {
    fn from(away: TurnedAway) -> Self {
        Self::Backpressure {
            message: away.reason.message().to_owned(),
        }
    }
}

impl Admission {
    /// An empty queue.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics: Some(metrics),
            ..Self::line()
        }
    }

    /// An empty line behind the queue: the same rules, no metrics.
    #[must_use]
    pub fn line() -> Self {
        Self {
            queue: Mutex::default(),
            origin: Instant::now(),
            metrics: None,
            bodies: Bodies::default(),
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Waits for a turn. Dropping the future leaves the queue.
    pub async fn enter(self: &Arc<Self>, priority: Priority, limits: Limits) -> Result<Slot, TurnedAway> {
        let now = self.now();
        if self.goes(limits, now) {
            return Ok(self.slot(now));
        }
        let (waker, called) = oneshot::channel();
        let (arrival, displaced) = lock(&self.queue).arrive(priority, waker, limits, now);
        drop(displaced);
        self.show();
        match arrival {
            Arrival::Go => Ok(self.slot(now)),
            Arrival::Full => Err(self.turned_away(Shed::Full, priority)),
            Arrival::TooSlow => Err(self.turned_away(Shed::PredictedWait, priority)),
            Arrival::Wait(number) => self
                .wait(number, called, limits.timeout)
                .await
                .map_err(|reason| self.turned_away(reason, priority)),
        }
    }

    fn goes(&self, limits: Limits, now: Duration) -> bool {
        let mut queue = lock(&self.queue);
        let goes = queue.go(limits, now);
        self.tell(&queue);
        goes
    }

    async fn wait(
        self: &Arc<Self>,
        number: u64,
        called: oneshot::Receiver<Duration>,
        patience: Duration,
    ) -> Result<Slot, Shed> {
        let mut place = Place {
            admission: self,
            number,
            called,
            taken: false,
        };
        match timeout(patience, &mut place.called).await {
            Ok(Ok(begun)) => {
                place.taken = true;
                Ok(self.slot(begun))
            }
            Ok(Err(_)) => Err(Shed::Displaced),
            Err(_) => Err(Shed::Timeout),
        }
    }

    fn slot(self: &Arc<Self>, begun: Duration) -> Slot {
        Slot {
            admission: Arc::clone(self),
            begun,
        }
    }

    /// Counts a request that is turned away and says when it may come again.
    pub fn turned_away(&self, reason: Shed, priority: Priority) -> TurnedAway {
        if let Some(metrics) = &self.metrics {
            metrics.shed(reason.as_str());
        }
        let predicted = lock(&self.queue).predicted(priority, self.now());
        let least = match reason {
            Shed::HoldFull | Shed::HoldTimeout => LOADING,
            _ => 1,
        };
        TurnedAway {
            reason,
            retry_after: predicted.as_secs().saturating_add(1).clamp(least, LONGEST_WAIT),
        }
    }

    /// Calls everybody for whom there is room. The lock is held while a waiter is called, so that one who leaves sees either its
    /// place or its call.
    fn call(&self, queue: &mut Queue<Waker>, now: Duration) {
        while let Some(waker) = queue.turn(now) {
            if let Err(begun) = waker.send(now) {
                queue.return_turn(begun);
            }
        }
        self.tell(queue);
    }

    fn show(&self) {
        self.tell(&lock(&self.queue));
    }

    fn tell(&self, queue: &Queue<Waker>) {
        if let Some(metrics) = &self.metrics {
            metrics.admission(queue.waiting(), queue.working());
        }
    }

    /// Requests that are worked on or wait.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        let queue = lock(&self.queue);
        queue.working() + queue.waiting()
    }
}

/// A place in the queue; dropped, it is given up.
struct Place<'a> {
    admission: &'a Admission,
    number: u64,
    called: oneshot::Receiver<Duration>,
    taken: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let mut queue = lock(&self.admission.queue);
        if !queue.leave(self.number)
            && let Ok(begun) = self.called.try_recv()
        {
            queue.return_turn(begun);
        }
        self.admission.call(&mut queue, self.admission.now());
    }
}

/// A turn. Dropped, it is the next one's.
#[derive(Debug)]
pub struct Slot {
    admission: Arc<Admission>,
    begun: Duration,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut queue = lock(&self.admission.queue);
        let now = self.admission.now();
        queue.finish(self.begun, now);
        self.admission.call(&mut queue, now);
    }
}

#[cfg(test)]
mod tests;
