//! The status is wiped, or set back to an older state.

use super::*;

fn wiped() -> Scene {
    let mut scene = Scene::new(2);
    scene.lease(0, 100);
    scene.lease(1, 200);
    scene.ledger = None;
    scene
}

#[test]
fn a_mark_without_its_ledger_stops_all_grants() {
    let mut scene = wiped();
    assert!(scene.cached().look, "first a live read");
    assert_eq!(scene.cached().ledger, None);
    scene.wants(0, 10);
    scene.settle();
    let ledger = scene.ledger();
    assert!(ledger.lost.is_some());
    assert_eq!(
        (ledger.window.number, ledger.leases.len()),
        (2, 2),
        "the leases are known from the specs, in a window of before"
    );
    assert!(ledger.sequence > 1_000_000);
    assert!(
        scene.replicas[0].spec.as_ref().unwrap().window.number == 2,
        "and are given back"
    );
}

#[test]
fn an_annotation_goes_on_from_an_amount_once_nothing_is_outstanding() {
    let mut scene = wiped();
    scene.marks.adopt = Some(NanoUsd(400));
    scene.settle();
    assert!(scene.ledger().lost.is_some(), "300 may still be spent");
    scene.report(0, 60, 0, 40);
    scene.report(1, 0, 0, 200);
    scene.wants(1, 600);
    scene.settle();
    assert_eq!(
        (scene.ledger().lost.clone(), scene.marks.adopt),
        (None, None),
        "and the annotation is gone"
    );
    assert_eq!(scene.shown(), (400, 0, 600));
}

#[test]
fn the_annotation_works_once_whatever_dies_in_between() {
    let mut scene = wiped();
    scene.settle();
    scene.report(0, 60, 0, 40);
    scene.report(1, 0, 0, 200);
    scene.settle();
    scene.marks.adopt = Some(NanoUsd(400));
    let stated = scene.live();
    scene.ledger = stated.ledger;
    assert!(
        !stated.remove.adopt && scene.ledger().lost.is_some(),
        "the amount first"
    );
    let removed = scene.live();
    assert!(
        removed.remove.adopt && removed.ledger.is_none(),
        "then the annotation goes"
    );
    scene.marks.adopt = None;
    scene.settle();
    assert_eq!(scene.ledger().lost, None, "then grants");
    scene.marks.adopt = Some(NanoUsd(7));
    scene.settle();
    assert_eq!(
        (scene.shown().0, scene.marks.adopt),
        (400, None),
        "without a loss it does nothing, and does not wait for one"
    );
}

#[test]
fn a_ledger_older_than_what_a_replica_has_seen_is_lost() {
    let mut scene = Scene::new(1);
    let backup = scene.ledger.clone();
    scene.lease(0, 100);
    scene.replicas[0].report.sequence = scene.replicas[0].spec.as_ref().unwrap().sequence;
    scene.replicas[0].spec = None;
    scene.ledger = backup;
    scene.settle();
    assert!(scene.ledger().lost.is_some());
}

#[test]
fn a_cache_that_lags_is_no_loss() {
    let mut scene = Scene::new(1);
    let stale = scene.ledger.clone();
    scene.lease(0, 100);
    let newest = std::mem::replace(&mut scene.ledger, stale);
    assert!(scene.cached().look && scene.cached().ledger.is_none());
    scene.ledger = newest;
    assert_eq!(scene.live().ledger, None);
}

#[test]
fn marks_of_another_deployment_mean_nothing() {
    let mut scene = Scene::new(0);
    scene.ledger = None;
    scene.marks.window = Mark::read("another/7");
    scene.settle();
    assert_eq!((scene.ledger().lost.clone(), scene.ledger().window.number), (None, 1));
    assert_eq!(Mark::read("no mark"), None);
}

#[test]
fn a_lease_that_is_told_late_is_found_before_anything_is_granted() {
    let mut scene = wiped();
    let told_late = scene.replicas[0].spec.take();
    scene.ledger = scene.live().ledger;
    assert_eq!(scene.ledger().leases.len(), 1);
    // A controller of before the loss was faster than the first word after it.
    scene.replicas[0].spec = told_late;
    scene.settle();
    assert_eq!(scene.ledger().leases.len(), 2);
}
