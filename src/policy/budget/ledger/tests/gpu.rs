//! Time of priced GPUs: reserved ahead, charged as it is used, and given back.

use jiff::SignedDuration;

use super::*;
use crate::policy::model::{Dice, schedules};

/// One nano-USD a second; a slice is 330.
fn terms(pods: u32, release: bool) -> GpuTerms {
    GpuTerms {
        per_pod_hour: NanoUsd(3_600),
        leave: std::time::Duration::from_secs(30),
        pods,
        release,
    }
}

const SLICE: u64 = 330;

impl Scene {
    /// Nothing runs yet; `pods` are wanted.
    fn with_gpus(pods: u32, release: bool) -> Self {
        let mut scene = Self::new(0);
        scene.gpu = Some(terms(pods, release));
        scene.settle();
        scene
    }

    fn passes(&mut self, seconds: i64) {
        let now = self.clocks.local + SignedDuration::from_secs(seconds);
        self.clocks = Clocks {
            local: now,
            server: now,
        };
    }

    /// A pod is scheduled now.
    fn pod(&mut self) {
        let number = usize::try_from(self.ledger().sequence).unwrap() * 100 + self.replicas.len();
        let gpus = Some(GpuHold {
            since: self.clocks.local,
            leaves: false,
        });
        self.replicas.push(Replica {
            gpus,
            ..replica(number)
        });
    }

    fn wanted(&self) -> u32 {
        self.ledger().gpu_time.as_ref().unwrap().wanted
    }

    fn charged(&self) -> u64 {
        self.ledger().gpu_time.as_ref().unwrap().settled.0
    }
}

#[test]
fn a_slice_is_reserved_before_a_pod_may_run() {
    let mut scene = Scene::with_gpus(2, true);
    assert_eq!((scene.wanted(), scene.shown()), (2, (0, 0, 2 * SLICE)));
    scene.pod();
    scene.settle();
    assert_eq!(
        scene.shown(),
        (0, 0, 2 * SLICE),
        "the pod takes what was reserved for it"
    );
    let one_more = Scene::with_gpus(4, true);
    assert_eq!(
        (one_more.wanted(), one_more.shown()),
        (3, (0, 0, 3 * SLICE)),
        "a fourth is not paid for"
    );
}

#[test]
fn time_is_charged_until_the_pod_is_gone_and_the_rest_comes_back() {
    let mut scene = Scene::with_gpus(1, true);
    scene.pod();
    scene.settle();
    scene.passes(100);
    scene.settle();
    assert_eq!(scene.shown(), (0, 0, SLICE), "not every second is written down");
    scene.passes(60);
    scene.settle();
    assert_eq!(scene.shown(), (160, 0, SLICE));
    scene.passes(20);
    scene.gpu = Some(terms(0, true));
    scene.replicas.clear();
    scene.settle();
    assert_eq!(scene.shown(), (180, 0, 0));
    assert_eq!(scene.charged(), 180);
}

#[test]
fn what_a_pod_has_used_is_charged_before_a_lowered_limit_takes_its_reservation() {
    let mut scene = Scene::with_gpus(1, true);
    scene.pod();
    scene.settle();
    scene.replicas.push(replica(1));
    scene.lease(1, 600);
    scene.passes(100);
    scene.budget.limit = "0.0000005".parse().unwrap();
    scene.settle();
    assert_eq!(
        scene.shown(),
        (100, 0, 600),
        "less than the lease is left: no second is reserved"
    );
    scene.passes(10);
    scene.settle();
    assert_eq!(scene.shown(), (100, 0, 600), "once");
}

#[test]
fn money_for_a_successor_stays_until_a_live_read_shows_that_none_has_come() {
    let mut scene = Scene::with_gpus(3, true);
    for _ in 0..3 {
        scene.pod();
        scene.settle();
    }
    scene.passes(140);
    scene.replicas.remove(0);
    let ledger = scene.live().ledger.unwrap();
    let time = ledger.gpu_time.as_ref().unwrap();
    assert_eq!((time.wanted, time.ahead), (0, NanoUsd(200)), "all that is left");
    let mut came = Scene {
        ledger: Some(ledger),
        ..scene.clone()
    };
    came.pod();
    came.settle();
    let pods = &came.ledger().gpu_time.as_ref().unwrap().pods;
    assert_eq!(pods.last().unwrap().reserved, NanoUsd(200));
    scene.settle();
    assert_eq!(scene.ledger().gpu_time.as_ref().unwrap().ahead, NanoUsd(0));
}

#[test]
fn a_cache_alone_neither_begins_nor_ends_a_charge() {
    let mut scene = Scene::with_gpus(1, true);
    scene.pod();
    assert!(scene.cached().look);
    scene.settle();
    assert!(!scene.cached().look);
    scene.replicas.clear();
    assert!(scene.cached().look);
    assert_eq!(scene.cached().ledger, None, "it is read anew first");
    scene.settle();
    assert!(scene.ledger().gpu_time.as_ref().unwrap().pods.is_empty());
}

