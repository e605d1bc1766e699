//! Every sentence of design section 9 about the merged circuit.

use super::*;
use crate::api::{ProbeOutcome, ProbeReport};

/// A deployment of replicas `r0`, `r1`, … as the controller sees it.
struct House {
    subject: Subject,
    row: Option<CircuitStatus>,
    told: Vec<Option<MergedCircuit>>,
    reports: Vec<Option<ReplicaCircuit>>,
    gone: Vec<usize>,
    look_again: Option<Timestamp>,
    jitter: f64,
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap() + Duration::from_secs(seconds)
}

fn time(seconds: u64) -> Time {
    Time(at(seconds))
}

fn report() -> ReplicaCircuit {
    ReplicaCircuit::closed("far".into(), CircuitScope::Endpoint, "t".into())
}

fn open() -> ReplicaCircuit {
    ReplicaCircuit {
        state: CircuitState::Open,
        opened_at: Some(time(0)),
        retry_at: Some(time(30)),
        trips: 1,
        last_error: Some("server_error".into()),
        ..report()
    }
}

fn fine() -> ReplicaCircuit {
    ReplicaCircuit {
        judged: true,
        ..report()
    }
}

impl House {
    fn new(reports: impl IntoIterator<Item = Option<ReplicaCircuit>>) -> Self {
        let reports: Vec<_> = reports.into_iter().collect();
        Self {
            subject: Subject {
                backend: "far".into(),
                scope: CircuitScope::Endpoint,
                provider: "OpenAI".into(),
                endpoint: "https://far.example".into(),
                target: "t".into(),
                config: CircuitConfig::default(),
            },
            row: None,
            told: vec![None; reports.len()],
            reports,
            gone: Vec::new(),
            look_again: None,
            jitter: 0.0,
        }
    }

    /// Two replicas that opened it for all at 0 s and follow it.
    fn opened() -> Self {
        let mut house = Self::new([Some(open()), Some(open())]);
        assert_eq!(house.decide(0), CircuitState::Open);
        house.follow();
        house
    }

    /// The same with token 2 given to `r0` at 30 s, and accepted.
    fn probing() -> Self {
        let mut house = Self::opened();
        house.want(0);
        assert_eq!(house.decide(30), CircuitState::HalfOpen);
        house.follow();
        house.hear(0, ProbeOutcome::Accepted, 0);
        house.decide(30);
        assert_eq!(house.row().probes[0].phase, ProbePhase::Accepted);
        house
    }

    fn decide(&mut self, seconds: u64) -> CircuitState {
        let names: Vec<_> = (0..self.reports.len()).map(|index| format!("r{index}")).collect();
        let replicas = names.iter().enumerate().filter(|(index, _)| !self.gone.contains(index));
        let replicas: Vec<_> = replicas
            .map(|(index, name)| Replica {
                name,
                told: self.told[index].as_ref(),
                report: self.reports[index].as_ref(),
                speaks: true,
                stays: true,
            })
            .collect();
        let merged = merge(&self.subject, self.row.as_ref(), &replicas, at(seconds), self.jitter);
        let again = merge(&self.subject, merged.row.as_ref(), &replicas, at(seconds), self.jitter);
        assert_eq!(again, merged, "a decision that is recorded is not made again");
        self.row = merged.row;
        self.look_again = merged.look_again;
        self.row.as_ref().map_or(CircuitState::Closed, |row| row.state)
    }

    /// Every replica is told, and reports that it follows.
    fn follow(&mut self) {
        for index in 0..self.reports.len() {
            self.tell(index);
            let Some(told) = self.told[index].clone() else { continue };
            let report = self.reports[index].get_or_insert_with(report);
            (report.epoch, report.sequence) = (told.epoch, told.sequence);
            report.opened_at.clone_from(&told.opened_at);
            report.probe = report
                .probe
                .filter(|p| told.probe.is_some_and(|t| t.sequence == p.sequence));
        }
    }

    fn tell(&mut self, index: usize) -> bool {
        let name = format!("r{index}");
        let news = project(self.row(), "t", &name, self.told[index].as_ref());
        let told = news.is_some();
        self.told[index] = news.or(self.told[index].take());
        told
    }

    fn want(&mut self, index: usize) {
        self.reports[index].as_mut().unwrap().demand = true;
    }

