//! One replica under the merged circuit.

use super::*;
use crate::api::{ProbeOutcome, ProbeToken};

const SEND: Verdict = Verdict::NotCounted;

fn word(sequence: u64, token: Option<u64>) -> Word {
    Word {
        epoch: 0,
        sequence,
        open: Some(OpenForAll {
            opened_at: seconds(0),
            retry_at: seconds(30),
            trips: 1,
            last_error: Some(ErrorKind::ServerError),
            token: token.map(|sequence| ProbeToken { sequence, calls: 1 }),
        }),
        binds: true,
    }
}

fn closed(epoch: u64, sequence: u64) -> Word {
    Word {
        epoch,
        sequence,
        open: None,
        binds: true,
    }
}

fn report(sequence: u64, outcome: ProbeOutcome, succeeded: u32) -> ProbeReport {
    ProbeReport {
        sequence,
        outcome,
        succeeded,
        retry_after_seconds: None,
    }
}

fn healthy() -> Circuit {
    Circuit::new(CircuitConfig {
        consecutive_failures: 1,
        first_token: seconds(10),
        ..CircuitConfig::default()
    })
}

/// Held open, and in possession of token 2, seen at 40 s and accepted.
fn holder() -> Circuit {
    let mut circuit = healthy();
    circuit.obey(&word(1, None), None, seconds(1));
    assert_eq!(
        circuit.obey(&word(2, Some(2)), None, seconds(40)),
        Some(Transition::Probe)
    );
    circuit.accepted(2);
    circuit
}

fn outcome(circuit: &mut Circuit, now: Duration) -> (ProbeOutcome, u32) {
    circuit.tick(now);
    let probe = circuit.view(now).probe.unwrap();
    (probe.outcome, probe.succeeded)
}

#[test]
fn open_for_all_holds_it_open_whatever_the_time() {
    let mut circuit = healthy();
    assert_eq!(circuit.obey(&word(1, None), None, seconds(1)), Some(Transition::Opened));
    for now in [2, 29, 31, 100_000] {
        let refused = circuit.admit(seconds(now)).unwrap_err();
        assert_eq!(refused.retry_at, seconds(now.max(30)), "retryAt is for people");
    }
    assert_eq!(circuit.view(seconds(100_000)).state, CircuitState::Open);
}

#[test]
fn a_token_allows_nothing_before_its_acceptance_stands_and_one_probe_after() {
    let mut circuit = healthy();
    circuit.obey(&word(1, None), None, seconds(1));
    circuit.obey(&word(2, Some(2)), None, seconds(40));
    let view = circuit.view(seconds(40));
    assert_eq!(view.probe, Some(report(2, ProbeOutcome::Accepted, 0)));
    assert!(view.accepting && view.state == CircuitState::Open);
    assert!(circuit.admit(seconds(40)).is_err());
    // The next state of the object holds both the token and the acceptance.
    circuit.obey(
        &word(2, Some(2)),
        Some(report(2, ProbeOutcome::Accepted, 0)),
        seconds(41),
    );
    let view = circuit.view(seconds(41));
    assert!(!view.accepting && view.state == CircuitState::HalfOpen);
    let permits: Vec<_> = (0..1000).filter_map(|_| circuit.admit(seconds(42)).ok()).collect();
    assert_eq!((permits.len(), permits[0].is_probe()), (1, true));
}

#[test]
fn the_outcome_of_a_probe_is_reported_and_closes_nothing_here() {
    for (verdict, expected) in [
        (Verdict::Success, (ProbeOutcome::Done, 1)),
        (FAILURE, (ProbeOutcome::Failed, 0)),
        (SEND, (ProbeOutcome::Inconclusive, 0)),
    ] {
        let mut circuit = holder();
        let permit = circuit.admit(seconds(41)).unwrap();
        assert_eq!(
            circuit.record(permit, verdict, seconds(42), 0.0),
            Some(Transition::Probe)
        );
        assert_eq!(outcome(&mut circuit, seconds(42)), expected);
        assert!(circuit.admit(seconds(43)).is_err(), "the token is used");
        assert_eq!(circuit.view(seconds(43)).state, CircuitState::Open);
    }
}

