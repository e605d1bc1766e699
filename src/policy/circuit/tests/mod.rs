use proptest::prelude::*;

use super::*;

mod followed;

const FAILURE: Verdict = Verdict::Failure {
    kind: ErrorKind::ServerError,
    retry_after: None,
};

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn threshold(consecutive_failures: u32) -> Circuit {
    Circuit::new(CircuitConfig {
        consecutive_failures,
        ..CircuitConfig::default()
    })
}

fn call(circuit: &mut Circuit, verdict: Verdict, now: Duration) -> bool {
    circuit
        .admit(now)
        .map(|permit| circuit.record(permit, verdict, now, 0.0))
        .is_ok()
}

fn opened() -> Circuit {
    let mut circuit = threshold(1);
    assert!(call(&mut circuit, FAILURE, seconds(0)));
    assert_eq!(circuit.view(Duration::ZERO).state, CircuitState::Open);
    circuit
}

#[test]
fn a_dead_provider_gets_exactly_threshold_calls() {
    let mut circuit = threshold(3);
    let sent = (0..50).filter(|_| call(&mut circuit, FAILURE, seconds(1))).count();
    assert_eq!(sent, 3);
}

#[test]
fn half_open_lets_exactly_the_probes_through() {
    let mut circuit = opened();
    let permits: Vec<_> = (0..1000).filter_map(|_| circuit.admit(seconds(30)).ok()).collect();
    assert_eq!(permits.len(), 1);
    assert!(permits[0].is_probe());
    assert_eq!(circuit.view(Duration::ZERO).state, CircuitState::HalfOpen);
}

#[test]
fn a_failed_probe_opens_for_longer() {
    let mut circuit = opened();
    assert_eq!(circuit.view(Duration::ZERO).retry_at, Some(seconds(30)));
    assert!(call(&mut circuit, FAILURE, seconds(30)));
    assert_eq!(circuit.view(Duration::ZERO).retry_at, Some(seconds(30 + 60)));
}

#[test]
fn open_time_never_exceeds_the_maximum() {
    let mut circuit = threshold(1);
    let mut now = seconds(0);
    for _ in 0..40 {
        let permit = circuit.admit(now).unwrap();
        let failure = Verdict::Failure {
            kind: ErrorKind::Timeout,
            retry_after: Some(seconds(100_000)),
        };
        assert_eq!(circuit.record(permit, failure, now, 0.999), Some(Transition::Opened));
        let until = circuit.view(Duration::ZERO).retry_at.unwrap();
        assert_eq!(until, now + seconds(600));
        now = until;
    }
}

#[test]
fn retry_after_lengthens_and_never_shortens() {
    for (asked, expected) in [(5, 30), (120, 120)] {
        let mut circuit = threshold(1);
        let failure = Verdict::Failure {
            kind: ErrorKind::ServerError,
            retry_after: Some(seconds(asked)),
        };
        assert!(call(&mut circuit, failure, seconds(0)));
        assert_eq!(circuit.view(Duration::ZERO).retry_at, Some(seconds(expected)));
    }
}

#[test]
fn a_later_failure_never_moves_the_end_of_the_open_time() {
    let mut circuit = threshold(1);
    let (first, late) = (circuit.admit(seconds(0)).unwrap(), circuit.admit(seconds(0)).unwrap());
    assert_eq!(
        circuit.record(first, FAILURE, seconds(1), 0.0),
        Some(Transition::Opened)
    );
    assert_eq!(circuit.record(late, FAILURE, seconds(20), 0.0), None);
    assert_eq!(circuit.view(Duration::ZERO).retry_at, Some(seconds(31)));
}

#[test]
fn a_success_sent_before_the_trip_does_not_close() {
    let mut circuit = threshold(1);
    let old = circuit.admit(seconds(0)).unwrap();
    assert!(call(&mut circuit, FAILURE, seconds(0)));
    let probe = circuit.admit(seconds(30)).unwrap();
    assert_eq!(circuit.record(old, Verdict::Success, seconds(31), 0.0), None);
    assert_eq!(circuit.view(Duration::ZERO).state, CircuitState::HalfOpen);
    assert_eq!(
        circuit.record(probe, Verdict::Success, seconds(32), 0.0),
        Some(Transition::Closed)
    );
}

#[test]
fn what_is_not_counted_gives_its_probe_back() {
    let mut circuit = opened();
    assert!(call(&mut circuit, Verdict::NotCounted, seconds(30)));
    assert_eq!(circuit.view(Duration::ZERO).state, CircuitState::HalfOpen);
    assert!(call(&mut circuit, Verdict::Success, seconds(31)));
    assert_eq!(circuit.view(Duration::ZERO).state, CircuitState::Closed);
}

#[test]
fn not_counted_never_opens() {
    let mut circuit = threshold(1);
    for _ in 0..1000 {
        assert!(call(&mut circuit, Verdict::NotCounted, seconds(1)));
    }
    assert_eq!(circuit.view(Duration::ZERO).state, CircuitState::Closed);
}

#[test]
fn slow_start_grows_with_every_success_and_then_ends() {
    let mut circuit = opened();
    assert!(call(&mut circuit, Verdict::Success, seconds(30)));
    let burst: Vec<_> = (0..100).filter_map(|_| circuit.admit(seconds(31)).ok()).collect();
    assert_eq!(burst.len(), 2, "at first twice the probes");
    for permit in burst {
        circuit.record(permit, Verdict::Success, seconds(31), 0.0);
    }
    assert_eq!((0..100).filter(|_| circuit.admit(seconds(32)).is_ok()).count(), 4);
    let mut circuit = opened();
    for second in 30..30 + 70 {
        assert!(call(&mut circuit, Verdict::Success, seconds(second)));
    }
    assert_eq!(
        (
            circuit.view(Duration::ZERO).trips,
            circuit.view(Duration::ZERO).last_error
        ),
        (0, None),
        "healthy again"
    );
}

