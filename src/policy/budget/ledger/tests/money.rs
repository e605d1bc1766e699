//! Who gets how much, who gives back, and who is told that there is nothing.

use super::*;

fn granted(scene: &Scene, number: usize) -> u64 {
    scene.row(&format!("b{number}")).granted.0
}

#[test]
fn nothing_is_granted_before_the_window_is_marked() {
    let mut scene = Scene::new(1);
    scene.marks.window = None;
    scene.wants(0, 10);
    let decision = scene.live();
    assert_eq!(decision.mark.unwrap().to_string(), "d/1");
    assert_eq!((decision.ledger, decision.urgent), (None, true));
}

#[test]
fn a_want_is_met_and_a_hundredth_of_the_limit_is_given_ahead() {
    let mut scene = Scene::new(1);
    scene.lease(0, 3);
    assert_eq!(granted(&scene, 0), 10);
    scene.lease(0, 30);
    assert_eq!(granted(&scene, 0), 40);
}

#[test]
fn a_grant_that_the_replica_has_not_seen_yet_counts_for_its_want() {
    let mut scene = Scene::new(1);
    scene.wants(0, 100);
    scene.settle();
    scene.settle();
    assert_eq!(granted(&scene, 0), 100, "the same want again is not another");
    scene.wants(0, 150);
    scene.settle();
    assert_eq!(
        granted(&scene, 0),
        150,
        "its report still speaks of the state before the first grant"
    );
}

#[test]
fn what_is_left_is_shared_by_those_who_want_more_than_there_is() {
    let mut scene = Scene::new(4);
    for number in 0..4 {
        scene.wants(number, 400);
        scene.replicas[number].report.want.as_mut().unwrap().least = NanoUsd(100);
    }
    scene.settle();
    let all: Vec<u64> = (0..4).map(|number| granted(&scene, number)).collect();
    assert_eq!(all, [250, 250, 250, 250]);
}

#[test]
fn a_request_that_waits_calls_idle_money_back() {
    let mut scene = Scene::new(3);
    scene.lease(0, 600);
    scene.lease(1, 300);
    scene.wants(2, 250);
    scene.settle();
    assert_eq!(
        scene.row("b0").recall_to,
        Some(NanoUsd(450)),
        "150 are missing, and the first has most"
    );
    assert_eq!(scene.row("b1").recall_to, None);
    assert_eq!(
        (scene.cached().ledger, scene.cached().look),
        (None, false),
        "asked once"
    );
    scene.report(0, 0, 0, 150);
    scene.settle();
    assert_eq!((granted(&scene, 2), scene.row("b0").recall_to), (250, None));
}

#[test]
fn money_in_flight_is_called_back_after_idle_money() {
    let mut scene = Scene::new(3);
    scene.lease(0, 600);
    scene.lease(1, 400);
    scene.replicas[0].report.leases[0].reserved = NanoUsd(550);
    scene.wants(2, 100);
    scene.settle();
    assert_eq!(
        (scene.row("b0").recall_to, scene.row("b1").recall_to),
        (None, Some(NanoUsd(300)))
    );
}

#[test]
fn of_many_that_wait_the_smallest_keeps_its_money() {
    let mut scene = Scene::new(2);
    scene.lease(0, 500);
    scene.lease(1, 500);
    scene.wants(0, 20);
    scene.wants(1, 10);
    scene.settle();
    assert_eq!(
        (scene.row("b0").recall_to, scene.row("b1").recall_to),
        (Some(NanoUsd(490)), None)
    );
}

#[test]
fn a_lowered_limit_works_by_recall_at_once() {
    let mut scene = Scene::new(2);
    scene.lease(0, 600);
    scene.lease(1, 300);
    scene.budget.limit = "0.0000005".parse().unwrap();
    assert!(scene.cached().urgent);
    scene.settle();
    assert_eq!(scene.ledger().over_limit, Some(NanoUsd(400)));
    assert_eq!(
        (scene.row("b0").recall_to, scene.row("b1").recall_to),
        (Some(NanoUsd(200)), None)
    );
    scene.report(0, 0, 0, 400);
    scene.settle();
    assert_eq!((scene.ledger().over_limit, scene.shown()), (None, (0, 0, 500)));
}

#[test]
fn only_what_can_never_be_paid_is_denied() {
    let mut scene = Scene::new(2);
    scene.lease(0, 900);
    scene.report(0, 200, 0, 0);
    scene.wants(1, 800);
    scene.settle();
    assert_eq!(
        scene.replicas[1].spec.as_ref().unwrap().denied,
        None,
        "800 may still come back"
    );
    scene.report(0, 201, 0, 0);
    scene.settle();
    let denied = scene.replicas[1].spec.as_ref().unwrap().denied.clone().unwrap();
    assert_eq!(denied.above, NanoUsd(799));
    assert_eq!(
        scene.replicas[0].spec.as_ref().unwrap().denied,
        None,
        "who did not ask is told nothing"
    );
    scene.report(0, 300, 0, 0);
    let told = scene.replicas[1].spec.clone();
    scene.settle();
    assert_eq!(
        scene.replicas[1].spec, told,
        "less is left: still true, not written again"
    );
    scene.budget.limit = "0.000002".parse().unwrap();
    scene.settle();
    assert_eq!(
        scene.replicas[1].spec.as_ref().unwrap().denied,
        None,
        "a raised limit takes it back"
    );
    assert_eq!(granted(&scene, 1), 800);
}

