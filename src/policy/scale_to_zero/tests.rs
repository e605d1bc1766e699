use proptest::prelude::*;

use super::{State::*, *};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const IDLE: Duration = s(60);

#[test]
fn a_replica_is_idle_once_its_last_request_is_old_enough() {
    let mut usage = Usage::default();
    usage.start(s(0));
    assert_eq!(usage.wanted(s(59), IDLE), None, "younger than that");
    assert_eq!(usage.wanted(s(60), IDLE), Some(false));
    usage.begin(s(100));
    assert_eq!(usage.wanted(s(500), IDLE), Some(true), "a long answer");
    usage.end(s(500));
    assert_eq!(usage.wanted(s(559), IDLE), Some(true));
    assert_eq!(usage.wanted(s(560), IDLE), Some(false));
    assert_eq!(usage.wanted(s(560), s(3_600)), Some(true), "the spec may change");
}

#[test]
fn a_pod_is_not_idle_for_the_time_in_which_it_loaded_its_model() {
    let mut usage = Usage::default();
    assert_eq!(usage.wanted(s(299), IDLE), None, "it loads for longer than that");
    usage.start(s(300));
    assert_eq!(usage.wanted(s(301), IDLE), None);
    assert_eq!(usage.wanted(s(360), IDLE), Some(false));
}

const fn local(state: State, wanted: Option<bool>) -> Member {
    Member {
        local: true,
        state,
        wanted,
    }
}

