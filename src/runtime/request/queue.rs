//! Who waits for a turn: bounded, by weighted priority, first come first served within one, shed when the wait would be too long.
//! Pure: time is an argument.

mod lanes;
mod pace;

use std::time::Duration;

use lanes::Lanes;
use pace::Pace;

/// `x-inference-priority`, the most urgent first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// 27 turns of 40 when all four priorities wait.
    Critical,
    /// 9 turns of 40.
    High,
    /// The default; 3 turns of 40.
    #[default]
    Normal,
    /// 1 turn of 40.
    Background,
}

impl Priority {
    /// Reads the header's value.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        match text {
            "critical" => Some(Self::Critical),
            "high" => Some(Self::High),
            "normal" => Some(Self::Normal),
            "background" => Some(Self::Background),
            _ => None,
        }
    }

    const fn lane(self) -> usize {
        match self {
            Self::Critical => 0,
            Self::High => 1,
            Self::Normal => 2,
            Self::Background => 3,
        }
    }
}

/// The bounds, read at every arrival: they may change while requests wait.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests worked on at once.
    pub concurrent: usize,
    /// Requests that may wait.
    pub capacity: usize,
    /// How long one may wait.
    pub timeout: Duration,
}

/// What becomes of an arrival.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It may go at once.
    Go,
    /// It waits under this number.
    Wait(u64),
    /// It is turned away: the wait would be longer than allowed.
    TooSlow,
    /// It is turned away: there is no place to wait.
    Full,
}

/// The queue. `W` is whatever wakes a waiter. `now` is the time since any fixed moment.
#[derive(Debug)]
pub struct Queue<W> {
    lanes: Lanes<W>,
    next: u64,
    pace: Pace,
    concurrent: usize,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self {
            lanes: Lanes::default(),
            next: 0,
            pace: Pace::default(),
            concurrent: 0,
        }
    }
}

impl<W> Queue<W> {
    /// A request arrives and goes at once, if there is room and nobody waits.
    #[must_use]
    pub fn go(&mut self, limits: Limits, now: Duration) -> bool {
        self.concurrent = limits.concurrent;
        let goes = self.working() < self.concurrent && self.waiting() == 0;
        if goes {
            self.pace.begin(now);
        }
        goes
    }

    /// A request arrives. One that waits may displace another when the queue is full; that one is returned, to be turned away.
    pub fn arrive(&mut self, priority: Priority, waker: W, limits: Limits, now: Duration) -> (Arrival, Option<W>) {
        if self.go(limits, now) {
            return (Arrival::Go, None);
        }
        if self.predicted(priority, now) > limits.timeout {
            return (Arrival::TooSlow, None);
        }
        let mut displaced = None;
        if self.waiting() >= limits.capacity {
            displaced = self.lanes.displace(priority, limits.capacity);
            if displaced.is_none() {
                return (Arrival::Full, None);
            }
        }
        let number = self.next;
        self.next += 1;
        self.lanes.push(priority, number, waker);
        (Arrival::Wait(number), displaced)
    }

    /// The turn taken at `begun` is finished.
    pub fn finish(&mut self, begun: Duration, now: Duration) {
        self.pace.end(begun, now);
    }

    /// The next one whose turn it is, if there is room; the caller wakes it.
    pub fn turn(&mut self, now: Duration) -> Option<W> {
        if self.working() >= self.concurrent {
            return None;
        }
        let waker = self.lanes.take()?;
        self.pace.begin(now);
        Some(waker)
    }

    /// The turn taken at `begun` was given to somebody who had left.
    pub fn return_turn(&mut self, begun: Duration) {
        self.pace.undo(begun);
    }

    /// Somebody leaves the queue. False when it no longer waits.
    pub fn leave(&mut self, number: u64) -> bool {
        self.lanes.leave(number)
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lanes.waiting()
    }

    /// Requests that are worked on.
    #[must_use]
    pub const fn working(&self) -> usize {
        self.pace.working()
    }