#[test]
fn the_ratio_opens_only_with_enough_calls() {
    let mut circuit = Circuit::new(CircuitConfig {
        consecutive_failures: 1000,
        ..CircuitConfig::default()
    });
    let mut sent = 0;
    while sent < 100
        && call(
            &mut circuit,
            if sent % 2 == 0 { Verdict::Success } else { FAILURE },
            seconds(1),
        )
    {
        sent += 1;
    }
    assert_eq!(sent, 20, "minimumRequests");
}

#[test]
fn old_failures_fade() {
    let mut circuit = Circuit::new(CircuitConfig {
        consecutive_failures: 1000,
        ..CircuitConfig::default()
    });
    for _ in 0..19 {
        assert!(call(&mut circuit, FAILURE, seconds(0)));
    }
    for _ in 0..100 {
        assert!(call(&mut circuit, Verdict::Success, seconds(600)));
    }
    assert!(call(&mut circuit, FAILURE, seconds(600)));
    assert_eq!(circuit.view(Duration::ZERO).state, CircuitState::Closed);
}

#[test]
fn force_open_sends_nothing_and_force_closed_everything() {
    let mut circuit = opened();
    circuit.reconfigure(CircuitConfig {
        forced: CircuitOverride::ForceClosed,
        ..CircuitConfig::default()
    });
    assert!((0..10).all(|_| call(&mut circuit, FAILURE, seconds(1))));
    assert_eq!(circuit.view(Duration::ZERO).state, CircuitState::ForcedClosed);
    circuit.reconfigure(CircuitConfig {
        forced: CircuitOverride::ForceOpen,
        ..CircuitConfig::default()
    });
    assert!(circuit.admit(seconds(1000)).is_err());
    assert_eq!(circuit.view(Duration::ZERO).state, CircuitState::ForcedOpen);
    circuit.reconfigure(CircuitConfig::default());
    assert_eq!(
        circuit.view(Duration::ZERO).state,
        CircuitState::Open,
        "back to Auto forgets nothing"
    );
    assert_eq!(circuit.view(Duration::ZERO).trips, 1);
}

#[test]
fn a_mended_key_earns_one_probe() {
    let mut circuit = Circuit::new(CircuitConfig::default());
    assert_eq!(
        circuit.open_now(ErrorKind::Unauthorized, seconds(0), 0.0),
        Some(Transition::Opened)
    );
    assert_eq!(circuit.open_now(ErrorKind::Unauthorized, seconds(5), 0.0), None);
    assert!(circuit.admit(seconds(1)).is_err());
    assert!(circuit.earn_probe(seconds(2)));
    assert_eq!((0..10).filter_map(|_| circuit.admit(seconds(2)).ok()).count(), 1);
    assert!(!circuit.earn_probe(seconds(3)), "a probe is out already");
}

#[derive(Clone, Debug)]
enum Step {
    Admit,
    Record(usize, u8),
    Wait(u64),
    OpenNow,
    EarnProbe,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Admit),
        4 => (any::<usize>(), 0..3_u8).prop_map(|(which, verdict)| Step::Record(which, verdict)),
        2 => (0..90_u64).prop_map(Step::Wait),
        1 => Just(Step::OpenNow),
        1 => Just(Step::EarnProbe),
    ]
}

const fn verdict_of(code: u8) -> Verdict {
    match code {
        0 => Verdict::Success,
        1 => FAILURE,
        _ => Verdict::NotCounted,
    }
}

proptest! {
    /// Never more probes out than allowed, never a call while open, and it always closes again once the backend is well.
    #[test]
    fn any_sequence_keeps_the_promises(steps in proptest::collection::vec(step(), 1..200), probes in 1..4_u32, jitter in 0.0..1.0_f64) {
        let mut circuit = Circuit::new(CircuitConfig { consecutive_failures: 2, half_open_probes: probes, ..CircuitConfig::default() });
        let (mut now, mut out) = (Duration::ZERO, Vec::new());
        for step in steps {
            match step {
                Step::Admit => {
                    let before = circuit.view(Duration::ZERO);
                    if let Ok(permit) = circuit.admit(now) {
                        let open = before.state == CircuitState::Open && before.retry_at.is_some_and(|at| now < at);
                        prop_assert!(!open, "a call while open");
                        out.push(permit);
                    }
                    let current = out.iter().filter(|p: &&Permit| p.is_probe() && p.round == circuit.round).count();
                    prop_assert!(current <= probes as usize, "{current} probes out");
                }
                Step::Record(which, verdict) if !out.is_empty() => {
                    let permit = out.swap_remove(which % out.len());
                    circuit.record(permit, verdict_of(verdict), now, jitter);
                }
                Step::Record(..) => {}
                Step::Wait(s) => now += seconds(s),
                Step::OpenNow => { circuit.open_now(ErrorKind::Forbidden, now, jitter); }
                Step::EarnProbe => { circuit.earn_probe(now); }
            }
        }
        for permit in out {
            circuit.record(permit, Verdict::NotCounted, now, jitter);
        }
        now += seconds(3600);
        for _ in 0..probes {
            prop_assert!(call(&mut circuit, Verdict::Success, now) , "demand after the backend is back is let through");
        }
        prop_assert_eq!(circuit.view(Duration::ZERO).state, CircuitState::Closed);
    }
}
