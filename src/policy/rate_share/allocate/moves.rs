//! Towards the ideal in few moves.

use std::cmp::Reverse;

use super::{Holding, Order, part, sum};
use crate::policy::rate_share::Rate;

/// While more is on its way, a share grows by this part of what it lacks, or of what it shall be, at least.
const LACK: Rate = 2;
const SHARE: Rate = 4;

/// What each shall have next, of `ideal` and of what would be `enough`: who is content keeps its share, as far as the others find enough
/// beside it; what is left goes to those who are below what is ideal.
pub fn targets(pool: Rate, holdings: &[Holding], (ideal, enough): (&[Rate], &[Rate]), content: &[bool]) -> Vec<Rate> {
    let mut targets = beside_the_content(pool, holdings, enough, content);
    if sum(targets.iter().copied()) > pool {
        targets = ideal.to_vec();
    }
    let left = pool.saturating_sub(sum(targets.iter().copied()));
    let lacks = |(target, ideal): (&Rate, &Rate)| ideal.saturating_sub(*target);
    let lacks: Vec<Rate> = targets.iter().zip(ideal).map(lacks).collect();
    for (target, given) in targets.iter_mut().zip(from_the_largest(left, &lacks)) {
        *target += given;
    }
    targets
}

fn beside_the_content(pool: Rate, holdings: &[Holding], enough: &[Rate], content: &[bool]) -> Vec<Rate> {
    let parts = || holdings.iter().zip(enough.iter().copied()).zip(content.iter().copied());
    let target =
        |((holding, enough), content): ((&Holding, Rate), bool)| if content { holding.ordered } else { enough };
    let mut targets: Vec<Rate> = parts().map(target).collect();
    let over: Vec<Rate> = targets
        .iter()
        .zip(enough)
        .map(|(target, enough)| target.saturating_sub(*enough))
        .collect();
    let missing = sum(targets.iter().copied()).saturating_sub(pool);
    for (target, taken) in targets.iter_mut().zip(from_the_largest(missing, &over)) {
        *target -= taken;
    }
    targets
}

/// Parts that make up `whole`, as far as there is so much: few large ones instead of many small ones.
fn from_the_largest(whole: Rate, most: &[Rate]) -> Vec<Rate> {
    let mut places: Vec<usize> = (0..most.len()).collect();
    places.sort_by_key(|place| Reverse(most.get(*place)));
    let (mut parts, mut left) = (vec![0; most.len()], whole);
    for place in places {
        if let (Some(part), Some(most)) = (parts.get_mut(place), most.get(place)) {
            *part = left.min(*most);
            left -= *part;
        }
    }
    parts
}

/// Orders towards the targets: less at once, more as far as something is free.
pub fn moved(pool: Rate, holdings: &[Holding], targets: &[Rate]) -> Vec<Order> {
    let both = || holdings.iter().zip(targets.iter().copied());
    let order = |((holding, target), more): ((&Holding, Rate), Rate)| {
        let ordered = target.min(holding.committed + more);
        Order {
            ordered,
            reserved: holding.committed.max(ordered),
            awaited: false,
        }
    };
    let mut orders: Vec<Order> = both().zip(gains(pool, holdings, targets)).map(order).collect();
    let short = both()
        .zip(&orders)
        .any(|((holding, target), order)| order.ordered < holding.demand.min(target));
    for order in &mut orders {
        order.awaited = short && order.ordered < order.reserved;
    }
    orders
}

/// How much more each may use at once. Who has the smallest part of its target is first, and gets all that it lacks: a little for
/// everybody whenever another replica has left something would use up the writes of a minute. While more is on its way, who cannot be
/// given what is worth a write waits for it, and all after it.
fn gains(pool: Rate, holdings: &[Holding], targets: &[Rate]) -> Vec<Rate> {
    let lacks = |(holding, target): (&Holding, &Rate)| target.saturating_sub(holding.committed);
    let lacks: Vec<Rate> = holdings.iter().zip(targets).map(lacks).collect();
    let more_comes = holdings
        .iter()
        .zip(targets)
        .any(|(holding, target)| *target < holding.committed);
    let mut free = pool.saturating_sub(sum(holdings.iter().map(|h| h.committed)));
    let mut gains = vec![0; lacks.len()];
    for place in neediest_first(holdings, targets) {
        let (Some(gain), Some(lack), Some(target)) = (gains.get_mut(place), lacks.get(place), targets.get(place))
        else {
            continue;
        };
        let given = free.min(*lack);
        if more_comes && given < lack / LACK && given < target / SHARE {
            break;
        }
        *gain = given;
        free -= given;
    }
    gains
}

fn neediest_first(holdings: &[Holding], targets: &[Rate]) -> Vec<usize> {
    let has = |(holding, target): (&Holding, &Rate)| part(1_000, holding.committed, *target);
    let has: Vec<Rate> = holdings.iter().zip(targets).map(has).collect();
    let mut places: Vec<usize> = (0..has.len()).collect();
    places.sort_by_key(|place| has.get(*place).copied());
    places
}