    /// The replica reports on the token that it was told of.
    fn hear(&mut self, index: usize, outcome: ProbeOutcome, succeeded: u32) {
        let sequence = self.told[index].as_ref().unwrap().probe.unwrap().sequence;
        self.reports[index].as_mut().unwrap().probe = Some(ProbeReport {
            sequence,
            outcome,
            succeeded,
            retry_after_seconds: None,
        });
    }

    fn row(&self) -> &CircuitStatus {
        self.row.as_ref().unwrap()
    }

    fn holders(&self) -> Vec<&str> {
        self.row().probes.iter().map(|p| p.replica.as_str()).collect()
    }

    fn retry_at(&self) -> i64 {
        let retry_at = self.row().retry_at.as_ref().unwrap().0;
        retry_at.as_second() - at(0).as_second()
    }
}

#[test]
fn it_opens_for_all_when_more_than_half_of_the_voters_are_open() {
    let idle = || None;
    for (reports, expected) in [
        (vec![Some(open())], CircuitState::Open),
        (vec![Some(open()), Some(fine())], CircuitState::Closed),
        (vec![Some(open()), Some(open()), Some(fine())], CircuitState::Open),
        (
            vec![Some(open()), Some(open()), Some(fine()), Some(fine())],
            CircuitState::Closed,
        ),
        (
            vec![Some(open()), Some(open()), idle(), idle(), idle()],
            CircuitState::Open,
        ),
        (vec![Some(fine()), Some(fine())], CircuitState::Closed),
    ] {
        let words: Vec<_> = reports.iter().map(|r| r.as_ref().map(|r| r.state)).collect();
        assert_eq!(House::new(reports).decide(0), expected, "{words:?}");
    }
}

#[test]
fn a_lone_voter_among_several_replicas_opens_only_itself() {
    let mut house = House::new([Some(open()), None, None]);
    assert_eq!(house.decide(0), CircuitState::Closed);
    assert_eq!(house.row().open_replicas, Some(1), "and the status says so");
    assert!(!house.tell(1), "nobody else hears of it");
    house.reports[0] = Some(fine());
    house.decide(1);
    assert_eq!(house.row, None);
}

#[test]
fn a_replica_that_is_gone_has_no_vote() {
    let mut house = House::new([Some(open()), Some(fine())]);
    house.gone.push(1);
    assert_eq!(house.decide(0), CircuitState::Open, "the only one that is left");
}

#[test]
fn votes_of_another_epoch_or_endpoint_are_none() {
    let mut house = House::opened();
    house.want(0);
    house.decide(30);
    house.follow();
    house.hear(0, ProbeOutcome::Done, 1);
    assert_eq!(house.decide(31), CircuitState::Closed);
    assert_eq!(house.row().epoch, 1, "closing raises it");
    assert_eq!(
        house.decide(32),
        CircuitState::Closed,
        "the replicas still say Open, in the epoch before"
    );
    let elsewhere = ReplicaCircuit {
        target: "other".into(),
        ..open()
    };
    // What is said of another endpoint is left out where an object is read.
    let object: InferenceReplica = serde_json::from_value(serde_json::json!({
        "apiVersion": "inference-operator.dev/v1alpha1", "kind": "InferenceReplica", "metadata": {"name": "r"},
        "spec": {"podUID": "p", "deploymentName": "d", "deploymentUID": "u"}, "status": {"circuits": [elsewhere]},
    }))
    .unwrap();
    assert!(Replica::new(&object, &house.subject, true).report.is_none());
}

#[test]
fn another_endpoint_starts_anew() {
    let mut house = House::opened();
    house.subject.endpoint = "https://near.example".into();
    house.subject.target = "n".into();
    house.reports = vec![None, None];
    house.told = vec![None, None];
    assert_eq!(house.decide(5), CircuitState::Closed);
    let row = house.row();
    assert_eq!((row.epoch, row.trips, row.opened_at.clone()), (1, None, None));
    assert_eq!(row.endpoint.as_deref(), Some("https://near.example"));
}

