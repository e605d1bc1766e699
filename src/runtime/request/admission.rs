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
        let (waker, called) = oneshot::channel();
        let now = self.now();
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
        TurnedAway {
            reason,
            retry_after: predicted.as_secs().saturating_add(1).min(LONGEST_WAIT),
        }
    }

    /// Calls everybody for whom there is room. The lock is held while a waiter is called, so that one who leaves sees either its
    /// place or its call.
    fn call(&self, queue: &mut Queue<Waker>) {
        let now = self.now();
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
        self.admission.call(&mut queue);
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
        queue.finish(self.begun, self.admission.now());
        self.admission.call(&mut queue);
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!((refused.reason, refused.retry_after), (Shed::Timeout, 31));
        assert_eq!(InferenceError::from(refused).kind().as_str(), "backpressure");
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

    /// Takes turns of `service` each, `count` one after another.
    async fn serve(admission: &Arc<Admission>, service: Duration, count: usize) {
        for _ in 0..count {
            let slot = admission.enter(Priority::Normal, LIMITS).await.unwrap();
            tokio::time::sleep(service).await;
            drop(slot);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_too_long_is_told_at_once_and_when_to_come_again() {
        let mut told = Vec::new();
        for service in [1, 4, 9, 60, 4_000].map(Duration::from_secs) {
            let admission = admission();
            serve(&admission, service, 1).await;
            let _works = admission.enter(Priority::Normal, LIMITS).await.unwrap();
            let mut waiting: Vec<_> = (0..8)
                .map(|_| Box::pin(admission.enter(Priority::Normal, LIMITS)))
                .collect();
            let taken_in = waiting
                .iter_mut()
                .filter_map(FutureExt::now_or_never)
                .filter(Result::is_err)
                .count();
            let before = Instant::now();
            let away = admission.enter(Priority::Normal, LIMITS).await.unwrap_err();
            assert_eq!(before.elapsed(), Duration::ZERO, "nobody waits to be refused");
            told.push((service.as_secs(), 8 - taken_in, away.reason, away.retry_after));
        }
        println!("service s, taken in of 8, why the 9th is not, Retry-After s: {told:?}");
        assert_eq!(
            told,
            [
                (1, 8, Shed::Full, 10),
                (4, 7, Shed::PredictedWait, 33),
                (9, 3, Shed::PredictedWait, 37),
                (60, 0, Shed::PredictedWait, 61),
                (4_000, 0, Shed::PredictedWait, LONGEST_WAIT),
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn under_a_flood_the_critical_wait_least_and_the_background_is_served() {
        const WIDE: Limits = Limits {
            concurrent: 4,
            capacity: 256,
            timeout: Duration::from_secs(600),
        };
        const ALL: [Priority; 4] = [
            Priority::Critical,
            Priority::High,
            Priority::Normal,
            Priority::Background,
        ];
        let admission = admission();
        let until = Instant::now() + Duration::from_secs(1_000);
        // Each priority is asked for by 60 clients who come again at once: more than there is room for.
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..240 {
            let (admission, lane) = (Arc::clone(&admission), client % 4);
            clients.spawn(async move {
                let (mut served, mut waited) = (0_u32, Duration::ZERO);
                while Instant::now() < until {
                    let came = Instant::now();
                    let Ok(_slot) = admission.enter(ALL[lane], WIDE).await else {
                        break;
                    };
                    (served, waited) = (served + 1, waited + came.elapsed());
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                (lane, served, waited)
            });
        }
        let mut sums = [(0_u32, Duration::ZERO); 4];
        while let Some(Ok((lane, served, waited))) = clients.join_next().await {
            sums[lane] = (sums[lane].0 + served, sums[lane].1 + waited);
        }
        let means = sums.map(|(served, waited)| waited.as_secs_f64() / f64::from(served));
        println!(
            "served in 1000 s, critical to background: {:?}; mean wait s: {means:.1?}",
            sums.map(|s| s.0)
        );
        assert!(means.is_sorted(), "the critical wait least: {means:?}");
        assert!(sums[3].0 >= 90, "the background is served: {sums:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_backend_under_a_flood_leaves_the_background_its_share() {
        const SLOW: Duration = Duration::from_secs(30);
        const WIDE: Limits = Limits {
            concurrent: 4,
            capacity: 256,
            timeout: Duration::from_secs(30),
        };
        let admission = admission();
        let until = Instant::now() + Duration::from_secs(7_200);
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..51 {
            let admission = Arc::clone(&admission);
            let priority = if client == 0 {
                Priority::Background
            } else {
                Priority::Critical
            };
            clients.spawn(async move {
                let mut served = 0_u32;
                while Instant::now() < until {
                    if let Ok(_slot) = admission.enter(priority, WIDE).await {
                        served += 1;
                        tokio::time::sleep(SLOW).await;
                    } else {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
                (client == 0, served)
            });
        }
        let (mut critical, mut background) = (0, 0);
        while let Some(Ok((is_background, served))) = clients.join_next().await {
            *(if is_background { &mut background } else { &mut critical }) += served;
        }
        println!("two hours, 4 places, 30 s each, 30 s of patience: {critical} critical, {background} background");
        assert!(background >= 20, "{background} of {critical}");
    }
}
