//! Replicas, a controller, and what lies between them.

use std::sync::Mutex;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    sync::{Notify, watch},
    task::{AbortHandle, JoinSet},
    time::{interval, sleep, timeout},
};

use super::*;
use crate::{
    api::{OrderedRate, RateLimit, ShareOrder, ShareReport},
    policy::{
        rate_share::{Bucket, Holding, MILLI, Order, share_out},
        write_rate::{Haste, WriteRate},
    },
    runtime::{backends::Signals, clock::Clock},
};

/// From a write to the reader's watch, and the write itself.
const WATCH: Duration = Duration::from_millis(25);
const WRITE: Duration = Duration::from_millis(12);
/// The controller gathers what comes in so long.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// As `serve::tend` has them.
const JUDGE: Duration = Duration::from_millis(250);
const NEWS: Duration = Duration::from_secs(5);
const NEWS_PAUSE: Duration = Duration::from_millis(250);
const ROOM: Duration = Duration::from_secs(2);

/// How requests come.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// At equal distances.
    Even,
    /// Independently of each other.
    ByChance,
}

/// What runs; it ends with the test.
#[derive(Debug)]
pub struct Running(Vec<AbortHandle>);

impl Running {
    pub fn abort_all(&self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

#[derive(Debug, Default)]
struct Seen {
    sent: Vec<Duration>,
    refused: Vec<Duration>,
    refused_with_room: Vec<Duration>,
    statuses: usize,
    orders: usize,
}

/// One replica as the test looks on.
#[derive(Debug)]
struct Replica {
    share: Arc<Share>,
    signals: Arc<Signals>,
    lines: Lines,
    /// What the share would bring and the requests took, for the room that was left unused, and since when there is some.
    shadow: Mutex<(Bucket, Option<Duration>, u64)>,
}

#[derive(Debug, Default)]
struct Told {
    order: ShareOrder,
    report: ShareReport,
}

#[derive(Debug)]
pub struct World {
    clock: Clock,
    limit: u32,
    replicas: Vec<Replica>,
    told: Mutex<Vec<Told>>,
    changed: Notify,
    seen: Mutex<Seen>,
    seed: u64,
}

impl World {
    pub fn start(limit: u32, replicas: usize) -> Arc<Self> {
        Self::start_with(limit, replicas, 0)
    }

    /// `seed`: of the chance by which requests come.
    pub fn start_with(limit: u32, replicas: usize, seed: u64) -> Arc<Self> {
        let clock = Clock::start();
        let spec = RateLimit {
            requests_per_minute: Some(limit),
            tokens_per_minute: None,
        };
        let replica = || {
            let signals = Arc::<Signals>::default();
            Replica {
                share: Arc::new(Share::new(&spec, clock, Arc::clone(&signals))),
                signals,
                lines: Lines::default(),
                shadow: Mutex::new((Bucket::new(clock.now()), None, 0)),
            }
        };
        let world = Arc::new(Self {
            clock,
            limit,
            replicas: (0..replicas).map(|_| replica()).collect(),
            told: Mutex::new((0..replicas).map(|_| Told::default()).collect()),
            changed: Notify::new(),
            seen: Mutex::default(),
            seed,
        });
        for index in 0..replicas {
            tokio::spawn(Arc::clone(&world).report(index));
            tokio::spawn(Arc::clone(&world).judge(index));
        }
        tokio::spawn(Arc::clone(&world).control());
        world.changed.notify_one();
        world
    }

    pub fn elapsed(&self) -> Duration {
        self.clock.now()
    }

    pub fn sent(&self, from: Duration) -> usize {
        lock(&self.seen).sent.iter().filter(|at| **at >= from).count()
    }

    pub fn refused(&self, from: Duration) -> usize {
        lock(&self.seen).refused.iter().filter(|at| **at >= from).count()
    }

    pub fn refused_with_room(&self, from: Duration) -> usize {
        lock(&self.seen)
            .refused_with_room
            .iter()
            .filter(|at| **at >= from)
            .count()
    }

    pub fn most_in_a_minute(&self) -> usize {
        let mut sent = lock(&self.seen).sent.clone();
        sent.sort_unstable();
        let until = |from: &Duration| sent.partition_point(|at| *at < *from + MINUTE);
        let counts = sent.iter().enumerate().map(|(index, from)| until(from) - index);
        counts.max().unwrap_or(0)
    }

    /// Statuses and orders written.
    pub fn told(&self) -> (usize, usize) {
        let seen = lock(&self.seen);
        (seen.statuses, seen.orders)
    }

    /// Requests a minute of every replica until they are stopped.
    pub fn load(self: &Arc<Self>, load: Load, demands: &[u32]) -> Running {
        let busy = demands.iter().enumerate().filter(|(_, demand)| **demand > 0);
        let loads = busy.map(|(index, demand)| tokio::spawn(Arc::clone(self).requests(index, load, *demand)));
        Running(loads.map(|load| load.abort_handle()).collect())
    }

    async fn requests(self: Arc<Self>, index: usize, load: Load, per_minute: u32) {
        let mut dice = StdRng::seed_from_u64(index as u64 + 100 * self.seed);
        let (apart, mut requests) = (MINUTE / per_minute, JoinSet::new());
        // Replicas do not begin in step.
        sleep(apart.mul_f64(dice.random())).await;
        loop {
            requests.spawn(self.request(index, Priority::Normal));
            while requests.try_join_next().is_some() {}
            let chance = -(1.0 - dice.random::<f64>()).ln();
            sleep(match load {
                Load::Even => apart,
                Load::ByChance => apart.mul_f64(chance),
            })
            .await;
        }
    }

    /// Requests a minute at equal distances, each to a replica that chance chooses: as through a Service, each on a connection of its own.
    pub fn load_through_a_service(self: &Arc<Self>, per_minute: u32) -> Running {
        let world = Arc::clone(self);
        let load = tokio::spawn(async move {
            let (mut dice, mut requests) = (StdRng::seed_from_u64(world.seed), JoinSet::new());
            let mut ticks = interval(MINUTE / per_minute);
            loop {
                ticks.tick().await;
                let index = dice.random_range(0..world.replicas.len());
                requests.spawn(world.request(index, Priority::Normal));
                while requests.try_join_next().is_some() {}
            }
        });
        Running(vec![load.abort_handle()])
    }

    /// One request that does not wait.
    pub fn try_one(&self, index: usize) -> bool {
        let part = self.replicas[index].share.ask(0);
        part.map(|part| self.went(index, part)).is_some()
    }

    /// One request; gives when it was sent.
    pub fn request(
        self: &Arc<Self>,
        index: usize,
        priority: Priority,
    ) -> impl Future<Output = Option<Duration>> + Send + 'static {
        let world = Arc::clone(self);
        async move {
            let replica = &world.replicas[index];
            if let Some(part) = replica.share.ask(0) {
                return Some(world.went(index, part));
            }
            let backend: Arc<str> = "far".into();
            let wish = Wish {
                share: &replica.share,
                backend: &backend,
                tokens: 0,
                priority,
                patience: PATIENCE,
            };
            let part = replica.lines.wait_for(&wish).await;
            if part.is_err() {
                world.was_refused(index);
            }
            part.ok().map(|part| world.went(index, part))
        }
    }

    fn went(&self, index: usize, part: Part) -> Duration {
        let now = self.clock.now();
        drop(part.send());
        lock(&self.replicas[index].shadow).0.take(1);
        lock(&self.seen).sent.push(now);
        now
    }

    fn was_refused(&self, index: usize) {
        let now = self.clock.now();
        let others = self.replicas.iter().enumerate().filter(|(other, _)| *other != index);
        let room = others
            .map(|(_, other)| lock(&other.shadow).clone())
            .any(|(_, since, unused)| since.is_some_and(|since| now.saturating_sub(since) > ROOM) && unused >= MILLI);
        let mut seen = lock(&self.seen);
        seen.refused.push(now);
        if room {
            seen.refused_with_room.push(now);
        }
    }

    /// Looks four times a second whether what is told still holds, and twenty times whether there is room.
    async fn judge(self: Arc<Self>, index: usize) {
        // Replicas do not look in step.
        sleep(JUDGE / 8 * u32::try_from(index).unwrap_or(0)).await;
        let mut ticks = interval(JUDGE / 5);
        let replica = &self.replicas[index];
        loop {
            for _ in 0..5 {
                ticks.tick().await;
                let now = self.clock.now();
                let mut shadow = lock(&replica.shadow);
                let (bucket, since, unused) = &mut *shadow;
                match bucket.take_spilled(now) {
                    0 => (*since, *unused) = (None, 0),
                    spilled => {
                        since.get_or_insert(now);
                        *unused += spilled;
                    }
                }
            }
            replica.share.judge();
        }
    }

    /// As `serve::tend` does it: what is told, and how often it was urgent.
    fn news(self: Arc<Self>, index: usize) -> watch::Receiver<(ShareReport, u64)> {
        let (sender, receiver) = watch::channel((ShareReport::default(), 0));
        tokio::spawn(async move {
            let Replica { share, signals, .. } = &self.replicas[index];
            loop {
                let _ = timeout(NEWS, signals.changed()).await;
                let _ = sender.send((share.report("far"), signals.count()));
                sleep(NEWS_PAUSE).await;
            }
        });
        receiver
    }

    /// As `report` does it.
    async fn report(self: Arc<Self>, index: usize) {
        let mut news = Arc::clone(&self).news(index);
        let (mut rate, mut urgent_written) = (WriteRate::default(), 0);
        loop {
            let (report, urgent) = news.borrow_and_update().clone();
            if report == lock(&self.told)[index].report {
                let _ = news.changed().await;
                continue;
            }
            let now = self.clock.now();
            let at = rate.next(now, Haste::urgent_if(urgent > urgent_written));
            if at > now {
                let _ = timeout(at.saturating_sub(now), news.changed()).await;
                continue;
            }
            rate.wrote(now);
            sleep(WRITE + WATCH).await;
            urgent_written = urgent;
            lock(&self.told)[index].report = report;
            lock(&self.seen).statuses += 1;
            self.changed.notify_one();
        }
    }

    /// As the controller does it.
    async fn control(self: Arc<Self>) {
        let mut rates: Vec<WriteRate> = self.replicas.iter().map(|_| WriteRate::default()).collect();
        let mut again = None;
        loop {
            let wait = again.take().unwrap_or(Duration::MAX);
            let _ = timeout(wait, self.changed.notified()).await;
            sleep(DEBOUNCE).await;
            for (index, order) in self.decide().into_iter().enumerate() {
                let now = self.clock.now();
                if order == lock(&self.told)[index].order {
                    continue;
                }
                let due = rates[index].next(now, Haste::Urgent).saturating_sub(now);
                if !due.is_zero() {
                    again = Some(again.map_or(due, |again: Duration| again.min(due)));
                    continue;
                }
                rates[index].wrote(now);
                sleep(WRITE).await;
                lock(&self.told)[index].order = order.clone();
                lock(&self.seen).orders += 1;
                tokio::spawn(Arc::clone(&self).deliver(index, order));
            }
        }
    }

    fn decide(&self) -> Vec<ShareOrder> {
        let told = lock(&self.told);
        let was_contended = told.iter().any(|told| told.order.contended);
        let holding = |told: &Told| {
            let ordered = told.order.requests.unwrap_or_default();
            let order = Order {
                ordered: ordered.milli_per_minute,
                reserved: ordered.reserved_milli_per_minute,
                awaited: false,
            };
            let demand = told.report.requests.map_or(0, |rate| rate.demand_milli_per_minute);
            Holding::known(order, told.order.sequence == told.report.sequence, None, demand)
        };
        let holdings: Vec<Holding> = told.iter().map(holding).collect();
        let shared = share_out(u64::from(self.limit) * MILLI, was_contended, &holdings);
        let next = |(told, order): (&Told, Order)| {
            let requests = OrderedRate {
                milli_per_minute: order.ordered,
                reserved_milli_per_minute: order.reserved,
            };
            let before = told.order.requests.map(|rate| rate.milli_per_minute);
            if (before, told.order.contended) == (Some(order.ordered), shared.contended) {
                return told.order.clone();
            }
            ShareOrder {
                backend: "far".into(),
                sequence: told.order.sequence + 1,
                contended: shared.contended,
                awaited: order.awaited,
                requests: Some(requests),
                tokens: None,
            }
        };
        told.iter().zip(shared.orders).map(next).collect()
    }

    async fn deliver(self: Arc<Self>, index: usize, order: ShareOrder) {
        sleep(WATCH).await;
        let replica = &self.replicas[index];
        let rate = order.requests.map_or(0, |rate| rate.milli_per_minute);
        lock(&replica.shadow).0.set_rate(rate, self.clock.now());
        replica.share.obey(Some(&order));
    }
}