#[test]
fn the_open_time_is_at_least_that_of_every_vote_and_at_most_the_maximum() {
    let mut house = House::new([Some(open()), Some(open())]);
    house.reports[1].as_mut().unwrap().retry_at = Some(time(70));
    house.decide(0);
    assert_eq!(house.retry_at(), 70, "a provider's Retry-After is respected");
    let mut house = House::new([Some(open())]);
    house.reports[0].as_mut().unwrap().retry_at = Some(time(5_000));
    house.decide(0);
    assert_eq!(house.retry_at(), 600, "up to maxOpenDuration");
    let mut house = House::new([Some(open())]);
    house.jitter = 0.999;
    house.decide(0);
    assert!(
        (31..=38).contains(&house.retry_at()),
        "jitter lengthens: {}",
        house.retry_at()
    );
}

#[test]
fn no_token_before_it_is_time_and_none_without_demand() {
    let mut house = House::opened();
    house.decide(40);
    assert!(house.row().probes.is_empty(), "nobody has a request to probe with");
    assert_eq!(house.look_again, None, "and nothing is to be waited for");
    let mut house = House::opened();
    house.want(1);
    house.decide(29);
    assert!(house.row().probes.is_empty());
    assert_eq!(house.look_again, Some(at(30)));
    assert_eq!(house.decide(30), CircuitState::HalfOpen);
    assert_eq!(house.holders(), ["r1"]);
}

#[test]
fn of_many_that_want_one_gets_the_token_and_only_that_one_is_told() {
    let mut house = House::new((0..8).map(|_| Some(open())));
    house.decide(0);
    house.follow();
    (0..8).for_each(|index| house.want(index));
    house.jitter = 0.7;
    house.decide(30);
    assert_eq!(house.holders(), ["r5"]);
    let told: Vec<_> = (0..8).filter(|index| house.tell(*index)).collect();
    assert_eq!(told, [5], "the others' specs are not written for it");
}

#[test]
fn a_token_that_is_not_accepted_is_taken_back_first_and_then_given_to_another() {
    let mut house = House::opened();
    house.want(0);
    house.want(1);
    house.decide(30);
    assert_eq!(house.holders(), ["r0"]);
    assert_eq!(house.look_again, Some(at(35)));
    house.decide(34);
    assert_eq!(house.row().probes[0].phase, ProbePhase::Offered);
    house.tell(0);
    house.decide(35);
    assert_eq!(house.row().probes[0].phase, ProbePhase::Withdrawn);
    house.decide(36);
    assert_eq!(
        house.holders(),
        ["r0"],
        "its object still carries the token: nobody else gets one"
    );
    assert!(house.tell(0));
    assert_eq!(house.told[0].as_ref().unwrap().probe, None);
    house.jitter = 0.9;
    house.decide(37);
    assert_eq!(house.holders(), ["r1"], "seen without it");
}

#[test]
fn an_acceptance_that_came_before_the_withdrawal_stands() {
    let mut house = House::opened();
    house.want(0);
    house.want(1);
    house.decide(30);
    house.tell(0);
    house.decide(35);
    house.hear(0, ProbeOutcome::Accepted, 0);
    house.decide(36);
    assert_eq!(house.row().probes[0].phase, ProbePhase::Accepted);
    assert!(!house.tell(0), "the word that would take it back is not sent again");
}

#[test]
fn a_holder_that_died_after_it_accepted_has_failed_when_the_time_is_over() {
    for gone in [false, true] {
        let mut house = House::probing();
        if gone {
            house.gone.push(0);
        }
        house.want(1);
        // firstToken 60 s + 30 s, from the sight of the acceptance.
        assert_eq!(house.look_again, Some(at(120)));
        house.decide(119);
        assert_eq!(house.holders(), ["r0"], "nobody else probes till then");
        assert_eq!(house.decide(120), CircuitState::Open);
        assert_eq!((house.retry_at(), house.row().trips), (120 + 60, Some(2)), "for longer");
    }
}

#[test]
fn a_holder_that_vanished_unseen_may_have_probed() {
    let mut house = House::opened();
    house.want(0);
    house.decide(30);
    house.tell(0);
    house.decide(35);
    house.gone.push(0);
    house.want(1);
    house.decide(36);
    assert_eq!(house.holders(), ["r0"]);
    assert_eq!(house.decide(35 + 90), CircuitState::Open);
}