#[test]
fn the_wait_that_the_provider_asked_of_a_probe_is_reported() {
    let mut circuit = holder();
    let permit = circuit.admit(seconds(41)).unwrap();
    let failure = Verdict::Failure {
        kind: ErrorKind::ServerError,
        retry_after: Some(Duration::from_millis(7_100)),
    };
    circuit.record(permit, failure, seconds(42), 0.0);
    assert_eq!(circuit.view(seconds(42)).probe.unwrap().retry_after_seconds, Some(8));
}

#[test]
fn a_local_refusal_gives_the_probe_to_the_next_request() {
    let mut circuit = holder();
    let permit = circuit.admit(seconds(41)).unwrap();
    assert_eq!(circuit.record(permit, Verdict::Unsent, seconds(41), 0.0), None);
    assert!(circuit.admit(seconds(42)).unwrap().is_probe());
}

#[test]
fn a_holder_without_traffic_hands_the_token_back_unused() {
    let mut circuit = holder();
    assert_eq!(circuit.tick(seconds(54)), None);
    assert!(circuit.admit(seconds(55)).is_err(), "too late to begin");
    assert_eq!(circuit.tick(seconds(55)), Some(Transition::Probe));
    assert_eq!(outcome(&mut circuit, seconds(55)), (ProbeOutcome::Done, 0));
}

#[test]
fn a_token_that_is_taken_back_allows_nothing_and_its_verdict_counts_no_more() {
    let mut circuit = holder();
    let permit = circuit.admit(seconds(41)).unwrap();
    circuit.obey(&word(3, None), None, seconds(42));
    assert_eq!(circuit.record(permit, Verdict::Success, seconds(43), 0.0), None);
    assert_eq!(circuit.view(seconds(43)).probe, None);
    assert!(circuit.admit(seconds(44)).is_err());
}

#[test]
fn a_stream_that_is_healthy_at_the_deadline_counts_as_success_and_one_that_has_not_begun_does_not() {
    for (begun, expected) in [(true, (ProbeOutcome::Done, 1)), (false, (ProbeOutcome::Failed, 0))] {
        let mut circuit = holder();
        let mut permit = circuit.admit(seconds(41)).unwrap();
        if begun {
            circuit.begun(&mut permit);
        }
        // Seen at 40 s; firstToken 10 s + 30 s, of which 10 s are for the report.
        assert_eq!(circuit.tick(seconds(69)), None);
        assert_eq!(outcome(&mut circuit, seconds(70)), expected);
        assert_eq!(
            circuit.record(permit, FAILURE, seconds(71), 0.0),
            None,
            "judged already"
        );
        assert_eq!(outcome(&mut circuit, seconds(71)), expected);
    }
}

#[test]
fn a_process_that_comes_after_the_holder_never_uses_its_token() {
    for (before, expected) in [
        (report(2, ProbeOutcome::Accepted, 0), (ProbeOutcome::Failed, 0)),
        (report(2, ProbeOutcome::Done, 1), (ProbeOutcome::Done, 1)),
    ] {
        let mut circuit = healthy();
        circuit.obey(&word(2, Some(2)), Some(before), seconds(1));
        circuit.accepted(2);
        assert!(circuit.admit(seconds(2)).is_err());
        assert_eq!(outcome(&mut circuit, seconds(2)), expected);
    }
}

#[test]
fn closed_for_all_closes_with_slow_start() {
    let mut circuit = holder();
    let old = circuit.admit(seconds(41)).unwrap();
    assert_eq!(circuit.obey(&closed(1, 3), None, seconds(42)), Some(Transition::Closed));
    assert_eq!((0..100).filter_map(|_| circuit.admit(seconds(43)).ok()).count(), 2);
    assert_eq!(circuit.record(old, FAILURE, seconds(44), 0.0), None);
    assert_eq!(circuit.view(seconds(44)).epoch, 1);
}

