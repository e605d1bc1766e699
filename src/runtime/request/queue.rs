//! Who waits for a turn: bounded, by priority, first come first served within one, shed when the wait would be too long. Pure: time
//! is an argument.

use std::{collections::VecDeque, time::Duration};

/// `x-inference-priority`, the most urgent first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Before everybody.
    Critical,
    /// Before most.
    High,
    /// The default.
    #[default]
    Normal,
    /// When nobody else waits.
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
    /// It is turned away.
    Full {
        /// When to come again, from the measured rate.
        predicted: Duration,
    },
}

/// The queue. `W` is whatever wakes a waiter.
#[derive(Debug)]
pub struct Queue<W> {
    lanes: [VecDeque<(u64, W)>; 4],
    working: usize,
    next: u64,
    pace: Pace,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self {
            lanes: Default::default(),
            working: 0,
            next: 0,
            pace: Pace::default(),
        }
    }
}

impl<W> Queue<W> {
    /// A request arrives. One that waits displaces the newest of a lower priority when the queue is full; that one is returned, to be
    /// turned away.
    pub fn arrive(&mut self, priority: Priority, waker: W, limits: Limits) -> (Arrival, Option<W>) {
        if self.working < limits.concurrent && self.waiting() == 0 {
            self.working += 1;
            return (Arrival::Go, None);
        }
        let ahead = self.lanes.iter().take(priority.lane() + 1).map(VecDeque::len).sum();
        let predicted = self.pace.wait(ahead);
        if predicted > limits.timeout {
            return (Arrival::Full { predicted }, None);
        }
        let mut displaced = None;
        if self.waiting() >= limits.capacity {
            displaced = self.displace(priority);
            if displaced.is_none() {
                return (Arrival::Full { predicted }, None);
            }
        }
        (Arrival::Wait(self.push(priority, waker)), displaced)
    }

    fn push(&mut self, priority: Priority, waker: W) -> u64 {
        let number = self.next;
        self.next += 1;
        if let Some(lane) = self.lanes.get_mut(priority.lane()) {
            lane.push_back((number, waker));
        }
        number
    }

    fn displace(&mut self, priority: Priority) -> Option<W> {
        let lower = self.lanes.iter_mut().skip(priority.lane() + 1).rev();
        lower.filter_map(VecDeque::pop_back).map(|(_, waker)| waker).next()
    }

    /// A request is finished, after `service` on a machine that works on `concurrent` at once.
    pub fn finish(&mut self, service: Duration, concurrent: usize) {
        self.working = self.working.saturating_sub(1);
        self.pace.note(service, concurrent);
    }

    /// The next one whose turn it is, if there is room; the caller wakes it.
    pub fn turn(&mut self, limits: Limits) -> Option<W> {
        if self.working >= limits.concurrent {
            return None;
        }
        let (_, waker) = self.lanes.iter_mut().find_map(VecDeque::pop_front)?;
        self.working += 1;
        Some(waker)
    }

    /// A turn was given to somebody who had left.
    pub fn return_turn(&mut self) {
        self.working = self.working.saturating_sub(1);
    }

    /// Somebody leaves the queue. False when it no longer waits.
    pub fn leave(&mut self, number: u64) -> bool {
        self.lanes.iter_mut().any(|lane| {
            let found = lane.iter().position(|(n, _)| *n == number);
            found.and_then(|at| lane.remove(at)).is_some()
        })
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum()
    }

    /// Requests that are worked on.
    #[must_use]
    pub const fn working(&self) -> usize {
        self.working
    }

    /// When somebody who is turned away now may come again.
    #[must_use]
    pub fn predicted(&self) -> Duration {
        self.pace.wait(self.waiting())
    }
}

/// The measured drain rate: a moving average of the time between two finished requests when all places are taken.
#[derive(Debug, Default)]
struct Pace {
    interval: Option<Duration>,
}

/// Share of the newest measurement in the average.
const WEIGHT: f64 = 0.2;

impl Pace {
    fn note(&mut self, service: Duration, concurrent: usize) {
        let sample = service / u32::try_from(concurrent.max(1)).unwrap_or(u32::MAX);
        self.interval = Some(match self.interval {
            None => sample,
            Some(before) => before.mul_f64(1.0 - WEIGHT) + sample.mul_f64(WEIGHT),
        });
    }

