//! Windows end, and money stays where it was spent.

use super::*;

#[test]
fn a_late_settlement_goes_to_its_own_window() {
    let mut scene = Scene::new(1);
    scene.lease(0, 100);
    scene.report(0, 20, 0, 0);
    scene.settle();
    scene.now("2026-11-23T11:00:01Z");
    scene.settle();
    assert_eq!((scene.ledger().window.number, scene.shown()), (2, (0, 0, 0)));
    scene.report(0, 50, 10, 40);
    scene.settle();
    assert_eq!(scene.shown(), (0, 0, 0));
    let closed = &scene.ledger().closed_windows[0];
    assert_eq!(
        (closed.number, closed.settled, closed.uncertain),
        (1, NanoUsd(50), NanoUsd(10))
    );
    assert!(
        scene.ledger().leases.is_empty(),
        "nothing is outstanding in it any more"
    );
}

#[test]
fn every_window_has_the_whole_limit_and_is_marked_anew() {
    let mut scene = Scene::new(1);
    scene.lease(0, 1_000);
    scene.report(0, 1_000, 0, 0);
    scene.settle();
    scene.now("2026-11-23T12:15:00Z");
    scene.wants(0, 1_000);
    scene.settle();
    assert_eq!((scene.ledger().window.number, scene.shown()), (2, (0, 0, 1_000)));
    assert_eq!(scene.marks.window.as_ref().unwrap().number, 2);
}

#[test]
fn no_window_begins_while_the_clocks_differ() {
    let mut scene = Scene::new(1);
    scene.clocks.local = at("2026-11-23T11:05:00Z");
    let ours_is_ahead = scene.live();
    assert!(ours_is_ahead.clocks_disagree && ours_is_ahead.ledger.is_none());
    scene.clocks.server = at("2026-11-23T11:04:45Z");
    scene.settle();
    assert_eq!(scene.ledger().window.number, 2);
}

#[test]
fn windows_only_advance() {
    let mut scene = Scene::new(1);
    scene.now("2026-11-23T11:00:01Z");
    scene.settle();
    let window = scene.ledger().window.clone();
    scene.now("2026-11-23T10:59:50Z");
    scene.settle();
    assert_eq!(
        scene.ledger().window,
        window,
        "a controller whose clock is behind changes nothing"
    );
}

#[test]
fn another_period_keeps_what_is_settled_until_its_next_boundary() {
    let mut scene = Scene::new(1);
    scene.lease(0, 100);
    scene.report(0, 40, 0, 60);
    scene.settle();
    scene.budget.period = Some(crate::api::BudgetPeriod::Day);
    scene.budget.time_zone = Some("Europe/Berlin".to_owned());
    scene.settle();
    let window = scene.ledger().window.clone();
    assert_eq!((window.number, scene.shown().0), (1, 40));
    assert_eq!(window.end.as_ref().unwrap().0, at("2026-11-23T23:00:00Z"));
    assert_eq!(window.start.as_ref().unwrap().0, at("2026-11-23T10:00:00Z"));
    scene.now("2026-11-23T23:00:01Z");
    scene.settle();
    assert_eq!((scene.ledger().window.number, scene.shown().0), (2, 0));
    scene.budget.period = Some(crate::api::BudgetPeriod::Total);
    scene.settle();
    assert_eq!(scene.ledger().window.end, None);
    scene.now("2036-11-23T23:00:01Z");
    scene.settle();
    assert_eq!(scene.ledger().window.number, 2, "Total never ends");
}
