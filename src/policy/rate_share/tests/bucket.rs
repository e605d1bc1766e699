use std::time::Duration;

use proptest::prelude::*;

use super::{super::*, ms};

const SIXTY: Rate = 60 * MILLI;

fn bucket(rate: Rate) -> Bucket {
    let mut bucket = Bucket::new(ms(0));
    bucket.set_rate(rate, ms(0));
    bucket
}

/// Takes one as often as there is room until `until`; gives how many.
fn drain(bucket: &mut Bucket, from: Duration, until: Duration) -> u64 {
    let (mut now, mut taken) = (from, 0);
    while let Some(wait) = bucket.wait(1, 0, now)
        && now + wait <= until
    {
        now += wait;
        bucket.take(1);
        taken += 1;
    }
    taken
}

#[test]
fn it_begins_empty_and_gives_its_rate() {
    let mut bucket = bucket(SIXTY);
    assert_eq!(bucket.wait(1, 0, ms(0)), Some(ms(1_000)));
    assert_eq!(drain(&mut bucket, ms(0), ms(60_000)), 60);
}

#[test]
fn half_a_second_of_the_share_may_be_saved_up_but_one_unit_in_any_case() {
    for (rate, saved) in [(MILLI, 1), (SIXTY, 1), (SIXTY * 10, 5)] {
        let mut bucket = bucket(rate);
        let rest = ms(3_600_000);
        assert_eq!(drain(&mut bucket, rest, rest), saved, "{rate} thousandths a minute");
    }
}

#[test]
fn without_a_share_nothing_is_ever_given() {
    let mut bucket = bucket(SIXTY);
    bucket.set_rate(0, ms(60_000));
    assert_eq!(bucket.wait(1, 0, ms(120_000)), None);
    bucket.set_rate(SIXTY, ms(120_000));
    assert_eq!(
        bucket.wait(1, 0, ms(120_000)),
        Some(ms(1_000)),
        "what was saved is gone"
    );
}

#[test]
fn more_than_it_holds_is_a_debt_that_is_worked_off_first() {
    let mut bucket = bucket(SIXTY * 100);
    assert_eq!(bucket.wait(1_000, 0, ms(500)), Some(ms(0)), "full after half a second");
    bucket.take(1_000);
    assert_eq!(bucket.debt(ms(500)), 950);
    assert_eq!(bucket.wait(1, 0, ms(500)), Some(ms(9_510)));
    bucket.give_back(900, ms(500));
    assert_eq!(bucket.wait(1, 0, ms(500)), Some(ms(510)));
}

#[test]
fn those_ahead_are_waited_for() {
    let mut bucket = bucket(SIXTY);
    assert_eq!(bucket.wait(1, 3, ms(0)), Some(ms(4_000)));
}

#[test]
fn what_finds_no_place_is_counted() {
    let mut bucket = bucket(SIXTY);
    assert_eq!(bucket.take_spilled(ms(1_000)), 0);
    assert_eq!(bucket.take_spilled(ms(3_500)), 2_500);
    assert_eq!(bucket.take_spilled(ms(3_500)), 0);
}

proptest! {
    /// Whatever becomes of the share: never more than what it has brought since the bucket began empty.
    #[test]
    fn no_more_is_given_than_the_share_brings(steps in proptest::collection::vec((0..5_000_u64, 0..2_000_000_u64, 0..20_u64), 1..200)) {
        let (mut bucket, mut now) = (Bucket::new(ms(0)), ms(0));
        let (mut brought, mut taken, mut rate) = (0_u128, 0_u128, 0);
        for (wait, next, wanted) in steps {
            now += ms(wait);
            brought += u128::from(rate) * u128::from(wait);
            for _ in 0..wanted {
                if bucket.wait(1, 0, now) == Some(ms(0)) {
                    bucket.take(1);
                    taken += u128::from(MILLI) * 60_000;
                }
            }
            prop_assert!(taken <= brought, "{taken} of {brought}");
            bucket.set_rate(next, now);
            rate = next;
        }
    }
}