#[test]
fn what_a_replica_opened_for_itself_it_probes_for_itself() {
    let mut circuit = healthy();
    circuit.obey(&closed(1, 3), None, seconds(0));
    assert!(call(&mut circuit, FAILURE, seconds(1)));
    circuit.obey(&closed(1, 4), None, seconds(2));
    let view = circuit.view(seconds(2));
    assert_eq!(
        (view.state, view.epoch),
        (CircuitState::Open, 1),
        "not closed by the epoch it belongs to"
    );
    assert!(circuit.admit(seconds(31)).unwrap().is_probe());
}

#[test]
fn a_trip_of_an_earlier_epoch_ends_with_it() {
    let mut circuit = healthy();
    circuit.obey(&closed(1, 3), None, seconds(0));
    assert!(call(&mut circuit, FAILURE, seconds(1)));
    assert_eq!(circuit.obey(&closed(2, 9), None, seconds(2)), Some(Transition::Closed));
}

#[test]
fn a_trip_before_the_first_word_is_kept() {
    let mut circuit = opened();
    assert_eq!(circuit.obey(&closed(1, 3), None, seconds(2)), None);
    assert_eq!(circuit.view(seconds(2)).state, CircuitState::Open);
}

#[test]
fn an_older_word_changes_nothing() {
    let mut circuit = healthy();
    circuit.obey(&closed(1, 3), None, seconds(1));
    assert_eq!(circuit.obey(&word(2, Some(2)), None, seconds(2)), None);
    assert_eq!(circuit.view(seconds(2)).state, CircuitState::Closed);
}

#[test]
fn the_circuit_of_another_key_does_not_bind() {
    let mut circuit = healthy();
    let other = Word {
        binds: false,
        ..word(1, None)
    };
    circuit.obey(&other, None, seconds(1));
    assert_eq!(circuit.view(seconds(1)).state, CircuitState::Closed);
    circuit.obey(&word(1, None), None, seconds(2));
    assert!(circuit.admit(seconds(3)).is_err());
    circuit.obey(&other, None, seconds(4));
    assert!(
        circuit.admit(seconds(4)).unwrap().is_probe(),
        "one probe with the new key"
    );
    assert!(circuit.admit(seconds(4)).is_err());
}

#[test]
fn the_override_goes_before_everything_and_back_to_auto_forgets_nothing() {
    let mut circuit = healthy();
    circuit.obey(&word(1, None), None, seconds(1));
    let forced = |forced| CircuitConfig {
        forced,
        ..CircuitConfig::default()
    };
    circuit.reconfigure(forced(CircuitOverride::ForceClosed));
    assert!((0..10).all(|_| call(&mut circuit, Verdict::Success, seconds(2))));
    assert_eq!(circuit.view(seconds(2)).state, CircuitState::ForcedClosed);
    assert!(circuit.view(seconds(2)).opened_at.is_some(), "open beneath");
    circuit.reconfigure(forced(CircuitOverride::ForceOpen));
    circuit.obey(&word(2, Some(2)), None, seconds(3));
    circuit.accepted(2);
    assert!(
        circuit.admit(seconds(3)).is_err(),
        "a token does not go before the override"
    );
    circuit.reconfigure(forced(CircuitOverride::Auto));
    assert_eq!(circuit.view(seconds(4)).state, CircuitState::HalfOpen);
    assert!(circuit.admit(seconds(4)).unwrap().is_probe());
}

#[test]
fn a_refused_request_is_demand_for_two_minutes() {
    let mut circuit = healthy();
    circuit.obey(&word(1, None), None, seconds(1));
    assert!(!circuit.demand(seconds(1)));
    assert!(circuit.admit(seconds(5)).is_err());
    assert!(circuit.demand(seconds(124)));
    assert!(!circuit.demand(seconds(125)));
}

