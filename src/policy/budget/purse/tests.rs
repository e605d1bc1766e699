use proptest::prelude::*;

use super::*;
use crate::api::LeaseGrant;

fn moment(seconds: u64) -> Moment {
    Moment {
        wall: Timestamp::from_second(seconds.try_into().unwrap()).unwrap(),
        since_start: Duration::from_secs(seconds),
    }
}

fn lease(id: u64, window: u64, granted: u64) -> LeaseGrant {
    LeaseGrant {
        id,
        boot_id: "me".to_owned(),
        window,
        granted: NanoUsd(granted),
        recall_to: None,
    }
}

fn told(sequence: u64, window: u64, leases: Vec<LeaseGrant>) -> ReplicaBudget {
    ReplicaBudget {
        sequence,
        window: WindowEnd {
            number: window,
            end: None,
        },
        leases,
        denied: None,
    }
}

fn purse(granted: u64) -> Purse {
    let mut purse = Purse::new("me".to_owned(), Vec::new());
    purse.take(&told(1, 1, vec![lease(1, 1, granted)]));
    purse
}

fn reported(purse: &mut Purse) -> (u64, u64, u64, u64) {
    let lease = purse.report(moment(0)).leases[0].clone();
    (
        lease.surrendered.0,
        lease.settled.0,
        lease.uncertain.0,
        lease.reserved.0,
    )
}

#[test]
fn another_process_of_the_pod_spends_nothing() {
    let mut purse = Purse::new("other".to_owned(), Vec::new());
    purse.take(&told(1, 1, vec![lease(1, 1, 100)]));
    assert_eq!(purse.reserve(NanoUsd(1), moment(0)), Err(NoMoney::NotYet));
}

#[test]
fn what_was_granted_is_taken_at_its_maximum() {
    let mut purse = purse(100);
    purse.take(&told(2, 1, vec![lease(1, 1, 60)]));
    assert!(purse.reserve(NanoUsd(100), moment(0)).is_ok());
}

#[test]
fn a_recall_takes_what_is_free_and_later_what_comes_back() {
    let mut purse = purse(100);
    let claim = purse.reserve(NanoUsd(70), moment(0)).unwrap();
    let mut recalled = lease(1, 1, 100);
    recalled.recall_to = Some(NanoUsd(10));
    purse.take(&told(2, 1, vec![recalled]));
    assert!(purse.take_hurry() && !purse.take_hurry(), "the controller waits for it");
    assert_eq!(reported(&mut purse), (30, 0, 0, 70));
    let _ = purse.settle(claim, NanoUsd(20), moment(0));
    assert_eq!(reported(&mut purse), (70, 20, 0, 0), "10 are left");
    assert_eq!(purse.reserve(NanoUsd(11), moment(0)), Err(NoMoney::NotYet));
    assert!(purse.reserve(NanoUsd(10), moment(0)).is_ok());
}

#[test]
fn a_new_window_gives_back_what_is_left_of_the_old_one() {
    let mut purse = purse(100);
    let claim = purse.reserve(NanoUsd(30), moment(0)).unwrap();
    purse.take(&told(2, 2, vec![lease(1, 1, 100), lease(2, 2, 50)]));
    assert_eq!(
        purse.reserve(NanoUsd(51), moment(0)),
        Err(NoMoney::NotYet),
        "old money is not spent in the new window"
    );
    purse.uncertain(claim, moment(0));
    assert_eq!(reported(&mut purse), (70, 0, 30, 0), "a late end is the old window's");
}

#[test]
fn when_our_clock_says_that_the_window_is_over_nothing_is_spent() {
    let mut purse = Purse::new("me".to_owned(), Vec::new());
    let mut end = told(1, 1, vec![lease(1, 1, 100)]);
    let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    end.window.end = Some(time(moment(60).wall));
    purse.take(&end);
    assert!(purse.reserve(NanoUsd(10), moment(59)).is_ok());
    assert_eq!(purse.reserve(NanoUsd(10), moment(60)), Err(NoMoney::NotYet));
}

#[test]
fn a_lease_that_is_no_longer_told_is_nobodys() {
    let mut purse = purse(100);
    let claim = purse.reserve(NanoUsd(30), moment(0)).unwrap();
    purse.take(&told(2, 1, Vec::new()));
    let _ = purse.settle(claim, NanoUsd(10), moment(0));
    assert_eq!(purse.held(), []);
    assert_eq!(purse.reserve(NanoUsd(1), moment(0)), Err(NoMoney::NotYet));
}

#[test]
fn an_expensive_request_is_denied_and_a_cheaper_one_may_wait() {
    let mut purse = purse(0);
    let mut denial = told(2, 1, vec![lease(1, 1, 0)]);
    denial.denied = Some(Denied {
        want: 1,
        above: NanoUsd(50),
    });
    purse.take(&denial);
    assert_eq!(purse.reserve(NanoUsd(51), moment(0)), Err(NoMoney::Denied));
    assert_eq!(purse.reserve(NanoUsd(50), moment(0)), Err(NoMoney::NotYet));
}

