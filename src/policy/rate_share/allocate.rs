//! Sharing one limit out.
//!
//! Safe at every step, whatever becomes of single writes: a replica is given only what is free, and free is only what no replica may
//! still be using. A smaller order frees nothing until the replica says that it follows it; until then the order carries along how
//! much may be in use, as `reserved`.

use super::Rate;

/// The limit over this is kept back: what buckets have saved up must not take the first minute after a rest far above the limit.
const MARGIN: Rate = 400;
/// The floors of all replicas together are the limit over this.
const FLOOR: Rate = 1_000;
/// Who asks for more than the level counts with this many times the level at most.
const MOST_LEVELS: Rate = 2;
/// Nobody is short any more when all together ask for so many hundredths of the limit.
const CALM: Rate = 90;
/// Differences that are not worth a move, as parts of the limit: of shares while all are short, of room that another could use, of
/// shares while nobody is short, and of what is not given to anybody.
const UNFAIR: Rate = 16;
const ROOM: Rate = 200;
const UNEVEN: Rate = 4;
const UNGIVEN: Rate = 400;
/// While nobody is short a share is above what is asked for by its eighth, or it is time to move.
const HEADROOM: Rate = 8;

/// A replica's part as it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// What it is told to keep to.
    pub ordered: Rate,
    /// The most that it may be using.
    pub committed: Rate,
    /// What it would use.
    pub demand: Rate,
}

impl Holding {
    /// What is known of a replica that was `told` an order: whether it says that it `follows` it, and an order that a write without an
    /// answer may have `tried` to tell it since.
    #[must_use]
    pub fn known(told: Order, follows: bool, tried: Option<Order>, demand: Rate) -> Self {
        // What the order reserves is over once it is followed.
        let of_told = if follows { told.ordered } else { told.committed() };
        Self {
            ordered: told.ordered,
            committed: of_told.max(tried.map_or(0, |tried| tried.committed())),
            demand,
        }
    }
}

/// What a replica is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Its share.
    pub ordered: Rate,
    /// The most that it may be using until it follows the order.
    pub reserved: Rate,
}

impl Order {
    const fn committed(&self) -> Rate {
        if self.ordered > self.reserved {
            self.ordered
        } else {
            self.reserved
        }
    }
}

/// All orders for one limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// In the order of the holdings.
    pub orders: Vec<Order>,
    /// Somebody is short.
    pub contended: bool,
}

/// The next orders. What all replicas may be using together, `Σ committed`, is at most `limit` afterwards, or no more than before.
///
/// While all together ask for less than the limit each gets what it asks for and its part of the rest. Else it is max–min fair with one
/// correction. Max–min fairness gives the modest what they ask for and the others a common level. But requests come unevenly, and a
/// share that just fits leaves a tenth and more of itself unused while others are refused. So whoever asks for more than the level
/// counts with up to [`MOST_LEVELS`] times of it, and all are cut by the same factor: nobody gets less than half of the fair share,
/// and nobody's share is more than it can use.
#[must_use]
pub fn share_out(limit: Rate, was_contended: bool, holdings: &[Holding]) -> Shared {
    let pool = limit - limit / MARGIN;
    let asked = sum(holdings.iter().map(|h| h.demand));
    let contended = asked > if was_contended { part(pool, CALM, 100) } else { pool };
    let targets = targets(pool, holdings);
    let orders = if contended == was_contended && settled(pool, contended, holdings, &targets) {
        holdings.iter().map(kept).collect()
    } else {
        moved(pool, holdings, &targets)
    };
    Shared { orders, contended }
}

fn kept(holding: &Holding) -> Order {
    Order {
        ordered: holding.ordered,
        reserved: holding.committed,
    }
}

/// Orders towards the targets: less at once, more as far as something is free.
fn moved(pool: Rate, holdings: &[Holding], targets: &[Rate]) -> Vec<Order> {
    let gain = |holding: &Holding, target: Rate| target.saturating_sub(holding.committed);
    let both = || holdings.iter().zip(targets.iter().copied());
    let wanted = sum(both().map(|(h, target)| gain(h, target)));
    let free = pool.saturating_sub(sum(holdings.iter().map(|h| h.committed)));
    let order = |(holding, target): (&Holding, Rate)| {
        let more = part(free.min(wanted), gain(holding, target), wanted);
        let ordered = target.min(holding.committed + more);
        Order {
            ordered,
            reserved: holding.committed.max(ordered),
        }
    };
    both().map(order).collect()
}

/// Nothing is worth a move.
fn settled(pool: Rate, contended: bool, holdings: &[Holding], targets: &[Rate]) -> bool {
    let given = sum(holdings.iter().map(|h| h.ordered));
    let committed = sum(holdings.iter().map(|h| h.committed));
    let off = sum(holdings.iter().zip(targets).map(|(h, target)| target.saturating_sub(h.ordered)));
    let room = sum(holdings.iter().map(|h| h.ordered.saturating_sub(h.demand)));
    let near = if contended {
        room <= pool / ROOM && off <= pool / UNFAIR
    } else {
        off <= pool / UNEVEN && holdings.iter().all(|h| h.ordered >= h.demand + h.demand / HEADROOM)
    };
    near && given + pool / UNGIVEN >= pool && committed <= pool
}

/// What each would get if nothing had to be waited for.
fn targets(pool: Rate, holdings: &[Holding]) -> Vec<Rate> {
    let count = u64::try_from(holdings.len()).unwrap_or(u64::MAX).max(1);
    let floor = (pool / FLOOR / count).max(1).min(pool / count);
    let rest = pool - floor * count;
    let asked = sum(holdings.iter().map(|h| h.demand));
    if asked <= rest {
        let (even, by_demand) = halves(rest - asked, asked);
        let more = |h: &Holding| h.demand + even / count + part(by_demand, h.demand, asked);
        return holdings.iter().map(|h| floor + more(h)).collect();
    }
    let most = level(rest, holdings).saturating_mul(MOST_LEVELS);
    let weight = |h: &Holding| h.demand.min(most);
    let weights = sum(holdings.iter().map(weight));
    holdings.iter().map(|h| floor + part(rest, weight(h), weights)).collect()
}

/// What nobody asks for: one half for all alike, one by demand.
const fn halves(left: Rate, asked: Rate) -> (Rate, Rate) {
    match asked {
        0 => (left, 0),
        _ => (left - left / 2, left / 2),
    }
}

/// The level of max–min fairness: what asks for less gets it, all others get the level.
fn level(rest: Rate, holdings: &[Holding]) -> Rate {
    let mut demands: Vec<Rate> = holdings.iter().map(|h| h.demand).collect();
    demands.sort_unstable();
    let (mut left, mut count) = (rest, u64::try_from(demands.len()).unwrap_or(u64::MAX));
    for demand in demands {
        let level = left / count.max(1);
        if demand >= level {
            return level;
        }
        left -= demand;
        count -= 1;
    }
    left
}

/// `whole` × `weight` / `weights`, rounded down.
fn part(whole: Rate, weight: Rate, weights: Rate) -> Rate {
    let exact = u128::from(whole) * u128::from(weight) / u128::from(weights.max(1));
    u64::try_from(exact).unwrap_or(u64::MAX)
}

fn sum(rates: impl Iterator<Item = Rate>) -> Rate {
    rates.fold(0, Rate::saturating_add)
}
