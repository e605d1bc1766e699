use tokio::time::advance;

use super::*;
use crate::{
    api::{Denied, LeaseGrant, WindowEnd},
    policy::budget::journal::boot_id,
};

fn leased() -> Arc<Leased> {
    Arc::new(Leased::new(boot_id(1), None, Clock::start(), Arc::default()))
}

fn told(sequence: u64, granted: u64, denied_above: Option<u64>) -> ReplicaBudget {
    ReplicaBudget {
        sequence,
        window: WindowEnd { number: 1, end: None },
        leases: vec![LeaseGrant {
            id: 1,
            boot_id: boot_id(1),
            window: 1,
            granted: NanoUsd(granted),
            recall_to: None,
        }],
        denied: denied_above.map(|above| Denied {
            want: 1,
            above: NanoUsd(above),
        }),
    }
}

async fn run_others() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_its_lease_and_the_want_is_urgent() {
    let leased = leased();
    let waiting = tokio::spawn({
        let leased = Arc::clone(&leased);
        async move {
            leased
                .wait(NanoUsd(40), Duration::from_secs(30))
                .await
                .map(|claim| claim.amount())
        }
    });
    run_others().await;
    assert_eq!(leased.signals.count(), 1);
    let want = leased.report().want.unwrap();
    assert_eq!(
        (want.amount, want.least, want.request),
        (NanoUsd(40), NanoUsd(40), NanoUsd(40))
    );
    leased.told(&told(1, 100, None));
    assert_eq!(waiting.await.unwrap(), Ok(NanoUsd(40)));
    assert_eq!(leased.report().want, None, "nobody waits any more");
}

#[tokio::test(start_paused = true)]
async fn what_another_request_leaves_over_serves_the_one_that_waits() {
    let leased = leased();
    leased.told(&told(1, 100, None));
    let first = leased.reserve(NanoUsd(80), Timestamp::now()).unwrap();
    let waiting = tokio::spawn({
        let leased = Arc::clone(&leased);
        async move {
            leased
                .wait(NanoUsd(40), Duration::from_secs(30))
                .await
                .map(|claim| claim.amount())
        }
    });
    run_others().await;
    assert!(!leased.settle(first, NanoUsd(10)).bound_violated);
    assert_eq!(waiting.await.unwrap(), Ok(NanoUsd(40)));
}

#[tokio::test(start_paused = true)]
async fn patience_ends_and_a_denial_ends_it_at_once() {
    let leased = leased();
    assert_eq!(
        leased.wait(NanoUsd(40), Duration::from_secs(3)).await,
        Err(NoMoney::NotYet)
    );
    leased.told(&told(1, 0, Some(39)));
    assert_eq!(
        leased.wait(NanoUsd(40), Duration::from_secs(3)).await,
        Err(NoMoney::Denied)
    );
    assert_eq!(
        leased.wait(NanoUsd(39), Duration::from_secs(3)).await,
        Err(NoMoney::NotYet)
    );
}

#[tokio::test(start_paused = true)]
async fn thirty_idle_seconds_give_everything_back() {
    let leased = leased();
    leased.told(&told(1, 100, None));
    let claim = leased.reserve(NanoUsd(10), Timestamp::now()).unwrap();
    advance(Duration::from_secs(40)).await;
    leased.tick();
    assert_eq!(
        leased.report().leases[0].surrendered,
        NanoUsd(0),
        "a request is in flight"
    );
    let _ = leased.settle(claim, NanoUsd(10));
    advance(Duration::from_secs(31)).await;
    leased.tick();
    assert_eq!(leased.report().leases[0].surrendered, NanoUsd(90));
}

#[tokio::test(start_paused = true)]
async fn counters_alone_are_told_every_ten_seconds() {
    let leased = leased();
    leased.told(&told(1, 100, None));
    let settled = || leased.report().leases[0].settled;
    assert_eq!(settled(), NanoUsd(0));
    let claim = leased.reserve(NanoUsd(10), Timestamp::now()).unwrap();
    let _ = leased.settle(claim, NanoUsd(10));
    assert_eq!(settled(), NanoUsd(0));
    advance(Duration::from_secs(10)).await;
    assert_eq!(settled(), NanoUsd(10));
}

#[tokio::test(start_paused = true)]
async fn what_others_wait_for_is_told_at_once_counters_too() {
    let leased = leased();
    leased.told(&told(1, 100, None));
    let claim = leased.reserve(NanoUsd(10), Timestamp::now()).unwrap();
    let _ = leased.report();
    let _ = leased.settle(claim, NanoUsd(10));
    assert_eq!(
        (leased.signals.count(), leased.report().leases[0].settled),
        (0, NanoUsd(0))
    );
    let mut recalled = told(2, 100, None);
    recalled.leases[0].recall_to = Some(NanoUsd(90));
    leased.told(&recalled);
    assert_eq!(
        (leased.signals.count(), leased.report().leases[0].settled),
        (1, NanoUsd(10))
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_request_that_waits_is_told_of_at_once_when_the_first_took_the_grant() {
    let leased = leased();
    let ask = || {
        let leased = Arc::clone(&leased);
        tokio::spawn(async move {
            leased
                .wait(NanoUsd(40), Duration::from_secs(30))
                .await
                .map(|claim| claim.amount())
        })
    };
    let (first, second) = (ask(), ask());
    run_others().await;
    let _ = leased.report();
    let before = leased.signals.count();
    leased.told(&told(1, 40, None));
    assert_eq!(first.await.unwrap(), Ok(NanoUsd(40)));
    let want = leased.report().want.unwrap();
    assert_eq!((want.amount, want.sequence), (NanoUsd(40), 2));
    assert_eq!(leased.signals.count(), before + 1);
    leased.told(&told(2, 80, None));
    assert_eq!(second.await.unwrap(), Ok(NanoUsd(40)));
}

#[test]
fn after_the_last_word_nothing_is_spent() {
    let leased = leased();
    leased.told(&told(1, 100, None));
    let claim = leased.reserve(NanoUsd(10), Timestamp::now()).unwrap();
    leased.close();
    assert_eq!(leased.reserve(NanoUsd(1), Timestamp::now()), Err(NoMoney::Closed));
    let before = leased.report();
    let _ = leased.settle(claim, NanoUsd(3));
    assert_eq!(leased.report(), before);
    assert!(before.is_final);
    assert_eq!(
        (before.leases[0].uncertain, before.leases[0].reserved),
        (NanoUsd(10), NanoUsd(0))
    );
}