#[test]
fn a_token_that_comes_back_unused_goes_to_another_at_once() {
    let mut house = House::probing();
    house.want(1);
    house.hear(0, ProbeOutcome::Done, 0);
    house.reports[0].as_mut().unwrap().demand = false;
    assert_eq!(house.decide(46), CircuitState::HalfOpen, "no transition");
    assert_eq!(house.holders(), ["r1"]);
    let mut idle = House::probing();
    idle.reports[0].as_mut().unwrap().demand = false;
    idle.hear(0, ProbeOutcome::Done, 0);
    idle.decide(46);
    assert!(idle.row().probes.is_empty());
    assert_eq!(idle.look_again, None);
}

#[test]
fn a_success_closes_for_all() {
    let mut house = House::probing();
    house.hear(0, ProbeOutcome::Done, 1);
    assert_eq!(house.decide(33), CircuitState::Closed);
    let row = house.row();
    assert_eq!(
        (row.epoch, row.trips, row.opened_at.clone(), row.retry_at.clone()),
        (1, None, None, None)
    );
    assert!(house.tell(0) && house.tell(1), "everybody is told");
    assert_eq!(house.told[1].as_ref().unwrap().state, CircuitState::Closed);
}

#[test]
fn a_failed_probe_opens_for_longer_and_the_providers_wait_is_respected() {
    for (asked, expected) in [(None, 60), (Some(100), 100), (Some(9_000), 600)] {
        let mut house = House::probing();
        house.hear(0, ProbeOutcome::Failed, 0);
        house.reports[0]
            .as_mut()
            .unwrap()
            .probe
            .as_mut()
            .unwrap()
            .retry_after_seconds = asked;
        assert_eq!(house.decide(33), CircuitState::Open);
        assert_eq!(house.retry_at(), 33 + expected);
        assert_eq!(house.row().epoch, 0, "the votes that opened it still stand");
    }
}

#[test]
fn a_probe_that_told_nothing_is_followed_by_the_next_round_and_not_by_a_longer_wait() {
    let mut house = House::probing();
    house.hear(0, ProbeOutcome::Inconclusive, 0);
    assert_eq!(house.decide(33), CircuitState::Open);
    assert_eq!((house.retry_at(), house.row().trips), (38, Some(1)));
}

#[test]
fn several_probes_are_spread_and_all_must_succeed() {
    let mut house = House::opened();
    house.subject.config.half_open_probes = 3;
    house.want(0);
    house.want(1);
    house.decide(30);
    let calls: Vec<_> = house.row().probes.iter().map(|p| p.calls).collect();
    assert_eq!(calls, [2, 1]);
    house.follow();
    house.hear(0, ProbeOutcome::Done, 2);
    house.hear(1, ProbeOutcome::Accepted, 0);
    assert_eq!(house.decide(31), CircuitState::HalfOpen);
    assert_eq!(
        (house.row().succeeded, house.holders()),
        (2, vec!["r1"]),
        "no fourth probe"
    );
    house.hear(1, ProbeOutcome::Done, 1);
    assert_eq!(house.decide(32), CircuitState::Closed);
}

#[test]
fn when_a_round_ends_its_other_tokens_are_taken_back_before_the_next_begins() {
    let mut house = House::opened();
    house.subject.config.half_open_probes = 2;
    house.want(0);
    house.want(1);
    house.decide(30);
    house.tell(0);
    house.tell(1);
    house.hear(0, ProbeOutcome::Failed, 0);
    assert_eq!(house.decide(31), CircuitState::Open);
    assert_eq!(house.row().probes[0].phase, ProbePhase::Withdrawn);
    house.decide(95);
    let offered = |house: &House| {
        house
            .row()
            .probes
            .iter()
            .filter(|p| p.phase == ProbePhase::Offered)
            .count()
    };
    assert_eq!(
        (house.holders(), offered(&house)),
        (vec!["r1", "r0"], 1),
        "r1's old token counts as one"
    );
    house.tell(1);
    house.decide(96);
    assert_eq!(house.row().probes.iter().map(|p| p.calls).sum::<u32>(), 2);
}

fn keyed(report: ReplicaCircuit, key: &str) -> ReplicaCircuit {
    ReplicaCircuit {
        scope: CircuitScope::Credential,
        key_hash: Some(key.into()),
        ..report
    }
}

