use proptest::prelude::*;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::runtime::local::termination::Verdict;

fn crash() -> InferenceError {
    InferenceError::ServerError {
        status: 500,
        body: Some("exit status 1".to_owned()),
    }
}

fn poison() -> InferenceError {
    InferenceError::CudaContextPoisoned {
        message: "CUDA error".to_owned(),
    }
}

fn hang() -> InferenceError {
    InferenceError::Timeout { elapsed_ms: 30_000 }
}

fn target() -> Arc<EngineTarget> {
    Arc::new(EngineTarget {
        address: ([127, 0, 0, 1], 1).into(),
        api_key: Some(SecretString::from("k")),
        model: None,
        context_length: None,
        parallel: 1,
        gone: CancellationToken::new(),
    })
}

fn names(actions: &[Action]) -> Vec<String> {
    actions
        .iter()
        .map(|action| match action {
            Action::Start { pauses } => format!("start+{pauses}"),
            Action::Publish(EngineView::Loading) => "loading".to_owned(),
            Action::Publish(EngineView::Ready(_)) => "ready".to_owned(),
            Action::Publish(EngineView::Restarting(error)) => format!("restarting:{}", error.kind().as_str()),
            Action::Publish(EngineView::Failed(error)) => format!("failed:{}", error.kind().as_str()),
            Action::Kill => "kill".to_owned(),
            Action::Terminate => "terminate".to_owned(),
            Action::Finish(None) => "stopped".to_owned(),
            Action::Finish(Some(termination)) => format!("gave up:{}", termination.reason.reason()),
        })
        .collect()
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn loads_serves_and_stops() {
    let (mut worker, actions) = Worker::start();
    assert_eq!(names(&actions), ["loading", "start+0"]);
    assert_eq!(names(&worker.on(Event::Ready(target()), seconds(1))), ["ready"]);
    assert_eq!(names(&worker.on(Event::Stop, seconds(2))), ["terminate"]);
    assert_eq!(names(&worker.on(Event::Ended(crash()), seconds(3))), ["stopped"]);
}

#[test]
fn a_poisoned_context_is_killed_and_rebuilt() {
    let (mut worker, _) = Worker::start();
    worker.on(Event::Ready(target()), seconds(1));
    assert_eq!(
        names(&worker.on(Event::Sick(poison()), seconds(2))),
        ["restarting:cuda_context_poisoned", "kill"]
    );
    assert_eq!(
        names(&worker.on(Event::Ended(crash()), seconds(3))),
        ["restarting:cuda_context_poisoned", "start+0"]
    );
    assert_eq!(names(&worker.on(Event::Ready(target()), seconds(4))), ["ready"]);
}

#[test]
fn a_hang_that_turns_out_to_be_poison_is_called_poison() {
    let (mut worker, _) = Worker::start();
    worker.on(Event::Ready(target()), seconds(1));
    worker.on(Event::Sick(hang()), seconds(2));
    assert_eq!(
        names(&worker.on(Event::Ended(poison()), seconds(3))),
        ["restarting:cuda_context_poisoned", "start+0"]
    );
}

#[test]
fn an_engine_that_cannot_load_is_given_up_after_three_rebuilds() {
    let (mut worker, _) = Worker::start();
    for pauses in 0..3 {
        let actions = worker.on(Event::Ended(crash()), seconds(pauses));
        assert_eq!(names(&actions), ["restarting:server_error", &format!("start+{pauses}")]);
    }
    let actions = worker.on(Event::Ended(crash()), seconds(9));
    assert_eq!(names(&actions), ["failed:server_error", "gave up:EngineStartFailed"]);
    let Some(Action::Finish(Some(termination))) = actions.last() else {
        panic!("no termination");
    };
    assert_eq!(
        (termination.reason, termination.rebuilds),
        (Verdict::EngineStartFailed, 3)
    );
}

#[test]
fn stop_wins_over_everything() {
    let (mut worker, _) = Worker::start();
    worker.on(Event::Sick(hang()), seconds(1));
    assert_eq!(names(&worker.on(Event::Stop, seconds(2))), ["terminate"]);
    assert!(worker.on(Event::Ready(target()), seconds(3)).is_empty());
    assert_eq!(names(&worker.on(Event::Ended(poison()), seconds(4))), ["stopped"]);
    assert!(worker.on(Event::Stop, seconds(5)).is_empty());
}

fn events() -> impl Strategy<Value = Vec<(u8, u64)>> {
    proptest::collection::vec((0u8..5, 0u64..40), 0..60)
}

proptest! {
    /// Whatever happens in whatever order: at most one context at a time, nothing after the end, and the view after a failure never
    /// says Ready before a new Ready came.
    #[test]
    fn never_two_contexts_and_nothing_after_the_end(events in events()) {
        let (mut worker, actions) = Worker::start();
        let mut started = actions.iter().filter(|a| matches!(a, Action::Start { .. })).count();
        let (mut ended, mut now, mut finished) = (0, Duration::ZERO, false);
        for (kind, gap) in events {
            now += seconds(gap);
            let event = match kind {
                0 => Event::Ready(target()),
                1 => Event::Sick(poison()),
                2 if started > ended => { ended += 1; Event::Ended(crash()) }
                3 => Event::Sick(hang()),
                4 if gap == 7 => Event::Stop,
                _ => continue,
            };
            let came_ready = matches!(event, Event::Ready(_));
            for action in worker.on(event, now) {
                prop_assert!(!finished, "{action:?} after the end");
                match action {
                    Action::Start { .. } => started += 1,
                    Action::Finish(_) => finished = true,
                    Action::Publish(EngineView::Ready(_)) => prop_assert!(came_ready),
                    _ => {}
                }
            }
            prop_assert!(started <= ended + 1);
        }
    }
}
