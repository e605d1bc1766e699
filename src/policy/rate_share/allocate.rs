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
/// What need not be given to anybody, as part of the limit.
const UNGIVEN: Rate = 400;
/// While nobody is short, who is given something gets an eighth more than what it asks for; who lacks less than an eighth waits for it.
const HEADROOM: Rate = 8;
/// In a shortage nobody moves for fairness alone who has this part of the fair share: all that is sent is sent either way.
const FAIR: Rate = 2;
/// While nobody is short, who holds a quarter of an even part of what nobody asks for can begin.
const EVEN: Rate = 4;

/// What is given before all is free is this part of a share at least.
const PART: Rate = 4;

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
    /// It leaves something that another replica is short of.
    pub awaited: bool,
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
    /// All together ask for more than there is.
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
    let little = pool / UNGIVEN / count(holdings);
    let asked = sum(holdings.iter().map(|h| h.demand));
    let lacks = |holding: &Holding| holding.demand > holding.ordered + little;
    let contended = asked > pool || was_contended && (asked > part(pool, CALM, 100) || holdings.iter().any(lacks));
    let ideal = targets(pool, holdings);
    let enough = if contended {
        ideal.clone()
    } else {
        enough(pool, holdings, &ideal)
    };
    let content = |(holding, enough): (&Holding, &Rate)| is_content(contended, little, holding, *enough);
    let content: Vec<bool> = holdings.iter().zip(&enough).map(content).collect();
    let (given, committed) = (
        sum(holdings.iter().map(|h| h.ordered)),
        sum(holdings.iter().map(|h| h.committed)),
    );
    let orders = if content.iter().all(|content| *content) && nearly(given, pool) && committed <= pool {
        holdings.iter().map(kept).collect()
    } else {
        let mut targets = few_moves(pool, holdings, &enough, &content);
        if sum(targets.iter().copied()) > pool {
            targets.clone_from(&ideal);
        }
        give_the_rest(pool, &mut targets, &ideal);
        moved(pool, holdings, &unless_little(little, holdings, &targets))
    };
    Shared { orders, contended }
}

/// All of the pool, but for what is not worth a move, and no more.
const fn nearly(given: Rate, pool: Rate) -> bool {
    given <= pool && given + pool / UNGIVEN >= pool
}

/// What is enough for each while nobody is short: a little more than what it asks for, and to begin with.
fn enough(pool: Rate, holdings: &[Holding], ideal: &[Rate]) -> Vec<Rate> {
    let left = pool.saturating_sub(sum(holdings.iter().map(|h| h.demand)));
    let begin = left / count(holdings) / EVEN;
    let enough =
        |(holding, ideal): (&Holding, &Rate)| (holding.demand + holding.demand / HEADROOM).max(begin).min(*ideal);
    holdings.iter().zip(ideal).map(enough).collect()
}

/// `little`: what is not worth a move.
const fn is_content(contended: bool, little: Rate, holding: &Holding, enough: Rate) -> bool {
    if !contended {
        return holding.ordered + holding.ordered / HEADROOM >= enough - enough / HEADROOM;
    }
    let has_room = holding.ordered > holding.demand + little;
    holding.ordered >= enough / FAIR && !has_room
}

/// Moves cost writes, and what is on its way nobody can use: who is content keeps its share, as far as the others find enough beside it.
fn few_moves(pool: Rate, holdings: &[Holding], enough: &[Rate], content: &[bool]) -> Vec<Rate> {
    let parts = || holdings.iter().zip(enough.iter().copied()).zip(content.iter().copied());
    let target = |((holding, enough), content): ((&Holding, Rate), bool)| if content { holding.ordered } else { enough };
    let mut targets: Vec<Rate> = parts().map(target).collect();
    let missing = sum(targets.iter().copied()).saturating_sub(pool);
    let over = |((holding, enough), content): ((&Holding, Rate), bool)| {
        if content { holding.ordered.saturating_sub(enough) } else { 0 }
    };
    let over: Vec<Rate> = parts().map(over).collect();
    for (target, taken) in targets.iter_mut().zip(from_the_largest(missing, &over)) {
        *target -= taken;
    }
    targets
}