#[test]
fn votes_on_a_credential_bind_only_replicas_with_the_same_key() {
    let reports = [keyed(open(), "old"), keyed(open(), "old"), keyed(fine(), "new")];
    let mut house = House::new(reports.map(Some));
    house.subject.scope = CircuitScope::Credential;
    assert_eq!(house.decide(0), CircuitState::Open);
    assert_eq!(house.row().key_hash.as_deref(), Some("old"));
    house.follow();
    house.want(0);
    house.want(2);
    house.jitter = 0.99;
    house.decide(30);
    assert_eq!(house.holders(), ["r0"], "a probe with another key would tell nothing");
}

#[test]
fn the_circuit_of_a_key_that_nobody_has_any_more_closes() {
    let mut house = House::new([keyed(open(), "old"), keyed(open(), "old")].map(Some));
    house.subject.scope = CircuitScope::Credential;
    house.decide(0);
    house.follow();
    house.reports[0] = Some(ReplicaCircuit {
        sequence: house.row().changed,
        ..keyed(fine(), "new")
    });
    assert_eq!(house.decide(5), CircuitState::Open, "the other one still has it");
    house.reports[1] = house.reports[0].clone();
    assert_eq!(house.decide(6), CircuitState::Closed);
    assert_eq!((house.row().epoch, house.row().key_hash.clone()), (1, None));
}

#[test]
fn a_new_key_that_is_refused_too_opens_anew() {
    let mut house = House::new([keyed(open(), "old"), keyed(open(), "old")].map(Some));
    house.subject.scope = CircuitScope::Credential;
    house.decide(0);
    house.follow();
    let sequence = house.row().changed;
    let refused = ReplicaCircuit {
        sequence,
        ..keyed(open(), "new")
    };
    house.reports = vec![Some(refused.clone()), Some(refused)];
    assert_eq!(house.decide(9), CircuitState::Closed, "the old key's circuit first");
    let epoch = house.row().epoch;
    house.reports.iter_mut().flatten().for_each(|r| r.epoch = epoch);
    assert_eq!(house.decide(10), CircuitState::Open);
    assert_eq!(house.row().key_hash.as_deref(), Some("new"));
}

#[test]
fn the_override_goes_before_everything_and_what_is_beneath_stays() {
    let mut house = House::opened();
    house.want(0);
    house.subject.config.forced = CircuitOverride::ForceClosed;
    assert_eq!(house.decide(40), CircuitState::ForcedClosed);
    assert!(house.row().probes.is_empty(), "no token while forced");
    assert!(!house.tell(0), "replicas read the override themselves");
    house.subject.config.forced = CircuitOverride::ForceOpen;
    assert_eq!(house.decide(41), CircuitState::ForcedOpen);
    house.subject.config.forced = CircuitOverride::Auto;
    assert_eq!(
        house.decide(42),
        CircuitState::HalfOpen,
        "open as before, and time to probe"
    );
    let mut closed = House::new([None]);
    closed.subject.config.forced = CircuitOverride::ForceOpen;
    assert_eq!(closed.decide(0), CircuitState::ForcedOpen);
    closed.subject.config.forced = CircuitOverride::Auto;
    closed.decide(1);
    assert_eq!(closed.row, None);
}

#[test]
fn votes_count_while_it_is_forced_closed() {
    let mut house = House::new([Some(open())]);
    house.subject.config.forced = CircuitOverride::ForceClosed;
    house.decide(0);
    house.follow();
    house.subject.config.forced = CircuitOverride::Auto;
    assert_eq!(house.decide(1), CircuitState::Open, "back to Auto forgets nothing");
}

#[test]
fn a_status_that_was_restored_from_an_older_copy_goes_on_from_what_replicas_were_told() {
    let mut house = House::probing();
    let later = house.row().sequence;
    house.row = None;
    house.want(1);
    assert_eq!(house.decide(31), CircuitState::Open);
    assert!(house.row().sequence > later);
    assert_eq!(
        house.retry_at(),
        31 + 90,
        "no token while one that nobody remembers could be in use"
    );
    assert!(house.tell(0) && house.tell(1));
}

#[test]
fn a_controller_whose_cache_lags_has_nothing_new_to_say() {
    let mut house = House::opened();
    let old = house.row.clone();
    house.want(0);
    house.decide(30);
    house.follow();
    house.hear(0, ProbeOutcome::Done, 1);
    house.decide(31);
    house.follow();
    house.row = old;
    assert!(!house.tell(0) && !house.tell(1));
}