#[test]
fn a_judged_call_is_a_vote_for_the_window() {
    let mut circuit = healthy();
    assert!(!circuit.view(seconds(5)).judged);
    assert!(call(&mut circuit, SEND, seconds(6)));
    assert!(!circuit.view(seconds(6)).judged, "nothing was learnt");
    assert!(call(&mut circuit, Verdict::Success, seconds(7)));
    assert!(circuit.view(seconds(37)).judged);
    assert!(!circuit.view(seconds(38)).judged);
}

#[derive(Clone, Debug)]
enum Event {
    Admit,
    Record(usize, u8),
    Begin(usize),
    Wait(u64),
    Open,
    Offer,
    Accept,
    Withdraw,
    Close,
    Again,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Admit),
        4 => (any::<usize>(), 0..4_u8).prop_map(|(which, verdict)| Event::Record(which, verdict)),
        1 => any::<usize>().prop_map(Event::Begin),
        3 => (0..40_u64).prop_map(Event::Wait),
        2 => Just(Event::Open),
        3 => Just(Event::Offer),
        3 => Just(Event::Accept),
        1 => Just(Event::Withdraw),
        1 => Just(Event::Close),
        1 => Just(Event::Again),
    ]
}

proptest! {
    /// While it is open for all: nothing is sent without an accepted token, no token allows more than its calls, and nothing but the
    /// close of the merged circuit ends it.
    #[test]
    fn any_sequence_of_words_and_verdicts_keeps_the_promises(events in proptest::collection::vec(event(), 1..150), calls in 1..3_u32) {
        let mut circuit = healthy();
        let (mut now, mut sequence, mut epoch, mut held) = (Duration::ZERO, 0, 0, false);
        let (mut token, mut accepted, mut sent) = (None, false, 0);
        let mut out: Vec<(Permit, Option<u64>)> = Vec::new();
        let mut last = closed(0, 0);
        for event in events {
            let before = last;
            match event {
                Event::Admit => if let Ok(permit) = circuit.admit(now) {
                    if held {
                        prop_assert!(accepted && permit.is_probe(), "nothing is sent while it is open for all");
                        sent += 1;
                        prop_assert!(sent <= calls, "{sent} probes with one token");
                    }
                    out.push((permit, token.filter(|_| held)));
                },
                Event::Record(which, code) if !out.is_empty() => {
                    let (permit, of) = out.swap_remove(which % out.len());
                    let verdict = if code == 3 { Verdict::Unsent } else { verdict_of(code) };
                    if verdict == Verdict::Unsent && of.is_some() && of == token {
                        sent -= 1;
                    }
                    circuit.record(permit, verdict, now, 0.5);
                }
                Event::Begin(which) if !out.is_empty() => {
                    let index = which % out.len();
                    circuit.begun(&mut out[index].0);
                }
                Event::Record(..) | Event::Begin(_) => {}
                Event::Wait(s) => now += seconds(s),
                Event::Open | Event::Withdraw => {
                    sequence += 1;
                    (held, token, accepted, sent) = (true, None, false, 0);
                    last = Word { epoch, ..word(sequence, None) };
                }
                Event::Offer if held => {
                    sequence += 1;
                    (token, accepted, sent) = (Some(sequence), false, 0);
                    last = Word { epoch, ..word(sequence, None) };
                    last.open.as_mut().unwrap().token = Some(ProbeToken { sequence, calls });
                }
                Event::Accept => if let Some(token) = token {
                    accepted = true;
                    circuit.accepted(token);
                },
                Event::Close => {
                    sequence += 1;
                    epoch += 1;
                    (held, token, accepted) = (false, None, false);
                    last = closed(epoch, sequence);
                }
                Event::Offer | Event::Again => { circuit.obey(&last, None, now); }
            }
            if last != before {
                circuit.obey(&last, None, now);
            }
            circuit.tick(now);
            if held {
                prop_assert!(circuit.view(now).opened_at.is_some(), "only the merged close ends it");
            }
        }
        for (permit, _) in out {
            circuit.record(permit, SEND, now, 0.5);
        }
        circuit.obey(&closed(epoch + 1, sequence + 1), None, now);
        now += seconds(3600);
        prop_assert!(circuit.admit(now).is_ok(), "after the close it sends again");
    }
}
