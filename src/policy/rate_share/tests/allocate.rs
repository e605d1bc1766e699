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

const fn settled_at(ordered: Rate, demand: u64) -> Holding {
    Holding {
        ordered,
        committed: ordered,
        demand: demand * MILLI,
    }
}

/// Who is told something new.
fn moves(shared: &Shared, holdings: &[Holding]) -> Vec<usize> {
    let both = shared.orders.iter().zip(holdings).enumerate();
    both.filter(|(_, (order, holding))| order.ordered != holding.ordered)
        .map(|(place, _)| place)
        .collect()
}

/// Everybody follows.
fn followed(shared: &Shared, holdings: &[Holding]) -> Vec<Holding> {
    let both = shared.orders.iter().zip(holdings);
    both.map(|(order, holding)| Holding::known(*order, true, None, holding.demand))
        .collect()
}

#[test]
fn what_one_lacks_in_a_shortage_is_taken_from_the_one_that_is_furthest_above_its_part() {
    let shares = [20_000, 85_000, 85_000, 85_000, 145_000, 60_000, 60_000, 58_500];
    let holdings = shares.map(|share| settled_at(share, 160));
    let less = share_out(LIMIT, true, &holdings);
    assert_eq!(moves(&less, &holdings), [4]);
    let holdings = followed(&less, &holdings);
    let more = share_out(LIMIT, true, &holdings);
    assert_eq!(moves(&more, &holdings), [0]);
    let holdings = followed(&more, &holdings);
    assert!(holdings[0].ordered > 74 * MILLI && holdings[4].ordered > 75 * MILLI);
    assert_eq!(moves(&share_out(LIMIT, true, &holdings), &holdings), [] as [usize; 0]);
}

#[test]
fn a_share_grows_in_large_steps_while_others_make_room_one_after_another() {
    let mut holdings = vec![settled_at(85_500, 0); 7];
    holdings.push(settled_at(0, 1_200));
    let first = share_out(LIMIT, false, &holdings).orders;
    let mut steps = Vec::new();
    for following in 0..8 {
        let mut known: Vec<Holding> = first
            .iter()
            .enumerate()
            .map(|(place, order)| Holding::known(*order, place < following, None, 0))
            .collect();
        known[7] = settled_at(steps.last().copied().unwrap_or(0), 1_200);
        let grown = share_out(LIMIT, true, &known).orders[7].ordered;
        if steps.last() != Some(&grown) && grown > 0 {
            steps.push(grown);
        }
    }
    assert!(steps.len() <= 4 && steps.last() > Some(&(597 * MILLI)), "{steps:?}");
}

#[test]
fn who_has_the_smallest_part_is_first_and_the_next_waits_for_what_is_on_its_way() {
    let shares = [30_000, 0, 200_000, 58_700, 58_700, 58_700, 58_700, 58_700];
    let holdings = shares.map(|share| settled_at(share, 400));
    let next = share_out(LIMIT, true, &holdings);
    assert_eq!(moves(&next, &holdings), [1, 2]);
    assert!(next.orders[1].ordered > 74 * MILLI);
}

#[test]
fn a_part_is_given_when_nothing_else_is_on_its_way() {
    let mut holdings = vec![settled_at(85_500, 400); 6];
    holdings.extend([settled_at(80_000, 400), settled_at(0, 400)]);
    let without_a_move = share_out(LIMIT, true, &holdings[..7]);
    assert_eq!(moves(&without_a_move, &holdings[..7]), [6], "5.5 are left over");
}

#[test]
fn a_shortage_lasts_until_everybody_has_what_it_asks_for() {
    let contended = |second: Rate| {
        let holdings = [settled_at(598_500 - second, 100), settled_at(second, 400)];
        share_out(LIMIT, true, &holdings).contended
    };
    assert!(contended(100_000));
    assert!(!contended(400_000));
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
