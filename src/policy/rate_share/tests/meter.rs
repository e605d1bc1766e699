use super::{super::*, ms};

const LIMIT: Rate = 600 * MILLI;
const PATIENCE: std::time::Duration = ms(5_000);

fn meter(share: Rate, contended: bool) -> Meter {
    let limits = Rates {
        requests: Some(LIMIT),
        tokens: None,
    };
    let mut meter = Meter::new(limits, ms(0));
    meter.obey(requests(share), contended, ms(0));
    meter
}

const fn requests(share: Rate) -> Rates {
    Rates {
        requests: Some(share),
        tokens: None,
    }
}

fn told(meter: &Meter) -> Rate {
    meter.demand().requests.unwrap()
}

/// Requests every `every` milliseconds that go when there is room and are forgotten otherwise; judged four times a second.
fn load(meter: &mut Meter, from: u64, until: u64, every: u64) -> Told {
    let mut most = Told::Same;
    for at in from..until {
        if at % every == 0 {
            meter.want(0, ms(at));
            if !meter.take(0, ms(at)) {
                let _ = meter.join(0, PATIENCE, ms(at));
                meter.leave(0);
            }
        }
        if at % 250 == 0 {
            most = most.max(meter.judge(ms(at)));
        }
    }
    most
}

#[test]
fn both_limits_must_have_room_and_neither_is_taken_from_alone() {
    let limits = Rates {
        requests: Some(LIMIT),
        tokens: Some(6_000 * MILLI),
    };
    let mut meter = Meter::new(limits, ms(0));
    meter.obey(limits, false, ms(0));
    assert!(meter.take(500, ms(1_000)));
    assert!(!meter.take(1, ms(1_100)), "450 tokens are owed");
    meter.correct(500, 40, ms(1_100));
    for _ in 0..4 {
        assert!(
            meter.take(1, ms(1_100)),
            "the request that found no tokens took nothing"
        );
    }
}

#[test]
fn a_share_is_never_more_than_the_limit() {
    let mut meter = meter(Rate::MAX, false);
    assert_eq!(meter.kept().requests, Some(LIMIT));
    meter.limit(requests(60 * MILLI), ms(0));
    assert_eq!(meter.kept().requests, Some(60 * MILLI));
}

#[test]
fn nobody_passes_those_who_wait() {
    let mut meter = meter(LIMIT, false);
    let line = meter.join(0, PATIENCE, ms(0));
    assert_eq!((line.open, line.wait), (true, ms(100)));
    assert!(!meter.take(0, ms(500)), "somebody waits");
    assert_eq!(meter.take_first(0, ms(500)), Ok(()));
    meter.leave(0);
    assert!(meter.take(0, ms(500)));
}

#[test]
fn the_line_is_as_long_as_the_patience_and_open_to_all_while_a_shortage_is_young() {
    let mut meter = meter(60 * MILLI, false);
    let mut join = |at: u64| meter.join(0, PATIENCE, ms(at)).open;
    let open: Vec<bool> = (0..9).map(|_| join(100)).collect();
    assert!(open.iter().all(|open| *open), "a larger share may be on its way");
    assert!(join(1_000) && !join(2_200), "it did not come, and ten are before");
}

#[test]
fn a_beginning_is_told_at_once_and_urgently() {
    let mut meter = meter(MILLI / 2, true);
    assert_eq!(load(&mut meter, 200_000, 200_700, 50), Told::Urgent);
    println!(
        "FIGURE demand told 0.7 s after 1,200 requests a minute began: {}",
        told(&meter) / MILLI
    );
    load(&mut meter, 200_700, 260_000, 50);
    let steady = told(&meter) / MILLI;
    assert!((1_000..1_700).contains(&steady), "{steady}");
}

#[test]
fn room_is_told_within_five_quarters_of_a_second_while_another_is_short_and_not_at_all_else() {
    for (contended, expected) in [(true, Told::Urgent), (false, Told::Same)] {
        let mut meter = meter(LIMIT, contended);
        load(&mut meter, 0, 30_000, 90);
        let before = told(&meter);
        let mut most = Told::Same;
        for at in (30_000..31_251).step_by(250) {
            most = most.max(meter.judge(ms(at)));
        }
        assert_eq!(most, expected);
        assert_eq!(told(&meter) * 2 < before, contended);
    }
}

#[test]
fn what_was_unused_before_a_load_began_is_no_room() {
    let mut meter = meter(LIMIT / 8, true);
    load(&mut meter, 0, 20_000, u64::MAX);
    let mut demands = Vec::new();
    for at in (20_000..24_000).step_by(250) {
        load(&mut meter, at, at + 250, 50);
        demands.push(told(&meter));
    }
    assert!(demands.is_sorted(), "{demands:?}");
}

#[test]
fn a_steady_demand_is_told_once() {
    let mut meter = meter(LIMIT / 8, true);
    load(&mut meter, 0, 30_000, 400);
    let changes = load(&mut meter, 30_000, 300_000, 400);
    assert_eq!(changes, Told::Same);
}

#[test]
fn a_demand_that_is_gone_is_told_in_a_few_words_and_then_never_again() {
    let mut meter = meter(LIMIT / 8, false);
    load(&mut meter, 0, 30_000, 400);
    assert!(told(&meter) > 0);
    let words = (30_000..630_000)
        .step_by(250)
        .filter(|at| meter.judge(ms(*at)) != Told::Same);
    let words: Vec<u64> = words.collect();
    println!(
        "FIGURE writes after the end of a load, and the last of them, s: {} {:?}",
        words.len(),
        words.last().map(|at| (at - 30_000) / 1_000)
    );
    assert!(told(&meter) == 0 && words.len() < 12 && words.last().is_some_and(|at| *at < 330_000));
}

#[test]
fn a_debt_is_asked_for() {
    let limits = Rates {
        requests: None,
        tokens: Some(6_000 * MILLI),
    };
    let mut meter = Meter::new(limits, ms(0));
    meter.obey(limits, true, ms(0));
    meter.want(3_000, ms(1_000));
    assert!(meter.take(3_000, ms(1_000)));
    meter.judge(ms(1_000));
    let asked = meter.demand().tokens.unwrap() / MILLI;
    assert!(
        (11_000..17_000).contains(&asked),
        "a quarter of a minute works it off: {asked}"
    );
}