#[test]
fn pods_are_let_go_in_time_and_come_back_with_the_next_window() {
    let mut scene = Scene::with_gpus(1, true);
    scene.pod();
    scene.settle();
    let mut released = 0;
    while scene.wanted() == 1 {
        scene.passes(75);
        released += 75;
        scene.settle();
        assert!(released <= 1_000, "{:#?}", scene.ledger);
    }
    let (settled, _, leased) = scene.shown();
    assert!(
        settled <= 970 && leased >= 30 && settled + leased <= 1_000,
        "{:?}",
        scene.shown()
    );
    scene.passes(30);
    scene.replicas.clear();
    scene.settle();
    assert_eq!(scene.shown(), (settled + 30, 0, 0));
    assert_eq!(scene.wanted(), 0, "though a slice might be paid for again");
    scene.now("2026-11-23T11:00:01Z");
    scene.settle();
    assert_eq!((scene.wanted(), scene.shown()), (1, (0, 0, SLICE)));
}

#[test]
fn a_higher_limit_brings_them_back_and_a_lower_one_lets_them_go() {
    let mut scene = Scene::with_gpus(2, true);
    scene.pod();
    scene.pod();
    scene.settle();
    scene.budget.limit = "0.0000005".parse().unwrap();
    let decision = scene.live();
    assert!(decision.urgent);
    scene.settle();
    assert_eq!(
        (scene.wanted(), scene.shown().2),
        (0, 500),
        "what they need to leave stays reserved"
    );
    scene.replicas.clear();
    scene.settle();
    assert_eq!(scene.wanted(), 0);
    scene.budget.limit = "0.0000009".parse().unwrap();
    scene.settle();
    assert_eq!(scene.wanted(), 2);
}

#[test]
fn with_reject_pods_stay_and_what_is_beyond_the_limit_is_shown() {
    let mut scene = Scene::with_gpus(2, false);
    scene.pod();
    scene.pod();
    scene.settle();
    for _ in 0..5 {
        scene.passes(150);
        scene.settle();
    }
    assert_eq!((scene.wanted(), scene.charged()), (2, 1_500));
    assert_eq!(scene.ledger().over_limit, Some(NanoUsd(500)));
    assert_eq!(attainable(scene.ledger()), 0, "paid requests are refused");
}

#[test]
fn requests_give_back_what_gpus_need() {
    let mut scene = Scene::new(1);
    scene.lease(0, 800);
    scene.gpu = Some(terms(1, true));
    scene.settle();
    assert_eq!(scene.wanted(), 0);
    assert_eq!(scene.row("b0").recall_to, Some(NanoUsd(1_000 - SLICE)));
    scene.report(0, 0, 0, 800 - (1_000 - SLICE));
    scene.settle();
    assert_eq!((scene.wanted(), scene.shown()), (1, (0, 0, 1_000)));
}

#[test]
fn money_reserved_for_gpus_is_denied_to_requests() {
    let mut scene = Scene::with_gpus(3, true);
    scene.replicas.push(replica(0));
    scene.wants(0, 11);
    scene.settle();
    assert_eq!(
        scene.replicas[0].spec.as_ref().unwrap().denied.as_ref().unwrap().above,
        NanoUsd(10)
    );
}

#[test]
fn another_price_holds_from_now_on() {
    let mut scene = Scene::with_gpus(1, true);
    scene.pod();
    scene.settle();
    scene.passes(50);
    scene.gpu.as_mut().unwrap().per_pod_hour = NanoUsd(7_200);
    scene.settle();
    assert_eq!(scene.shown(), (50, 0, 2 * SLICE));
    scene.passes(10);
    scene.gpu = None;
    scene.settle();
    assert_eq!(
        scene.shown(),
        (70, 0, 0),
        "no price any more: what was used is charged, and that is all"
    );
}

#[test]
fn each_window_has_its_own_time() {
    let mut scene = Scene::with_gpus(1, true);
    scene.now("2026-11-23T10:59:00Z");
    scene.pod();
    scene.settle();
    scene.now("2026-11-23T11:00:10Z");
    scene.settle();
    assert_eq!(scene.ledger().closed_windows[0].settled, NanoUsd(60));
    assert_eq!(scene.shown(), (0, 0, SLICE));
    scene.passes(140);
    scene.settle();
    assert_eq!(scene.charged(), 150, "since the window began");
}

#[test]
fn what_is_reserved_for_pods_to_come_stays_until_none_can_come() {
    let mut scene = Scene::with_gpus(2, true);
    scene.gpu.as_mut().unwrap().pods = 0;
    scene.ledger = scene.live().ledger;
    assert_eq!(
        (scene.wanted(), scene.shown()),
        (0, (0, 0, 2 * SLICE)),
        "one may be on its way"
    );
    assert!(scene.cached().look, "a cache does not know");
    scene.pod();
    scene.settle();
    assert_eq!(scene.shown(), (0, 0, SLICE), "it has what it needs");
}

