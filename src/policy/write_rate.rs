//! How often a status may be written (design section 8, write rates): routine news at most once in 5 s, urgent news at once but at
//! least 250 ms apart and at most ten a minute, beyond that as routine. All news of a replica go into one write.

use std::{collections::VecDeque, time::Duration};

const ROUTINE: Duration = Duration::from_secs(5);
const URGENT: Duration = Duration::from_millis(250);
const URGENT_MOST: usize = 10;
const MINUTE: Duration = Duration::from_secs(60);

/// When the next write of one object may happen.
#[derive(Debug, Default)]
pub struct WriteRate {
    last: Option<Duration>,
    urgent: VecDeque<Duration>,
}

impl WriteRate {
    /// The first instant at which news may be written; `now` when at once.
    #[must_use]
    pub fn next(&self, now: Duration, urgent: bool) -> Duration {
        let Some(last) = self.last else { return now };
        let recent = self.urgent.iter().filter(|at| at.saturating_add(MINUTE) > now).count();
        let apart = if urgent && recent < URGENT_MOST {
            URGENT
        } else {
            ROUTINE
        };
        last.saturating_add(apart).max(now)
    }

    /// A write was tried, whatever became of it.
    pub fn wrote(&mut self, now: Duration, urgent: bool) {
        self.last = Some(now);
        if urgent {
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

    use super::*;

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_first_write_is_at_once_and_the_next_routine_one_5_s_later() {
        let mut rate = WriteRate::default();
        assert_eq!(rate.next(millis(7), false), millis(7));
        rate.wrote(millis(7), false);
        assert_eq!(rate.next(millis(8), false), millis(5_007));
        assert_eq!(rate.next(millis(9_000), false), millis(9_000));
    }

    #[test]
    fn urgent_news_wait_a_quarter_second_and_the_eleventh_is_routine() {
        let mut rate = WriteRate::default();
        let mut now = millis(0);
        for _ in 0..URGENT_MOST {
            now = rate.next(now, true);
            rate.wrote(now, true);
        }
        assert_eq!(now, URGENT * 9);
        assert_eq!(rate.next(now, true), now + ROUTINE);
        assert_eq!(rate.next(now + MINUTE, true), now + MINUTE);
    }

    proptest! {
        #[test]
        fn no_minute_sees_more_than_ten_urgent_and_twelve_routine_writes(steps in proptest::collection::vec((0..2_000_u64, any::<bool>()), 1..400)) {
            let (mut rate, mut now, mut writes) = (WriteRate::default(), Duration::ZERO, Vec::new());
            for (wait, urgent) in steps {
                now += millis(wait);
                now = rate.next(now, urgent);
                rate.wrote(now, urgent);
                writes.push(now);
            }
            for (index, start) in writes.iter().enumerate() {
                let in_minute = writes[index..].iter().take_while(|at| **at < *start + MINUTE).count();
                prop_assert!(in_minute <= URGENT_MOST + 13, "{in_minute} writes in a minute");
            }
        }
    }
}