#[test]
fn nobody_gives_anything_back_for_a_request_that_nothing_pays_for() {
    let mut scene = Scene::new(3);
    scene.lease(0, 600);
    scene.lease(1, 300);
    scene.report(0, 200, 0, 0);
    scene.wants(2, 801);
    scene.settle();
    let recalled = |scene: &Scene| ["b0", "b1"].map(|boot| scene.row(boot).recall_to);
    assert_eq!(recalled(&scene), [None, None]);
    let denied = scene.replicas[2].spec.as_ref().unwrap().denied.clone().unwrap();
    assert_eq!(denied.above, NanoUsd(800));
    scene.wants(1, 150);
    scene.settle();
    assert_eq!(
        recalled(&scene),
        [Some(NanoUsd(350)), None],
        "50 are missing for one that can be paid"
    );
    scene.report(0, 200, 0, 50);
    scene.settle();
    assert_eq!((granted(&scene, 1), recalled(&scene)), (450, [None, None]));
}

#[test]
fn a_request_that_nothing_pays_for_keeps_no_money_from_others() {
    let mut scene = Scene::new(2);
    scene.lease(0, 1_000);
    scene.wants(0, 1_001);
    scene.wants(1, 10);
    scene.settle();
    assert_eq!(scene.row("b0").recall_to, Some(NanoUsd(990)));
}

#[test]
fn a_report_above_the_bound_is_booked_in_full() {
    let mut scene = Scene::new(1);
    scene.lease(0, 900);
    scene.report(0, 1_300, 0, 0);
    scene.settle();
    assert_eq!(
        (scene.shown(), scene.ledger().over_limit),
        ((1_300, 0, 0), Some(NanoUsd(300)))
    );
}

/// Somebody writes the annotation, and it is gone when it is carried out.
fn write_off(scene: &mut Scene, text: &str) -> bool {
    scene.marks.write_off = Some(text.parse().unwrap());
    scene.settle();
    scene.marks.write_off.take().is_none()
}

#[test]
fn uncertain_money_is_written_off_once_however_often_it_is_said() {
    let mut scene = Scene::new(1);
    scene.lease(0, 300);
    scene.report(0, 0, 300, 0);
    scene.settle();
    for _ in 0..2 {
        assert!(write_off(&mut scene, "0.0000001@1"));
        assert_eq!(scene.shown(), (0, 200, 0));
    }
    assert!(write_off(&mut scene, "0.00000015@1"), "in all");
    assert_eq!(scene.shown(), (0, 150, 0));
    assert!(!write_off(&mut scene, "0.0000001@1"), "it may be meant to come on top");
    assert!(!write_off(&mut scene, "0.00000018@2"), "the window after this one");
    assert_eq!(scene.shown(), (0, 150, 0));
    assert!(write_off(&mut scene, "1@1"), "never more than there is");
    assert_eq!(scene.shown(), (0, 0, 0));
    assert!(
        scene.row("b0").uncertain.0 == 300,
        "the row keeps the replica's own word"
    );
}

#[test]
fn a_write_off_of_a_window_that_is_over_takes_nothing_off_the_next_one() {
    let mut scene = Scene::new(1);
    scene.now("2026-11-23T11:30:00Z");
    scene.settle();
    scene.marks.window.as_mut().unwrap().number = 2;
    scene.lease(0, 300);
    scene.report(0, 0, 300, 0);
    scene.settle();
    assert!(!write_off(&mut scene, "0.0000001@1"));
    assert_eq!((scene.shown(), scene.ledger().written_off), ((0, 300, 0), None));
    assert!(write_off(&mut scene, "0.0000001@2"));
    assert_eq!(
        (scene.shown(), scene.ledger().written_off),
        ((0, 200, 0), Some(NanoUsd(100)))
    );
    scene.now("2026-11-23T12:30:00Z");
    scene.settle();
    assert_eq!(
        scene.ledger().written_off,
        None,
        "the next window begins with nothing written off"
    );
}

#[test]
fn a_write_off_that_cannot_be_read_says_how_to_write_it() {
    for text in ["1.25", "1.25@", "1.25@x", "1.25@-1", "1.25@7@7", ""] {
        let error = text.parse::<WriteOff>().unwrap_err().to_string();
        assert!(
            error.contains("1.25@7") && error.contains("status.budget.window.number"),
            "{error}"
        );
    }
    let error = "1,25@7".parse::<WriteOff>().unwrap_err().to_string();
    assert!(error.starts_with("\"1,25\" is no amount"), "{error}");
}

#[test]
fn percentages_are_noted_when_they_are_reached() {
    let mut scene = Scene::new(1);
    scene.budget.warn_at_percent = vec![50, 80, 95];
    scene.lease(0, 900);
    scene.report(0, 790, 10, 0);
    scene.settle();
    assert_eq!(scene.ledger().warned, [50, 80]);
}

#[test]
fn a_budget_that_is_taken_away_is_kept_and_grants_nothing() {
    let mut scene = Scene::new(1);
    scene.lease(0, 100);
    scene.report(0, 40, 0, 0);
    scene.wants(0, 10);
    let decision = scene.with(true, |situation| {
        decide(&Situation {
            terms: None,
            ..*situation
        })
    });
    let ledger = decision.ledger.unwrap();
    assert_eq!((ledger.settled, ledger.leases[0].granted), (NanoUsd(40), NanoUsd(100)));
}
