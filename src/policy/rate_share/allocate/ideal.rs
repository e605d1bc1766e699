//! What each would get if nothing had to be waited for.

use super::{HEADROOM, Holding, count, part, sum};
use crate::policy::rate_share::Rate;

/// The floors of all replicas together are the limit over this.
const FLOOR: Rate = 1_000;
/// Who asks for more than the level counts with this many times the level at most.
const MOST_LEVELS: Rate = 2;
/// While nobody is short, who holds a quarter of an even part of what nobody asks for can begin.
const EVEN: Rate = 4;

/// All of the pool.
///
/// While all together ask for less than the pool each gets what it asks for and its part of the rest. Else it is max–min fair with one
/// correction. Max–min fairness gives the modest what they ask for and the others a common level. But requests come unevenly, and a
/// share that just fits leaves a tenth and more of itself unused while others are refused. So whoever asks for more than the level
/// counts with up to [`MOST_LEVELS`] times of it, and all are cut by the same factor: nobody gets less than half of the fair share,
/// and nobody's share is more than it can use.
pub fn ideal(pool: Rate, holdings: &[Holding]) -> Vec<Rate> {
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

/// What is enough for each while nobody is short: a little more than what it asks for, and to begin with.
pub fn enough(pool: Rate, holdings: &[Holding], ideal: &[Rate]) -> Vec<Rate> {
    let left = pool.saturating_sub(sum(holdings.iter().map(|h| h.demand)));
    let begin = left / count(holdings) / EVEN;
    let enough =
        |(holding, ideal): (&Holding, &Rate)| (holding.demand + holding.demand / HEADROOM).max(begin).min(*ideal);
    holdings.iter().zip(ideal).map(enough).collect()
}