    /// The wait behind `ahead` others; zero before anything was measured.
    fn wait(&self, ahead: usize) -> Duration {
        let turns = u32::try_from(ahead + 1).unwrap_or(u32::MAX);
        self.interval.unwrap_or_default().saturating_mul(turns)
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

    #[test]
    fn turns_go_by_priority_then_by_arrival() {
        let mut queue = Queue::default();
        let limits = Limits { capacity: 10, ..LIMITS };
        assert_eq!(queue.arrive(Priority::Normal, "first", limits).0, Arrival::Go);
        for (priority, who) in [
            (Priority::Background, "d"),
            (Priority::Normal, "b"),
            (Priority::Critical, "a"),
            (Priority::Normal, "c"),
        ] {
            assert!(matches!(queue.arrive(priority, who, limits).0, Arrival::Wait(_)));
        }
        assert_eq!(queue.turn(limits), None, "all places are taken");
        let mut order = Vec::new();
        for _ in 0..4 {
            queue.finish(Duration::from_secs(1), 1);
            order.extend(queue.turn(limits));
        }
        assert_eq!(order, ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_full_queue_keeps_the_more_urgent() {
        let mut queue = Queue::default();
        let _ = queue.arrive(Priority::Normal, "works", LIMITS);
        let _ = queue.arrive(Priority::Background, "old", LIMITS);
        let _ = queue.arrive(Priority::Background, "new", LIMITS);
        assert!(matches!(
            queue.arrive(Priority::Background, "late", LIMITS),
            (Arrival::Full { .. }, None)
        ));
        assert!(matches!(
            queue.arrive(Priority::High, "urgent", LIMITS),
            (Arrival::Wait(_), Some("new"))
        ));
        assert_eq!(queue.waiting(), 2);
    }

    #[test]
    fn a_wait_longer_than_the_timeout_is_refused_at_once() {
        let mut queue = Queue::default();
        let limits = Limits {
            capacity: 100,
            ..LIMITS
        };
        let _ = queue.arrive(Priority::Normal, 0, limits);
        queue.finish(Duration::from_secs(20), 1);
        let _ = queue.arrive(Priority::Normal, 1, limits);
        assert!(
            matches!(queue.arrive(Priority::Normal, 2, limits).0, Arrival::Wait(_)),
            "20 s"
        );
        let refused = queue.arrive(Priority::Normal, 3, limits).0;
        assert_eq!(
            refused,
            Arrival::Full {
                predicted: Duration::from_secs(40)
            }
        );
        assert!(
            matches!(queue.arrive(Priority::Critical, 4, limits).0, Arrival::Wait(_)),
            "nobody before it"
        );
    }

    #[test]
    fn who_leaves_is_not_called() {
        let mut queue = Queue::default();
        let _ = queue.arrive(Priority::Normal, "works", LIMITS);
        let (Arrival::Wait(number), None) = queue.arrive(Priority::Normal, "left", LIMITS) else {
            panic!("must wait")
        };
        assert!(queue.leave(number));
        assert!(!queue.leave(number));
        queue.finish(Duration::ZERO, 1);
        assert_eq!(queue.turn(LIMITS), None);
    }

    proptest! {
        #[test]
        fn never_more_at_work_or_waiting_than_allowed(
            steps in proptest::collection::vec((0..4_u8, 0..4_usize, any::<prop::sample::Index>()), 0..200),
        ) {
            let limits = Limits { concurrent: 3, capacity: 4, timeout: Duration::from_secs(1_000) };
            let lanes = [Priority::Critical, Priority::High, Priority::Normal, Priority::Background];
            let (mut queue, mut numbers, mut works) = (Queue::default(), Vec::new(), 0_usize);
            for (step, lane, which) in steps {
                match step {
                    0 | 1 => match queue.arrive(lanes[lane], (), limits).0 {
                        Arrival::Go => works += 1,
                        Arrival::Wait(number) => numbers.push(number),
                        Arrival::Full { .. } => {}
                    },
                    2 if works > 0 => {
                        queue.finish(Duration::from_millis(1), 3);
                        works -= 1;
                    }
                    _ if !numbers.is_empty() => { queue.leave(numbers.swap_remove(which.index(numbers.len()))); }
                    _ => {}
                }
                while queue.turn(limits).is_some() { works += 1; }
                prop_assert!(works <= 3 && queue.waiting() <= 4);
                prop_assert_eq!(queue.working(), works);
                prop_assert!(queue.waiting() == 0 || works == 3, "nobody waits while there is room");
            }
        }
    }
}
