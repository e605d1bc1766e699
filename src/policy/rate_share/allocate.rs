//! Sharing one limit out.
//!
//! Safe at every step, whatever becomes of single writes: a replica is given only what is free, and free is only what no replica may
//! still be using. A smaller order frees nothing until the replica says that it follows it; until then the order carries along how
//! much may be in use, as `reserved`.
//!
//! What is on its way from one replica to another nobody can use, and every step costs writes, of which a replica has ten a minute: a
//! share that moves in many small steps is out of use for as long as the last of them waits for its turn. So in a shortage shares stay
//! where they are used, and what has to move moves between few replicas in large steps.

mod ideal;
mod moves;

use ideal::{enough, ideal};
use moves::{moved, targets};

use super::Rate;

/// The limit over this is kept back: what buckets have saved up must not take the first minute after a rest far above the limit.
const MARGIN: Rate = 400;
/// Nobody is short any more when all together ask for so many hundredths of the limit, and each has what it asks for.
const CALM: Rate = 90;
/// What need not be given to anybody, as part of the limit.
const UNGIVEN: Rate = 400;
/// While nobody is short, who is given something gets an eighth more than what it asks for; who lacks less than an eighth waits for it.
const HEADROOM: Rate = 8;
/// In a shortage nobody moves for fairness alone who has this part of the fair share: all that is sent is sent either way.
const FAIR: Rate = 2;

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
/// correction: see `ideal`.
#[must_use]
pub fn share_out(limit: Rate, was_contended: bool, holdings: &[Holding]) -> Shared {
    let pool = limit - limit / MARGIN;
    let little = pool / UNGIVEN / count(holdings);
    let contended = is_contended(pool, little, was_contended, holdings);
    let ideal = ideal(pool, holdings);
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
        let targets = targets(pool, holdings, (&ideal, &enough), &content);
        moved(pool, holdings, &unless_little(little, holdings, &targets))
    };
    Shared { orders, contended }
}

/// A shortage is not over as long as somebody lacks what it asks for: what moves would change its direction in between.
fn is_contended(pool: Rate, little: Rate, was_contended: bool, holdings: &[Holding]) -> bool {
    let asked = sum(holdings.iter().map(|h| h.demand));
    let lacks = |holding: &Holding| holding.demand > holding.ordered + little;
    asked > pool || was_contended && (asked > part(pool, CALM, 100) || holdings.iter().any(lacks))
}

/// All of the pool, but for what is not worth a move, and no more.
const fn nearly(given: Rate, pool: Rate) -> bool {
    given <= pool && given + pool / UNGIVEN >= pool
}

/// `little`: what is not worth a move.
const fn is_content(contended: bool, little: Rate, holding: &Holding, enough: Rate) -> bool {
    if !contended {
        return holding.ordered + holding.ordered / HEADROOM >= enough - enough / HEADROOM;
    }
    let has_room = holding.ordered > holding.demand + little;
    holding.ordered >= enough / FAIR && !has_room
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

fn kept(holding: &Holding) -> Order {
    Order {
        ordered: holding.ordered,
        reserved: holding.committed,
        awaited: false,
    }
}

fn count(holdings: &[Holding]) -> Rate {
    Rate::try_from(holdings.len()).unwrap_or(Rate::MAX).max(1)
}

/// `whole` × `weight` / `weights`, rounded down.
fn part(whole: Rate, weight: Rate, weights: Rate) -> Rate {
    let exact = u128::from(whole) * u128::from(weight) / u128::from(weights.max(1));
    u64::try_from(exact).unwrap_or(u64::MAX)
}

fn sum(rates: impl Iterator<Item = Rate>) -> Rate {
    rates.fold(0, Rate::saturating_add)
}
