//! The queue in front of the backends, with its wakers.

use std::sync::{Arc, Mutex};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::queue::{Arrival, Limits, Priority, Queue};
use crate::{
    error::InferenceError,
    runtime::{metrics::Metrics, sync::lock},
};

type Waker = oneshot::Sender<()>;

/// The queue in front of the backends.
#[derive(Debug)]
pub struct Admission {
    queue: Mutex<Queue<Waker>>,
    metrics: Arc<Metrics>,
}

/// Turned away.
#[derive(Debug, PartialEq, Eq)]
pub struct TurnedAway {
    /// Always backpressure.
    pub error: InferenceError,
    /// When to come again, whole seconds.
    pub retry_after: u64,
}

impl Admission {
    /// An empty queue.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            queue: Mutex::default(),
            metrics,
        }
    }

    /// Waits for a turn. Dropping the future leaves the queue.
    pub async fn enter(self: &Arc<Self>, priority: Priority, limits: Limits) -> Result<Slot, TurnedAway> {
        let (waker, called) = oneshot::channel();
        let (arrival, displaced) = lock(&self.queue).arrive(priority, waker, limits);
        drop(displaced);
        self.show();
        match arrival {
            Arrival::Go => Ok(self.slot(limits)),
            Arrival::Full { .. } => Err(self.turned_away("the queue is full or too slow")),
            Arrival::Wait(number) => self.wait(number, called, limits).await,
        }
    }

    async fn wait(
        self: &Arc<Self>,
        number: u64,
        called: oneshot::Receiver<()>,
        limits: Limits,
    ) -> Result<Slot, TurnedAway> {
        let mut place = Place {
            admission: self,
            number,
            called,
            limits,
            taken: false,
        };
        match timeout(limits.timeout, &mut place.called).await {
            Ok(Ok(())) => {
                place.taken = true;
                Ok(self.slot(limits))
            }
            Ok(Err(_)) => Err(self.turned_away("the queue is full of more urgent requests")),
            Err(_) => Err(self.turned_away("no turn came within the queue's timeout")),
        }
    }

    fn slot(self: &Arc<Self>, limits: Limits) -> Slot {
        Slot {
            admission: Arc::clone(self),
            limits,
            since: Instant::now(),
        }
    }

    fn turned_away(&self, message: &str) -> TurnedAway {
        let predicted = lock(&self.queue).predicted();
        TurnedAway {
            error: InferenceError::Backpressure {
                message: message.to_owned(),
            },
            retry_after: predicted.as_secs().saturating_add(1),
        }
    }

    /// Calls everybody for whom there is room. The lock is held while a waiter is called, so that one who leaves sees either its
    /// place or its call.
    fn call(&self, queue: &mut Queue<Waker>, limits: Limits) {
        while let Some(waker) = queue.turn(limits) {
            if waker.send(()).is_err() {
                queue.return_turn();
            }
        }
        self.metrics.admission(queue.waiting(), queue.working());
    }

    fn show(&self) {
        let queue = lock(&self.queue);
        self.metrics.admission(queue.waiting(), queue.working());
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
    called: oneshot::Receiver<()>,
    limits: Limits,
    taken: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let mut queue = lock(&self.admission.queue);
        if !queue.leave(self.number) && self.called.try_recv().is_ok() {
            queue.return_turn();
        }
        self.admission.call(&mut queue, self.limits);
    }
}

/// A turn. Dropped, it is the next one's.
#[derive(Debug)]
pub struct Slot {
    admission: Arc<Admission>,
    limits: Limits,
    since: Instant,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut queue = lock(&self.admission.queue);
        queue.finish(self.since.elapsed(), self.limits.concurrent);
        self.admission.call(&mut queue, self.limits);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    const LIMITS: Limits = Limits {
        concurrent: 1,
        capacity: 8,
        timeout: Duration::from_secs(30),
    };

    fn admission() -> Arc<Admission> {
        Arc::new(Admission::new(Arc::default()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_passes_to_the_next_one() {
        let admission = admission();
        let first = admission.enter(Priority::Normal, LIMITS).await.unwrap();
        let mut second = Box::pin(admission.enter(Priority::Normal, LIMITS));
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        let _second = second.await.unwrap();
        assert_eq!(admission.in_flight(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_the_timeout() {
        let admission = admission();
        let _first = admission.enter(Priority::Normal, LIMITS).await.unwrap();
        let before = Instant::now();
        let refused = admission.enter(Priority::Critical, LIMITS).await.unwrap_err();
        assert_eq!(before.elapsed(), LIMITS.timeout);
        assert_eq!(refused.error.kind().as_str(), "backpressure");
        assert_eq!(admission.in_flight(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_costs_nobody_a_turn() {
        let admission = admission();
        let first = admission.enter(Priority::Normal, LIMITS).await.unwrap();
        let mut leaver = Box::pin(admission.enter(Priority::Normal, LIMITS));
        let mut stays = Box::pin(admission.enter(Priority::Normal, LIMITS));
        assert!((&mut leaver).now_or_never().is_none());
        assert!((&mut stays).now_or_never().is_none());
        drop(first);
        drop(leaver);
        let stays = stays.await.unwrap();
        drop(stays);
        assert_eq!(admission.in_flight(), 0);
    }
}