    /// How long somebody would wait who came now, from the measured rate.
    #[must_use]
    pub fn predicted(&self, priority: Priority, now: Duration) -> Duration {
        self.pace.wait(self.lanes.ahead(priority), self.concurrent, now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        concurrent: 1,
        capacity: 2,
        timeout: Duration::from_secs(30),
    };
    const START: Duration = Duration::ZERO;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn turns_go_by_priority_then_by_arrival() {
        let mut queue = Queue::default();
        let limits = Limits { capacity: 10, ..LIMITS };
        assert_eq!(queue.arrive(Priority::Normal, "first", limits, START).0, Arrival::Go);
        for (priority, who) in [
            (Priority::Background, "d"),
            (Priority::Normal, "b"),
            (Priority::Critical, "a"),
            (Priority::Normal, "c"),
        ] {
            assert!(matches!(queue.arrive(priority, who, limits, START).0, Arrival::Wait(_)));
        }
        assert_eq!(queue.turn(START), None, "all places are taken");
        let mut order = Vec::new();
        for second in 0..4 {
            queue.finish(s(second), s(second + 1));
            order.extend(queue.turn(s(second + 1)));
        }
        assert_eq!(order, ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_full_queue_keeps_the_more_urgent() {
        let mut queue = Queue::default();
        let _ = queue.arrive(Priority::Normal, "works", LIMITS, START);
        let _ = queue.arrive(Priority::Background, "old", LIMITS, START);
        let _ = queue.arrive(Priority::Background, "new", LIMITS, START);
        let late = queue.arrive(Priority::Background, "late", LIMITS, START);
        assert_eq!(late, (Arrival::Full, None));
        let urgent = queue.arrive(Priority::High, "urgent", LIMITS, START);
        assert!(matches!(urgent, (Arrival::Wait(_), Some("new"))));
        assert_eq!(queue.waiting(), 2);
    }

    #[test]
    fn a_flood_of_critical_ones_leaves_the_others_their_places() {
        let mut queue = Queue::default();
        let limits = Limits {
            capacity: 256,
            ..LIMITS
        };
        for _ in 0..=256 {
            let _ = queue.arrive(Priority::Critical, "flood", limits, START);
        }
        let mut taken_in = 0;
        while let (Arrival::Wait(_), displaced) = queue.arrive(Priority::Background, "small", limits, START) {
            assert_eq!(displaced, Some("flood"));
            taken_in += 1;
        }
        for _ in 0..1_000 {
            let (_, displaced) = queue.arrive(Priority::Critical, "flood", limits, START);
            assert_ne!(displaced, Some("small"));
        }
        println!("background requests kept in a queue of 256 that critical ones flood: {taken_in}");
        assert_eq!((taken_in, queue.waiting()), (7, 256));
    }

    #[test]
    fn a_wait_longer_than_the_timeout_is_refused_at_once() {
        let mut queue = Queue::default();
        let limits = Limits {
            capacity: 100,
            ..LIMITS
        };
        let _ = queue.arrive(Priority::Normal, 0, limits, s(0));
        queue.finish(s(0), s(20));
        let _ = queue.arrive(Priority::Normal, 1, limits, s(20));
        let arrive = |queue: &mut Queue<u8>, priority| queue.arrive(priority, 9, limits, s(20)).0;
        assert!(matches!(arrive(&mut queue, Priority::Normal), Arrival::Wait(_)), "20 s");
        assert_eq!(arrive(&mut queue, Priority::Normal), Arrival::TooSlow);
        assert_eq!(queue.predicted(Priority::Normal, s(20)), s(40));
        assert!(
            matches!(arrive(&mut queue, Priority::Critical), Arrival::Wait(_)),
            "nobody before it"
        );
    }

    #[test]
    fn more_room_is_used_from_the_next_arrival_on() {
        let mut queue = Queue::default();
        let limits = Limits {
            capacity: 100,
            ..LIMITS
        };
        for who in 0..4 {
            let _ = queue.arrive(Priority::Normal, who, limits, START);
        }
        assert_eq!(queue.turn(START), None);
        let wider = Limits {
            concurrent: 3,
            ..limits
        };
        let _ = queue.arrive(Priority::Normal, 4, wider, START);
        assert_eq!(
            (queue.turn(START), queue.turn(START), queue.turn(START)),
            (Some(1), Some(2), None)
        );
    }

    #[test]
    fn who_leaves_is_not_called() {
        let mut queue = Queue::default();
        let _ = queue.arrive(Priority::Normal, "works", LIMITS, START);
        let (Arrival::Wait(number), None) = queue.arrive(Priority::Normal, "left", LIMITS, START) else {
            panic!("must wait")
        };
        assert!(queue.leave(number));
        assert!(!queue.leave(number));
        queue.finish(START, START);
        assert_eq!(queue.turn(START), None);
    }

    proptest! {
        #[test]
        fn never_more_at_work_or_waiting_than_allowed(
            steps in proptest::collection::vec((0..4_u8, 0..4_usize, any::<prop::sample::Index>()), 0..200),
        ) {
            let limits = Limits { concurrent: 3, capacity: 4, timeout: s(1_000) };
            let lanes = [Priority::Critical, Priority::High, Priority::Normal, Priority::Background];
            let (mut queue, mut numbers, mut works) = (Queue::default(), Vec::new(), 0_usize);
            for (step, lane, which) in steps {
                match step {
                    0 | 1 => match queue.arrive(lanes[lane], (), limits, START).0 {
                        Arrival::Go => works += 1,
                        Arrival::Wait(number) => numbers.push(number),
                        Arrival::Full | Arrival::TooSlow => {}
                    },
                    2 if works > 0 => {
                        queue.finish(START, START);
                        works -= 1;
                    }
                    _ if !numbers.is_empty() => { queue.leave(numbers.swap_remove(which.index(numbers.len()))); }
                    _ => {}
                }
                while queue.turn(START).is_some() { works += 1; }
                prop_assert!(works <= 3 && queue.waiting() <= 4);
                prop_assert_eq!(queue.working(), works);
                prop_assert!(queue.waiting() == 0 || works == 3, "nobody waits while there is room");
            }
        }
    }
}
