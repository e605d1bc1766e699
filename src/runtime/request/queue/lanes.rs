//! Who is next: four lanes, served by weight. An urgent lane goes first and most often; none is ever left out.

use std::collections::VecDeque;

use super::Priority;

/// Turns that a lane gets while all four are busy, by the most urgent first: each three times the next.
const WEIGHTS: [u64; 4] = [27, 9, 3, 1];
/// The sum of [`WEIGHTS`]: within so many turns every lane that waits is served.
pub const ROUND: u64 = 40;

/// Turns from one to the next of a lane that is served alone with its weight, on the lanes' own clock.
fn stride(lane: usize) -> u64 {
    WEIGHTS.get(lane).map_or(1, |weight| 27 / weight)
}

#[derive(Debug)]
struct Lane<W> {
    waiting: VecDeque<(u64, W)>,
    /// When its first one is due, on the lanes' own clock.
    due: u64,
}

/// The four lanes. The lane that is due first is next (stride scheduling). One that was empty keeps when it is due, so that coming and
/// going gains nothing, and one that comes seldom is served at once: a small timeout does not shut it out.
#[derive(Debug)]
pub struct Lanes<W> {
    lanes: [Lane<W>; 4],
    clock: u64,
}

impl<W> Default for Lanes<W> {
    fn default() -> Self {
        let lane = |at| Lane {
            waiting: VecDeque::new(),
            due: stride(at),
        };
        Self {
            lanes: [lane(0), lane(1), lane(2), lane(3)],
            clock: 0,
        }
    }
}

impl<W> Lanes<W> {
    /// Joins the end of a lane.
    pub fn push(&mut self, priority: Priority, number: u64, waiter: W) {
        let due = self.due(priority.lane());
        if let Some(lane) = self.lanes.get_mut(priority.lane()) {
            lane.due = due;
            lane.waiting.push_back((number, waiter));
        }
    }

    fn due(&self, at: usize) -> u64 {
        match self.lanes.get(at) {
            Some(lane) if !lane.waiting.is_empty() => lane.due,
            Some(lane) => lane.due.max(self.clock),
            None => self.clock,
        }
    }

    /// Takes the next one.
    pub fn take(&mut self) -> Option<W> {
        let busy = self.lanes.iter_mut().enumerate();
        let (at, lane) = busy
            .filter(|(_, lane)| !lane.waiting.is_empty())
            .min_by_key(|(at, lane)| (lane.due, *at))?;
        let (_, waiter) = lane.waiting.pop_front()?;
        self.clock = lane.due;
        lane.due += stride(at);
        Some(waiter)
    }

    /// Turns before somebody who joins now is served, when nobody else comes.
    pub fn ahead(&self, priority: Priority) -> usize {
        let own = priority.lane();
        let before = self.lanes.get(own).map_or(0, |lane| lane.waiting.len());
        let turn = self.due(own) + stride(own) * before as u64;
        let others = self.lanes.iter().enumerate().filter(|(at, _)| *at != own);
        let others = others.map(|(at, lane)| {
            let last = if at < own { turn + 1 } else { turn };
            let turns = last.saturating_sub(lane.due).div_ceil(stride(at));
            lane.waiting.len().min(usize::try_from(turns).unwrap_or(usize::MAX))
        });
        before + others.sum::<usize>()
    }

    /// Makes room in a full queue: the newest of a less urgent lane that has more than its share goes; else, for a lane that has less
    /// than its share, the newest of any lane that has more.
    pub fn displace(&mut self, priority: Priority, capacity: usize) -> Option<W> {
        let own = priority.lane();
        let above = |at: usize, lane: &Lane<W>| lane.waiting.len() > share(at, capacity);
        let entitled = self
            .lanes
            .get(own)
            .is_some_and(|lane| lane.waiting.len() < share(own, capacity));
        let mut lanes = self.lanes.iter_mut().enumerate().rev();
        let (_, lane) = lanes.find(|(at, lane)| above(*at, lane) && (*at > own || (entitled && *at != own)))?;
        lane.waiting.pop_back().map(|(_, waiter)| waiter)
    }

