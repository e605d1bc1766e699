//! How often a status may be written (design section 8, write rates): routine news at most once in 5 s, urgent news at once but at
//! least 250 ms apart and at most ten a minute, beyond that as routine. All news of a replica go into one write. A write that was the
//! routine one's turn is none of the ten, whatever it says.

use std::{collections::VecDeque, time::Duration};

const ROUTINE: Duration = Duration::from_secs(5);
const URGENT: Duration = Duration::from_millis(250);
const URGENT_MOST: usize = 10;
/// What people like to see soon may be so many of them: the others are left to what cannot wait.
const PROMPT_MOST: usize = 3;
const MINUTE: Duration = Duration::from_secs(60);

/// How soon news must be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Haste {
    /// At the next turn.
    Routine,
    /// At once while little else is: people look at it, nothing waits for it.
    Prompt,
    /// At once: a circuit opened or closed, a probe, an override, a want with an empty lease, a denial.
    Urgent,
}

impl Haste {
    /// Of news that cannot wait, or can.
    #[must_use]
    pub const fn urgent_if(urgent: bool) -> Self {
        if urgent { Self::Urgent } else { Self::Routine }
    }

    /// Writes of a minute that may come before the routine one's turn.
    const fn most(self) -> usize {
        match self {
            Self::Routine => 0,
            Self::Prompt => PROMPT_MOST,
            Self::Urgent => URGENT_MOST,
        }
    }
}

/// When the next write of one object may happen.
#[derive(Debug, Default)]
pub struct WriteRate {
    last: Option<Duration>,
    urgent: VecDeque<Duration>,
}

impl WriteRate {
    /// The first instant at which news may be written; `now` when at once.
    #[must_use]
    pub fn next(&self, now: Duration, haste: Haste) -> Duration {
        let Some(last) = self.last else { return now };
        let recent = self.urgent.iter().filter(|at| at.saturating_add(MINUTE) > now).count();
        let apart = if recent < haste.most() { URGENT } else { ROUTINE };
        last.saturating_add(apart).max(now)
    }

    /// A write was tried, whatever became of it.
    pub fn wrote(&mut self, now: Duration) {
        let early = self.last.is_some_and(|last| now < last.saturating_add(ROUTINE));
        self.last = Some(now);
        if early {
            self.urgent.push_back(now);
        }
        while self.urgent.len() > URGENT_MOST {
            self.urgent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Haste::*, *};

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Writes as soon as it may, after `now`; gives when.
    fn write(rate: &mut WriteRate, now: Duration, haste: Haste) -> Duration {
        let at = rate.next(now, haste);
        rate.wrote(at);
        at
    }

    #[test]
    fn the_first_write_is_at_once_and_the_next_routine_one_5_s_later() {
        let mut rate = WriteRate::default();
        assert_eq!(write(&mut rate, millis(7), Routine), millis(7));
        assert_eq!(rate.next(millis(8), Routine), millis(5_007));
        assert_eq!(rate.next(millis(9_000), Routine), millis(9_000));
    }

    #[test]
    fn urgent_news_wait_a_quarter_second_and_the_eleventh_is_routine() {
        let mut rate = WriteRate::default();
        let mut now = write(&mut rate, millis(0), Routine);
        for _ in 0..URGENT_MOST {
            now = write(&mut rate, now, Urgent);
        }
        assert_eq!(now, URGENT * 10);
        assert_eq!(rate.next(now, Urgent), now + ROUTINE);
        assert_eq!(rate.next(now + MINUTE, Urgent), now + MINUTE);
    }

    #[test]
    fn what_people_look_at_leaves_most_of_the_ten_to_what_cannot_wait() {
        let mut rate = WriteRate::default();
        let mut now = millis(0);
        let early = (0..10).filter(|_| {
            let before = now;
            now = write(&mut rate, before + millis(1), Prompt);
            now < before + ROUTINE
        });
        assert_eq!(early.count(), PROMPT_MOST + 1, "and the very first");
        for _ in 0..URGENT_MOST - PROMPT_MOST {
            let before = now;
            now = write(&mut rate, before, Urgent);
            assert_eq!(now, before + URGENT);
        }
    }

    #[test]
    fn urgent_news_in_the_routine_ones_turn_are_none_of_the_ten() {
        let mut rate = WriteRate::default();
        let mut now = millis(0);
        for _ in 0..100 {
            now = write(&mut rate, now + ROUTINE, Urgent);
        }
        assert_eq!(write(&mut rate, now, Urgent), now + URGENT);
    }

    /// Eight pods start, their provider dies, comes back, and in between something routine is always to be written.
    #[test]
    fn a_circuit_that_opens_and_closes_in_its_first_minute_never_waits() {
        let mut rate = WriteRate::default();
        let mut news: Vec<(u64, Haste)> = (0..12_000).step_by(500).map(|at| (at, Prompt)).collect();
        let opened_offered_failed_offered_closed = [13_000, 19_000, 19_300, 34_000, 34_300];
        news.extend(opened_offered_failed_offered_closed.map(|at| (at, Urgent)));
        news.extend((0..40_000).step_by(100).map(|at| (at + 50, Routine)));
        news.sort_unstable();
        let mut late = Vec::new();
        for (at, haste) in news {
            let due = rate.next(millis(at), haste);
            if due <= millis(at) {
                rate.wrote(due);
            } else if haste == Urgent && due > millis(at) + URGENT {
                late.push(at);
            }
        }
        assert_eq!(late, Vec::<u64>::new());
    }

    proptest! {
        #[test]
        fn no_minute_sees_more_than_ten_urgent_and_twelve_routine_writes(steps in proptest::collection::vec((0..2_000_u64, 0..3_usize), 1..400)) {
            let (mut rate, mut now, mut writes) = (WriteRate::default(), Duration::ZERO, Vec::new());
            for (wait, haste) in steps {
                now = write(&mut rate, now + millis(wait), [Routine, Prompt, Urgent][haste]);
                writes.push(now);
            }
            for (index, start) in writes.iter().enumerate() {
                let in_minute = writes[index..].iter().take_while(|at| **at < *start + MINUTE).count();
                prop_assert!(in_minute <= URGENT_MOST + 13, "{in_minute} writes in a minute");
            }
        }
    }
}
