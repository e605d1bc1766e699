use proptest::prelude::*;

use super::super::*;

const LIMIT: Rate = 600 * MILLI;

/// Replicas that follow their orders at once.
fn settled(limit: Rate, demands: &[u64]) -> (Vec<Rate>, bool) {
    let mut holdings: Vec<Holding> = demands
        .iter()
        .map(|demand| Holding {
            demand: demand * MILLI,
            ..Holding::default()
        })
        .collect();
    let mut contended = false;
    for _ in 0..3 {
        let shared = share_out(limit, contended, &holdings);
        contended = shared.contended;
        for (holding, order) in holdings.iter_mut().zip(shared.orders) {
            *holding = Holding::known(order, true, None, holding.demand);
        }
    }
    (holdings.iter().map(|holding| holding.ordered).collect(), contended)
}

fn whole(shares: &[Rate]) -> Vec<u64> {
    shares.iter().map(|share| (share + MILLI / 2) / MILLI).collect()
}

#[test]
fn while_nobody_is_short_all_get_what_they_ask_for_and_part_of_the_rest() {
    let (shares, contended) = settled(LIMIT, &[0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((whole(&shares), contended), (vec![75; 8], false));
    let (shares, contended) = settled(LIMIT, &[200, 100, 0, 0]);
    assert_eq!((whole(&shares), contended), (vec![337, 187, 37, 37], false));
}

#[test]
fn one_that_wants_everything_gets_it_from_those_that_want_nothing() {
    let (shares, contended) = settled(LIMIT, &[1_200, 0, 0, 0, 0, 0, 0, 0]);
    assert!(contended && shares[0] > 597 * MILLI, "{shares:?}");
    assert!(shares[1..].iter().all(|share| *share > 0), "{shares:?}");
}

#[test]
fn in_a_shortage_nobody_can_leave_a_part_of_a_share_unused() {
    let demands = [600, 300, 150, 75, 75, 0, 0, 0];
    let (shares, contended) = settled(LIMIT, &demands);
    assert_eq!(
        (whole(&shares), contended),
        (vec![199, 199, 100, 50, 50, 0, 0, 0], true)
    );
}

#[test]
fn a_storm_at_one_replica_leaves_the_others_half_of_the_fair_share_at_least() {
    let (shares, _) = settled(LIMIT, &[1_000_000, 43, 43, 43, 43, 43, 43, 43]);
    assert!(shares[1..].iter().all(|share| *share >= 43 * MILLI / 2), "{shares:?}");
}

#[test]
fn nothing_moves_for_small_differences() {
    let even = |demand: u64| Holding {
        ordered: LIMIT / 8 * 399 / 400,
        committed: LIMIT / 8 * 399 / 400,
        demand: demand * MILLI,
    };
    let holdings = [150, 150, 160, 150, 140, 150, 150, 150].map(even);
    let shared = share_out(LIMIT, true, &holdings);
    assert!(
        shared
            .orders
            .iter()
            .zip(&holdings)
            .all(|(order, holding)| order.ordered == holding.ordered)
    );
}

#[test]
fn an_order_frees_nothing_before_it_is_followed() {
    let all = Holding {
        ordered: LIMIT,
        committed: LIMIT,
        demand: 0,
    };
    let none = Holding {
        demand: 1_200 * MILLI,
        ..Holding::default()
    };
    let first = share_out(LIMIT, false, &[all, none]).orders;
    assert!(first[0].ordered < LIMIT && first[0].reserved == LIMIT && first[1].ordered == 0);
    let told = |follows| Holding::known(first[0], follows, None, 0);
    assert_eq!(share_out(LIMIT, true, &[told(false), none]).orders[1].ordered, 0);
    assert!(share_out(LIMIT, true, &[told(true), none]).orders[1].ordered > 590 * MILLI);
}

#[test]
fn what_may_have_been_told_counts_and_what_is_over_does_not() {
    let order = |ordered, reserved| Order {
        ordered,
        reserved,
        awaited: false,
    };
    let committed = |follows, tried| Holding::known(order(5, 90), follows, tried, 0).committed;
    assert_eq!(committed(false, None), 90);
    assert_eq!(committed(true, None), 5);
    assert_eq!(committed(true, Some(order(7, 7))), 7);
    assert_eq!(committed(true, Some(order(3, 5))), 5);
}

#[test]
fn a_limit_that_falls_takes_and_gives_nothing() {
    let holding = Holding {
        ordered: 75 * MILLI,
        committed: 75 * MILLI,
        demand: 150 * MILLI,
    };
    let shared = share_out(60 * MILLI, true, &[holding; 8]);
    assert!(
        shared
            .orders
            .iter()
            .all(|order| order.ordered < 8 * MILLI && order.reserved == 75 * MILLI)
    );
}

proptest! {
    #[test]
    fn what_may_be_in_use_never_exceeds_the_limit(
        limit in 1..10_000_000_u64,
        holdings in proptest::collection::vec((0..2_000_000_u64, 0..2_000_000_u64, 0..50_000_000_u64), 0..12),
        was_contended in any::<bool>(),
    ) {
        let holdings: Vec<Holding> = holdings
            .into_iter()
            .map(|(ordered, more, demand)| Holding { ordered, committed: ordered + more, demand })
            .collect();
        let before: Rate = holdings.iter().map(|holding| holding.committed).sum();
        let shared = share_out(limit, was_contended, &holdings);
        prop_assert_eq!(shared.orders.len(), holdings.len());
        let after: Rate = shared.orders.iter().map(|order| order.ordered.max(order.reserved)).sum();
        prop_assert!(after <= before.max(limit), "{after} of {limit}, {before} before");
        for (order, holding) in shared.orders.iter().zip(&holdings) {
            prop_assert!(order.reserved >= holding.committed, "what is in use is forgotten");
        }
    }

    /// All that is asked for is given out, as far as there is so much, and nobody gets less than half of the max–min fair share.
    #[test]
    fn it_comes_to_rest_with_everything_given(demands in proptest::collection::vec(0..2_000_u64, 1..12)) {
        let (shares, contended) = settled(LIMIT, &demands);
        let given: Rate = shares.iter().sum();
        prop_assert!(given <= LIMIT && given * 400 >= LIMIT * 398, "{given}");
        let level = fair_level(&demands);
        for (share, demand) in shares.iter().zip(&demands) {
            let fair = demand.min(&level) * MILLI;
            prop_assert!(share * 2 + 10 * MILLI >= fair, "{share} of {fair}");
            prop_assert!(contended || *share >= fair, "{share} of {fair}");
        }
    }
}

fn fair_level(demands: &[u64]) -> u64 {
    (0..=600)
        .rev()
        .find(|level| demands.iter().map(|d| d.min(level)).sum::<u64>() <= 600)
        .unwrap_or(0)
}
