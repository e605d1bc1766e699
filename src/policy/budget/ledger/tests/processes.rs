//! Whose money it is when processes, pods and leaders come and go.

use super::*;
use crate::policy::{
    budget::purse::{Moment, NoMoney, Purse},
    model::{ApiServer, Conflict},
};

#[test]
fn two_leaders_never_grant_the_same_money() {
    let mut scene = Scene::new(2);
    let mut server = ApiServer::default();
    let version = server.put("d", scene.ledger().clone());
    scene.wants(0, 700);
    scene.wants(1, 700);
    let (mut one, mut other) = (scene.clone(), scene.clone());
    one.replicas[1].report.want = None;
    other.replicas[0].report.want = None;
    let (first, second) = (one.live().ledger.unwrap(), other.live().ledger.unwrap());
    assert_eq!((first.leased, second.leased), (NanoUsd(700), NanoUsd(700)));
    server.put_if("d", first, Some(version)).unwrap();
    assert_eq!(server.put_if("d", second, Some(version)), Err(Conflict));
    other.ledger = Some(server.get("d").unwrap().object);
    let again = other.live().ledger.unwrap();
    assert_eq!(
        again.leased,
        NanoUsd(700),
        "300 is not enough: some is called back first"
    );
    assert_eq!(again.leases[0].recall_to, Some(NanoUsd(300)));
}

#[test]
fn a_stale_leader_does_not_take_a_spec_back() {
    let mut scene = Scene::new(1);
    let old = scene.ledger().clone();
    scene.lease(0, 100);
    let newer = scene.replicas[0].spec.clone().unwrap();
    assert!(newer.sequence > old.sequence);
    assert!(!scene.tell(Some(&old)), "the older ledger has nothing to say");
    assert_eq!(scene.replicas[0].spec, Some(newer));
}

#[test]
fn a_late_projection_is_harmless_to_a_process() {
    let mut scene = Scene::new(1);
    let early = scene.replicas[0].spec.clone().unwrap();
    scene.lease(0, 100);
    let late = scene.replicas[0].spec.clone().unwrap();
    let mut purse = Purse::new("b0".to_owned(), Vec::new());
    let now = Moment {
        wall: scene.clocks.local,
        since_start: std::time::Duration::ZERO,
    };
    assert!(purse.take(&late));
    let claim = purse.reserve(NanoUsd(100), now).unwrap();
    assert!(!purse.take(&early), "older than what is known");
    assert!(purse.take(&late), "the same once more");
    assert_eq!(
        purse.reserve(NanoUsd(1), now),
        Err(NoMoney::NotYet),
        "and it gives nothing twice"
    );
    purse.release(claim);
}

#[test]
fn a_successor_with_the_journal_tells_to_the_nano_what_was_spent() {
    let mut scene = Scene::new(1);
    scene.lease(0, 100);
    let id = scene.row("b0").id;
    let lease = LeaseReport {
        id,
        settled: NanoUsd(30),
        uncertain: NanoUsd(20),
        ..LeaseReport::default()
    };
    let ended = EndedProcess {
        boot_id: "b0".to_owned(),
        leases: vec![lease],
        damaged: false,
    };
    scene.replicas[0].restarts("b9", vec![ended]);
    assert!(!scene.cached().look, "the journal's word needs no live read");
    scene.settle();
    assert_eq!(scene.shown(), (30, 20, 0));
}

#[test]
fn a_lease_that_the_journal_never_saw_was_not_spent_unless_the_journal_is_damaged() {
    for (damaged, uncertain) in [(false, 0), (true, 100)] {
        let mut scene = Scene::new(1);
        scene.lease(0, 100);
        let ended = EndedProcess {
            boot_id: "b0".to_owned(),
            leases: Vec::new(),
            damaged,
        };
        scene.replicas[0].restarts("b9", vec![ended]);
        scene.settle();
        assert_eq!(scene.shown(), (0, uncertain, 0));
    }
}

#[test]
fn without_a_journal_everything_granted_and_not_reported_is_uncertain() {
    let mut scene = Scene::new(1);
    scene.lease(0, 100);
    scene.report(0, 30, 0, 0);
    scene.settle();
    scene.replicas[0].restarts("b9", Vec::new());
    let cached = scene.cached();
    assert!(
        cached.look && cached.ledger.is_none(),
        "a cache may show an older process: {cached:#?}"
    );
    scene.settle();
    assert_eq!(scene.shown(), (30, 70, 0));
}

#[test]
fn a_late_report_after_a_write_off_is_counted_by_nobody() {
    let mut scene = Scene::new(1);
    scene.lease(0, 100);
    let before = scene.replicas[0].clone();
    scene.replicas[0].lives = false;
    scene.settle();
    assert_eq!(scene.shown(), (0, 100, 0));
    scene.replicas[0] = Replica { lives: false, ..before };
    scene.report(0, 60, 0, 40);
    scene.settle();
    assert_eq!(scene.shown(), (0, 100, 0), "it is accounted for already");
}

#[test]
fn a_pod_that_is_gone_is_believed_only_live_and_its_last_word_counts() {
    let mut scene = Scene::new(1);
    scene.lease(0, 100);
    scene.replicas[0].lives = false;
    assert!(scene.cached().look);
    assert_eq!(scene.cached().ledger, None);
    scene.report(0, 10, 5, 85);
    scene.replicas[0].report.is_final = true;
    scene.settle();
    assert_eq!(scene.shown(), (10, 5, 0));
    assert!(may_release(scene.ledger.as_ref(), "u0"), "folded");
}

#[test]
fn a_pod_of_the_same_name_has_money_of_its_own() {
    let mut scene = Scene::new(1);
    scene.lease(0, 100);
    assert!(!may_release(scene.ledger.as_ref(), "u0"));
    // The pod was deleted and another of its name is there; its InferenceReplica cannot be made while the old one has a finalizer.
    scene.replicas[0].lives = false;
    scene.replicas[0].deleting = true;
    let mut new = replica(0);
    (new.uid, new.object) = ("u7".to_owned(), false);
    scene.replicas.push(new);
    scene.settle();
    assert!(may_release(scene.ledger.as_ref(), "u0"));
    scene.replicas.remove(0);
    scene.replicas[0].object = true;
    scene.replicas[0].boot = Some("b7".to_owned());
    scene.wants(0, 50);
    scene.settle();
    assert_eq!((scene.outstanding("b7"), scene.shown()), (50, (0, 100, 50)));
    assert!(
        scene.ledger().leases.iter().all(|row| row.pod_uid == "u7"),
        "the old row's stone is gone with its object"
    );
}

#[test]
fn a_process_that_has_ended_gets_nothing_more() {
    let mut scene = Scene::new(1);
    scene.lease(0, 100);
    scene.replicas[0].lives = false;
    scene.settle();
    scene.replicas[0].lives = true;
    scene.wants(0, 10);
    scene.settle();
    assert_eq!(scene.shown(), (0, 100, 0), "a stale view of its life changes nothing");
}

#[test]
fn time_never_returns_money() {
    let mut scene = Scene::new(1);
    scene.lease(0, 100);
    scene.now("2026-11-23T10:59:59Z");
    scene.settle();
    assert_eq!(scene.outstanding("b0"), 100);
}

#[test]
fn the_first_grant_to_a_process_needs_a_live_read_and_later_ones_do_not() {
    let mut scene = Scene::new(1);
    scene.wants(0, 10);
    assert!(scene.cached().look);
    scene.lease(0, 10);
    scene.wants(0, 10);
    let more = scene.cached();
    assert!(!more.look);
    assert_eq!(more.ledger.unwrap().leased, NanoUsd(20));
}