#[test]
fn a_pod_waits_for_leases_to_make_room_no_longer_than_it_can_still_leave() {
    let mut scene = Scene::new(1);
    scene.lease(0, 600);
    scene.gpu = Some(terms(1, true));
    scene.settle();
    scene.pod();
    scene.settle();
    for (wait, reserved) in [(150, 250), (150, 100), (70, 30)] {
        assert_eq!(scene.wanted(), 1);
        let due = next_charge(scene.ledger(), scene.gpu.as_ref());
        scene.passes(wait);
        assert_eq!(due, Some(scene.clocks.local));
        scene.settle();
        assert_eq!(scene.shown().2, 600 + reserved);
    }
    assert_eq!((scene.wanted(), scene.shown()), (0, (370, 0, 630)));
}

#[test]
fn a_pod_that_leaves_has_what_it_needs_in_the_next_window_too() {
    let mut scene = Scene::with_gpus(1, true);
    scene.now("2026-11-23T10:59:50Z");
    scene.pod();
    scene.gpu.as_mut().unwrap().pods = 0;
    scene.replicas[0].gpus.as_mut().unwrap().leaves = true;
    scene.settle();
    scene.now("2026-11-23T11:00:10Z");
    scene.settle();
    assert_eq!(scene.shown(), (0, 0, 30));
}

/// A cluster with one local backend whose pods follow the ledger.
struct Cluster {
    scene: Scene,
    /// Pods as a cache that lags has them.
    stale: Vec<Replica>,
    /// Seconds of pods that are gone.
    used: i64,
}

impl Cluster {
    fn new(dice: &mut Dice) -> Self {
        let mut scene = Scene::new(0);
        scene.budget.period = Some(crate::api::BudgetPeriod::Total);
        scene.settle();
        scene.gpu = Some(terms(u32::try_from(1 + dice.throw(4)).unwrap(), true));
        scene.settle();
        Self {
            scene,
            stale: Vec::new(),
            used: 0,
        }
    }

    /// Pods that are not wanted begin to leave, and one that is wanted comes.
    fn follow(&mut self) {
        let scene = &mut self.scene;
        let wanted = usize::try_from(scene.wanted().min(scene.gpu.unwrap().pods)).unwrap();
        let holds = scene.replicas.iter_mut().filter_map(|replica| replica.gpus.as_mut());
        let staying = holds.filter(|hold| !hold.leaves);
        for hold in staying.skip(wanted) {
            hold.leaves = true;
        }
        if scene.replicas.len() < wanted {
            scene.pod();
        }
    }

    /// What is leaving is gone before half a minute is over.
    fn pass(&mut self, dice: &mut Dice) {
        let leaves = |replica: &Replica| replica.gpus.is_some_and(|hold| hold.leaves);
        self.scene.passes(i64::try_from(dice.throw(30)).unwrap());
        let now = self.scene.clocks.local;
        let (gone, left) = std::mem::take(&mut self.scene.replicas).into_iter().partition(leaves);
        self.scene.replicas = left;
        self.used += seconds(&gone, now);
    }

    /// Another leader decides on what its cache has; the ledger it writes over is the newest, or it would not be written.
    fn stale_leader(&mut self) {
        let mut other = self.scene.clone();
        std::mem::swap(&mut other.replicas, &mut self.stale);
        let decision = other.cached();
        if !decision.look {
            self.scene.ledger = decision.ledger.or(self.scene.ledger.take());
        }
        self.stale.clone_from(&self.scene.replicas);
    }

    fn check(&self) {
        let running = seconds(&self.scene.replicas, self.scene.clocks.local);
        let real = u64::try_from(self.used + running).unwrap();
        let (settled, _, leased) = self.scene.shown();
        let ledger = &self.scene.ledger;
        assert!(real <= 1_000 && settled + leased <= 1_000, "used {real}: {ledger:#?}");
        assert!(settled <= real && real <= settled + leased, "used {real}: {ledger:#?}");
    }
}

fn seconds(pods: &[Replica], now: Timestamp) -> i64 {
    let holds = pods.iter().filter_map(|pod| pod.gpus);
    holds.map(|hold| now.duration_since(hold.since).as_secs()).sum()
}

fn play(dice: &mut Dice) {
    let mut cluster = Cluster::new(dice);
    for _ in 0..60 {
        if dice.once_in(20) {
            cluster.scene.gpu.as_mut().unwrap().pods = u32::try_from(dice.throw(5)).unwrap();
        }
        cluster.follow();
        cluster.pass(dice);
        if dice.once_in(3) {
            cluster.stale_leader();
        }
        cluster.scene.settle();
        cluster.check();
    }
}

#[test]
fn released_in_time_nothing_is_beyond_the_limit() {
    schedules("budget, GPU time", 2_000, play);
}