const fn forwarder(state: State, wanted: Option<bool>) -> Member {
    Member {
        local: false,
        state,
        wanted,
    }
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

#[track_caller]
fn check(before: bool, members: &[Member], after: bool, why: &str) {
    assert_eq!(away(before, members), after, "{why}");
}

#[test]
fn who_goes() {
    check(false, &[], false, "nobody is there yet");
    check(
        false,
        &[local(Serving, NO), forwarder(Serving, NO)],
        true,
        "all are idle",
    );
    check(
        false,
        &[local(Serving, NO), forwarder(Serving, YES)],
        false,
        "one is asked",
    );
    check(
        false,
        &[local(Serving, YES), forwarder(Serving, NO)],
        false,
        "the engine is",
    );
    check(
        false,
        &[local(Serving, None), forwarder(Serving, NO)],
        false,
        "it has just started",
    );
    check(
        false,
        &[local(Serving, NO), forwarder(Serving, None)],
        false,
        "so has this one",
    );
    check(
        false,
        &[local(Serving, NO)],
        false,
        "nobody would notice the next request",
    );
    check(
        false,
        &[local(Serving, NO), forwarder(Starting, NO)],
        false,
        "nobody yet",
    );
    check(
        false,
        &[local(Starting, NO), forwarder(Serving, NO)],
        false,
        "the model loads",
    );
    check(
        false,
        &[local(Failing, NO), forwarder(Serving, NO)],
        false,
        "trouble is not hidden",
    );
    check(
        false,
        &[local(Serving, NO), local(Starting, None), forwarder(Serving, NO)],
        false,
        "a rollout, or more pods",
    );
    check(
        false,
        &[local(Serving, NO), local(Failing, None), forwarder(Serving, NO)],
        true,
        "no node fits the second one",
    );
    check(
        false,
        &[local(Serving, NO), forwarder(Serving, NO), forwarder(Failing, None)],
        true,
        "it is asked nothing",
    );
    check(
        false,
        &[local(Serving, NO), forwarder(Serving, NO), forwarder(Leaving, None)],
        true,
        "nor is one that goes",
    );
}

#[test]
fn who_comes_back() {
    check(true, &[], true, "nobody asks");
    check(true, &[forwarder(Serving, NO)], true, "nobody asks");
    check(true, &[forwarder(Serving, None)], true, "a restart wakes nobody");
    check(true, &[forwarder(Serving, YES)], false, "a request waits");
    check(
        true,
        &[forwarder(Serving, NO), forwarder(Starting, YES)],
        false,
        "wherever",
    );
    check(
        true,
        &[local(Serving, NO), forwarder(Serving, NO)],
        true,
        "somebody started one by hand",
    );
    check(
        true,
        &[forwarder(Serving, NO), forwarder(Leaving, YES)],
        false,
        "a request waits in a pod that drains",
    );
    check(
        true,
        &[forwarder(Serving, NO), forwarder(Failing, YES)],
        true,
        "its process is gone and takes that back no more",
    );
}

/// A replica with its own clock, which began at some time.
#[derive(Clone, Copy, Debug)]
struct Replica {
    local: bool,
    born: Duration,
    usage: Usage,
    /// What the controller has heard last.
    heard: Option<bool>,
}

impl Replica {
    fn new(local: bool, born: Duration) -> Self {
        let mut usage = Usage::default();
        usage.start(Duration::ZERO);
        Self {
            local,
            born,
            usage,
            heard: None,
        }
    }

    fn wanted(&self, now: Duration) -> Option<bool> {
        self.usage.wanted(now.saturating_sub(self.born), IDLE)
    }

    fn member(&self) -> Member {
        Member {
            local: self.local,
            state: Serving,
            wanted: self.heard,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A request of so many seconds comes to a GPU-less pod.
    Ask(prop::sample::Index, u64),
    /// The controller hears of a replica.
    Hear(prop::sample::Index),
    /// A GPU-less pod starts anew.
    Restart(prop::sample::Index),
    /// Seconds pass.
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (any::<prop::sample::Index>(), 0..90_u64).prop_map(|(who, long)| Step::Ask(who, long)),
        4 => any::<prop::sample::Index>().prop_map(Step::Hear),
        1 => any::<prop::sample::Index>().prop_map(Step::Restart),
        4 => (1..40_u64).prop_map(Step::Pass),
    ]
}

/// Two GPU-less pods, and a local one while they are not away; requests end on time.
struct World {
    now: Duration,
    forwarders: [Replica; 2],
    local: Option<Replica>,
    away: bool,
    /// Requests in hand: by whom, until when.
    open: Vec<(usize, Duration)>,
    /// The last moment at which a replica that lives now had a request.
    last: [Option<Duration>; 2],
}

impl World {
    fn new() -> Self {
        let zero = Duration::ZERO;
        Self {
            now: zero,
            forwarders: [Replica::new(false, zero), Replica::new(false, zero)],
            local: Some(Replica::new(true, zero)),
            away: false,
            open: Vec::new(),
            last: [None, None],
        }
    }

    fn members(&self) -> Vec<Member> {
        self.forwarders.iter().chain(&self.local).map(Replica::member).collect()
    }

    fn pass(&mut self, seconds: u64) {
        self.now += s(seconds);
        let now = self.now;
        let (ended, open): (Vec<_>, Vec<_>) = self.open.iter().copied().partition(|(_, until)| *until <= now);
        self.open = open;
        for (who, until) in ended {
            let forwarder = &mut self.forwarders[who];
            forwarder.usage.end(until.saturating_sub(forwarder.born));
            self.last[who] = self.last[who].max(Some(until));
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Ask(who, long) => {
                let who = who.index(2);
                let forwarder = &mut self.forwarders[who];
                forwarder.usage.begin(self.now.saturating_sub(forwarder.born));
                self.open.push((who, self.now + s(long)));
                self.last[who] = Some(self.now);
            }
            Step::Hear(who) => {
                let (now, who) = (self.now, who.index(3));
                let all = self.forwarders.iter_mut().chain(&mut self.local);
                for replica in all.skip(who).take(1) {
                    replica.heard = replica.wanted(now);
                }
            }
            Step::Restart(who) => {
                let who = who.index(2);
                self.forwarders[who] = Replica {
                    heard: self.forwarders[who].heard,
                    ..Replica::new(false, self.now)
                };
                self.open.retain(|(of, _)| *of != who);
                self.last[who] = None;
            }
            Step::Pass(seconds) => self.pass(seconds),
        }
    }

    /// The controller decides on what it has heard, in the case of letting go on a live read.
    fn decide(&mut self) -> bool {
        let mut next = away(self.away, &self.members());
        if next && !self.away {
            let now = self.now;
            for replica in self.forwarders.iter_mut().chain(&mut self.local) {
                replica.heard = replica.wanted(now);
            }
            next = away(false, &self.members());
        }
        let went = next && !self.away;
        self.away = next;
        if next {
            self.local = None;
        } else if self.local.is_none() {
            self.local = Some(Replica::new(true, self.now));
        }
        went
    }
}

proptest! {
    /// Whatever comes in whatever order, nobody is let go while a request is in hand or was within the time, and who is left alone goes in
    /// the end, and comes back with the next request.
    #[test]
    fn nobody_goes_too_early_and_everybody_in_the_end(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            if world.decide() {
                prop_assert!(world.open.is_empty(), "a request was in hand");
                let last = world.last.iter().flatten().max();
                prop_assert!(last.is_none_or(|last| world.now >= *last + IDLE), "a request came {last:?}, it is {:?}", world.now);
            }
        }
        let hear_all = |world: &mut World| {
            let now = world.now;
            for replica in world.forwarders.iter_mut().chain(&mut world.local) {
                replica.heard = replica.wanted(now);
            }
            world.decide();
        };
        world.pass(600);
        hear_all(&mut world);
        // Who came back by an old word has begun anew.
        world.pass(60);
        hear_all(&mut world);
        prop_assert!(world.away, "nobody asks");
        world.forwarders[1].usage.begin(world.now.saturating_sub(world.forwarders[1].born));
        hear_all(&mut world);
        prop_assert!(!world.away, "a request waits");
    }
}