#[test]
fn the_cheapest_request_of_a_window_is_told_whether_it_was_paid_or_not() {
    let mut purse = purse(100);
    let cheapest = |purse: &mut Purse| purse.report(moment(0)).cheapest;
    assert_eq!(cheapest(&mut purse), None);
    assert_eq!(purse.reserve(NanoUsd(500), moment(0)), Err(NoMoney::NotYet));
    assert_eq!(cheapest(&mut purse), Some(NanoUsd(500)));
    for amount in [20, 40] {
        let claim = purse.reserve(NanoUsd(amount), moment(0)).unwrap();
        purse.release(claim);
    }
    assert_eq!(cheapest(&mut purse), Some(NanoUsd(20)));
    purse.take(&told(2, 1, vec![lease(1, 1, 100)]));
    assert_eq!(cheapest(&mut purse), Some(NanoUsd(20)));
    purse.take(&told(3, 2, Vec::new()));
    assert_eq!(cheapest(&mut purse), None, "of the next window nothing is known yet");
}

#[test]
fn predecessors_are_spoken_of_until_the_controller_has_folded_them() {
    let ended = EndedProcess {
        boot_id: "before".to_owned(),
        ..EndedProcess::default()
    };
    let mut purse = Purse::new("me".to_owned(), vec![ended]);
    let theirs = LeaseGrant {
        boot_id: "before".to_owned(),
        ..lease(1, 1, 10)
    };
    purse.take(&told(1, 1, Vec::new()));
    assert_eq!(purse.ended().len(), 1, "the controller may not have heard of us yet");
    purse.take(&told(2, 1, vec![theirs, lease(2, 1, 5)]));
    assert_eq!(purse.ended().len(), 1);
    purse.take(&told(3, 1, vec![lease(2, 1, 5)]));
    assert_eq!(purse.ended().len(), 0);
}

#[test]
fn a_process_under_load_asks_before_it_is_out_of_money() {
    let mut purse = purse(1_000);
    let mut now = 0;
    let want = loop {
        now += 1;
        let claim = purse.reserve(NanoUsd(20), moment(now)).unwrap();
        let _ = purse.settle(claim, NanoUsd(10), moment(now));
        if let Some(want) = purse.report(moment(now)).want {
            break want;
        }
    };
    assert_eq!((want.least, want.request), (NanoUsd(0), NanoUsd(0)), "nobody waits");
    let left = 1_000 - now * 10;
    assert!((100..=200).contains(&left), "for 10 to 20 s more: {left}");
    assert!((100..=320).contains(&want.amount.0), "half a minute in all: {want:?}");
}

#[test]
fn a_want_has_a_number_of_its_own_while_it_is_the_same() {
    let mut purse = purse(10);
    assert!(purse.wait_begins(NanoUsd(40)));
    assert!(!purse.wait_begins(NanoUsd(60)), "the cheapest is the same");
    let first = purse.report(moment(0)).want.unwrap();
    assert_eq!(
        (first.amount, first.least, first.request),
        (NanoUsd(90), NanoUsd(30), NanoUsd(40))
    );
    assert_eq!(purse.report(moment(1)).want.unwrap(), first);
    assert!(purse.wait_ends(NanoUsd(40)));
    let second = purse.report(moment(1)).want.unwrap();
    assert_eq!((second.sequence, second.request), (first.sequence + 1, NanoUsd(60)));
    assert!(!purse.wait_ends(NanoUsd(60)), "nobody is left to be answered");
    assert_eq!(purse.report(moment(1)).want, None);
}

#[test]
fn an_idle_purse_gives_back_and_one_that_waits_does_not() {
    let mut purse = purse(100);
    let claim = purse.reserve(NanoUsd(10), moment(100)).unwrap();
    purse.release(claim);
    assert!(!purse.tick(moment(129)));
    purse.wait_begins(NanoUsd(500));
    assert!(!purse.tick(moment(131)));
    purse.wait_ends(NanoUsd(500));
    assert!(purse.tick(moment(131)) && !purse.tick(moment(132)));
    assert_eq!(reported(&mut purse), (100, 0, 0, 0));
}

proptest! {
    #[test]
    fn a_purse_never_spends_more_than_it_was_granted(
        steps in proptest::collection::vec((0..6_u8, 0..100_u64, any::<usize>()), 1..200),
    ) {
        let mut purse = purse(100);
        let (mut granted, mut claims) = (100, Vec::new());
        for (sequence, (what, amount, which)) in (2..).zip(steps) {
            let now = moment(sequence);
            if what == 0 || (what < 4 && claims.is_empty()) {
                claims.extend(purse.reserve(NanoUsd(amount), now));
            } else if what < 4 {
                let claim: Claim = claims.swap_remove(which % claims.len());
                match what {
                    1 => { let cost = claim.amount().0.min(amount); let _ = purse.settle(claim, NanoUsd(cost), now); }
                    2 => purse.release(claim),
                    _ => purse.uncertain(claim, now),
                }
            } else {
                let mut grant = lease(1, 1, granted);
                if what == 4 { granted += amount; grant.granted = NanoUsd(granted); } else { grant.recall_to = Some(NanoUsd(amount)); }
                purse.take(&told(sequence, 1, vec![grant]));
            }
            let (surrendered, settled, uncertain, reserved) = reported(&mut purse);
            prop_assert!(surrendered + settled + uncertain + reserved <= granted);
            prop_assert_eq!(reserved, claims.iter().map(|claim| claim.amount().0).sum::<u64>());
        }
    }
}