    /// Somebody leaves. False when it no longer waits.
    pub fn leave(&mut self, number: u64) -> bool {
        self.lanes.iter_mut().any(|lane| {
            let found = lane.waiting.iter().position(|(n, _)| *n == number);
            found.and_then(|at| lane.waiting.remove(at)).is_some()
        })
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lane.waiting.len()).sum()
    }
}

/// Places of a full queue that nobody takes from a lane: one each, the rest by weight. A queue of fewer than four places has none.
fn share(lane: usize, capacity: usize) -> usize {
    let weight = WEIGHTS.get(lane).copied().unwrap_or_default();
    let by_weight = |rest: usize| usize::try_from(rest as u64 * weight / ROUND).unwrap_or(usize::MAX);
    capacity
        .checked_sub(WEIGHTS.len())
        .map_or(0, |rest| 1 + by_weight(rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Priority; 4] = [
        Priority::Critical,
        Priority::High,
        Priority::Normal,
        Priority::Background,
    ];

    #[test]
    fn under_a_flood_every_lane_gets_its_weight() {
        let mut lanes = Lanes::default();
        let mut number = 0;
        let mut join = |lanes: &mut Lanes<usize>, at: usize| {
            number += 1;
            lanes.push(ALL[at], number, at);
        };
        for at in (0..4).cycle().take(8) {
            join(&mut lanes, at);
        }
        let mut turns = [0_u32; 4];
        for _ in 0..4_000 {
            let at = lanes.take().unwrap();
            turns[at] += 1;
            join(&mut lanes, at);
        }
        println!("turns of 4000, critical to background, all four flooding: {turns:?}");
        for (turns, share) in turns.into_iter().zip([2_700, 900, 300, 100]) {
            assert!(turns.abs_diff(share) <= 27, "{turns} instead of {share}");
        }
    }

    #[test]
    fn the_shares_of_a_full_queue_fit_into_it() {
        for capacity in 0..1_000 {
            let shares = [0, 1, 2, 3].map(|lane| share(lane, capacity));
            assert!(shares.iter().sum::<usize>() <= capacity);
            assert_eq!(shares[3] > 0, capacity >= 4);
        }
    }

    proptest! {
        /// Whatever comes, a lane's first one is served within a round, and whoever comes to an empty critical lane lets pass no more
        /// than one of each other lane.
        #[test]
        fn nobody_starves(steps in proptest::collection::vec((any::<bool>(), 0..4_usize), 1..600)) {
            let mut lanes = Lanes::default();
            let mut model: [VecDeque<u64>; 4] = Default::default();
            let mut passed = [0_u64; 4];
            for (number, (joins, at)) in (0..).zip(steps) {
                if joins {
                    let ahead = lanes.ahead(ALL[at]);
                    if at == 0 && model[0].is_empty() { prop_assert!(ahead <= 3, "{ahead}"); }
                    lanes.push(ALL[at], number, (at, number));
                    if model[at].is_empty() { passed[at] = 0; }
                    model[at].push_back(number);
                } else if let Some((at, number)) = lanes.take() {
                    prop_assert_eq!(model[at].pop_front(), Some(number), "first come first served in a lane");
                    passed = passed.map(|turns| turns + 1);
                    passed[at] = 0;
                }
                for lane in 0..4 {
                    if model[lane].is_empty() { passed[lane] = 0; }
                    prop_assert!(passed[lane] <= ROUND + 3, "lane {} was passed over {} times", lane, passed[lane]);
                }
            }
        }

        /// What is predicted for a newcomer is what happens when nobody else comes.
        #[test]
        fn turns_ahead_are_counted_exactly(
            steps in proptest::collection::vec((0..3_u8, 0..4_usize), 0..200), newcomer in 0..4_usize,
        ) {
            let mut lanes = Lanes::default();
            for (number, (step, at)) in (0..).zip(steps) {
                if step == 0 { lanes.take(); } else { lanes.push(ALL[at], number, false); }
            }
            let ahead = lanes.ahead(ALL[newcomer]);
            lanes.push(ALL[newcomer], u64::MAX, true);
            let served = std::iter::from_fn(|| lanes.take()).position(|is_newcomer| is_newcomer);
            prop_assert_eq!(served, Some(ahead));
        }
    }
}