/// What the targets leave goes to those who are below what is ideal.
fn give_the_rest(pool: Rate, targets: &mut [Rate], ideal: &[Rate]) {
    let left = pool.saturating_sub(sum(targets.iter().copied()));
    let lacks: Vec<Rate> = targets.iter().zip(ideal).map(|(target, ideal)| ideal.saturating_sub(*target)).collect();
    for (target, given) in targets.iter_mut().zip(from_the_largest(left, &lacks)) {
        *target += given;
    }
}

/// Parts that make up `whole`, as far as there is so much: few large ones instead of many small ones.
fn from_the_largest(whole: Rate, most: &[Rate]) -> Vec<Rate> {
    let mut by_size: Vec<(usize, Rate)> = most.iter().copied().enumerate().collect();
    by_size.sort_by_key(|(_, most)| std::cmp::Reverse(*most));
    let (mut parts, mut left) = (vec![0; most.len()], whole);
    for (index, most) in by_size {
        let part = most.min(left);
        left -= part;
        if let Some(place) = parts.get_mut(index) {
            *place = part;
        }
    }
    parts
}

/// The targets, but where the difference is not worth a move.
fn unless_little(little: Rate, holdings: &[Holding], targets: &[Rate]) -> Vec<Rate> {
    let keep = |(holding, target): (&Holding, &Rate)| {
        if holding.ordered.abs_diff(*target) <= little && holding.ordered >= *target / 2 {
            holding.ordered
        } else {
            *target
        }
    };
    holdings.iter().zip(targets).map(keep).collect()
}

fn count(holdings: &[Holding]) -> Rate {
    Rate::try_from(holdings.len()).unwrap_or(Rate::MAX).max(1)
}

fn kept(holding: &Holding) -> Order {
    Order {
        ordered: holding.ordered,
        reserved: holding.committed,
        awaited: false,
    }
}

/// Orders towards the targets: less at once, more as far as something is free.
fn moved(pool: Rate, holdings: &[Holding], targets: &[Rate]) -> Vec<Order> {
    let both = || holdings.iter().zip(targets.iter().copied());
    let more = gains(pool, holdings, targets);
    let order = |((holding, target), more): ((&Holding, Rate), Rate)| {
        let ordered = target.min(holding.committed + more);
        Order {
            ordered,
            reserved: holding.committed.max(ordered),
            awaited: false,
        }
    };
    let mut orders: Vec<Order> = both().zip(more).map(order).collect();
    let short = both()
        .zip(&orders)
        .any(|((holding, target), order)| order.ordered < holding.demand.min(target));
    for order in &mut orders {
        order.awaited = short && order.ordered < order.reserved;
    }
    orders
}

/// How much more each may use at once. The neediest are first, and each is given all that it lacks: a little more for all, again and
/// again as others leave something, would use up the writes of a minute. A part is given when it is worth a write, or nothing else is
/// on its way.
fn gains(pool: Rate, holdings: &[Holding], targets: &[Rate]) -> Vec<Rate> {
    let mut free = pool.saturating_sub(sum(holdings.iter().map(|h| h.committed)));
    let mut needy: Vec<(usize, Rate, Rate, Rate)> = Vec::new();
    let mut on_its_way = false;
    for (index, (holding, target)) in holdings.iter().zip(targets).enumerate() {
        if *target > holding.committed {
            needy.push((index, *target, holding.committed, target - holding.committed));
        } else if *target < holding.committed {
            on_its_way = true;
        }
    }
    needy.sort_by_key(|(_, target, committed, _)| part(*committed, 1 << 20, *target));
    let mut gains = vec![0; holdings.len()];
    for (index, target, _, lack) in needy {
        let gain = lack.min(free);
        if gain < lack && on_its_way && gain < target / PART {
            break;
        }
        free -= gain;
        if let Some(place) = gains.get_mut(index) {
            *place = gain;
        }
    }
    gains
}

/// What each would get if nothing had to be waited for.
fn targets(pool: Rate, holdings: &[Holding]) -> Vec<Rate> {
    let count = count(holdings);
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
    holdings
        .iter()
        .map(|h| floor + part(rest, weight(h), weights))
        .collect()
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
    let (mut left, mut count) = (rest, count(holdings));
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
