use proptest::prelude::*;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::runtime::local::{gpu::report::Device, termination::Verdict};

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

/// The fault of a report, with its suspects.
fn told(report: &GpuReport) -> String {
    let Some(fault) = &report.fault else {
        return "gpu".to_owned();
    };
    let suspects = fault.suspects.iter().map(|suspect| match suspect.xid {
        Some(xid) => format!(" {}:{xid}", suspect.uuid),
        None => format!(" {}", suspect.uuid),
    });
    format!("gpu:{:?}{}", fault.reason, suspects.collect::<String>())
}

/// Two devices.
fn gpus() -> Gpus {
    let devices = ["GPU-a", "GPU-b"].map(|uuid| Device {
        uuid: uuid.to_owned(),
        name: "H100".to_owned(),
        used: Some(0),
        total: Some(24 << 30),
        recovery: None,
    });
    Gpus::found(devices.into(), None, true)
}

fn xid(uuid: &str, xid: u64) -> Event {
    Event::Xid(Xid {
        uuid: uuid.to_owned(),
        xid,
        recovery: None,
    })
}

fn names(actions: &[Action]) -> Vec<String> {
    actions
        .iter()
        .map(|action| match action {
            Action::Start { pauses } => format!("start+{pauses}"),
            Action::Probe { pauses } => format!("probe+{pauses}"),
            Action::Report(report) => told(report),
            Action::Doubt => "doubt".to_owned(),
            Action::Publish(EngineView::Loading) => "loading".to_owned(),
            Action::Publish(EngineView::Ready(_)) => "ready".to_owned(),
            Action::Publish(EngineView::Restarting(error)) => format!("restarting:{}", error.kind().as_str()),
            Action::Publish(EngineView::Downloading(_) | EngineView::NoModel(..)) => {
                "no word of the worker's".to_owned()
            }
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
    let (mut worker, actions) = Worker::start(Gpus::default(), RestartPolicy::default());
    assert_eq!(names(&actions), ["loading", "start+0"]);
    assert_eq!(names(&worker.on(Event::Ready(target()), seconds(1))), ["ready"]);
    assert_eq!(names(&worker.on(Event::Stop, seconds(2))), ["terminate"]);
    assert_eq!(names(&worker.on(Event::Ended(crash().into()), seconds(3))), ["stopped"]);
}

#[test]
fn a_poisoned_context_is_killed_and_rebuilt() {
    let (mut worker, _) = Worker::start(Gpus::default(), RestartPolicy::default());
    worker.on(Event::Ready(target()), seconds(1));
    assert_eq!(
        names(&worker.on(Event::Sick(poison()), seconds(2))),
        ["restarting:cuda_context_poisoned", "kill", "gpu:ContextPoisoned"]
    );
    assert_eq!(
        names(&worker.on(Event::Ended(crash().into()), seconds(3))),
        ["restarting:cuda_context_poisoned", "gpu:ContextPoisoned", "start+0"]
    );
    assert_eq!(
        names(&worker.on(Event::Ready(target()), seconds(4))),
        ["ready", "gpu"],
        "the fault is over, also where no driver tells of GPUs"
    );
}

#[test]
fn a_hang_that_turns_out_to_be_poison_is_called_poison() {
    let (mut worker, _) = Worker::start(Gpus::default(), RestartPolicy::default());
    worker.on(Event::Ready(target()), seconds(1));
    worker.on(Event::Sick(hang()), seconds(2));
    assert_eq!(
        names(&worker.on(Event::Ended(poison().into()), seconds(3))),
        ["restarting:cuda_context_poisoned", "gpu:ContextPoisoned", "start+0"]
    );
}

#[test]
fn an_engine_that_cannot_load_is_given_up_after_three_rebuilds() {
    let (mut worker, _) = Worker::start(Gpus::default(), RestartPolicy::default());
    for pauses in 0..3 {
        let actions = worker.on(Event::Ended(crash().into()), seconds(pauses));
        assert_eq!(names(&actions), ["restarting:server_error", &format!("start+{pauses}")]);
    }
    let actions = worker.on(Event::Ended(crash().into()), seconds(9));
    assert_eq!(names(&actions), ["failed:server_error", "gave up:EngineStartFailed"]);
    let Some(Action::Finish(Some(termination))) = actions.last() else {
        panic!("no termination");
    };
    assert_eq!(
        (termination.reason, termination.rebuilds),
        (Verdict::EngineStartFailed, 3)
    );
}

/// llama.cpp's last lines are lost in one of a hundred ends on a busy machine.
#[test]
fn a_start_that_fails_without_a_word_has_those_of_the_one_before_it() {
    let (mut worker, _) = Worker::start(Gpus::default(), RestartPolicy::default());
    let silent = Ending {
        explained: false,
        ..crash().into()
    };
    let told = |body: &str| InferenceError::ServerError {
        status: 500,
        body: Some(body.to_owned()),
    };
    let mut message = |ending: Ending| match worker.on(Event::Ended(ending), seconds(1)).remove(0) {
        Action::Publish(EngineView::Restarting(error) | EngineView::Failed(error)) => said(&error),
        other => panic!("{other:?}"),
    };
    assert_eq!(message(silent.clone()), "exit status 1");
    assert_eq!(message(told("invalid magic").into()), "invalid magic");
    for _ in 0..2 {
        assert_eq!(message(silent.clone()), "exit status 1; before that: invalid magic");
    }
}

/// vLLM needs half a minute even for a tiny model.
#[test]
fn an_engine_that_loads_slowly_and_dies_whenever_it_serves_is_given_up() {
    let (mut worker, _) = Worker::start(Gpus::default(), RestartPolicy::default());
    for round in 1..4 {
        worker.on(Event::Ready(target()), seconds(round * 40));
        let actions = worker.on(Event::Ended(crash().into()), seconds(round * 40 + 1));
        assert_eq!(names(&actions), ["restarting:server_error", "start+0"]);
    }
    worker.on(Event::Ready(target()), seconds(160));
    let actions = worker.on(Event::Ended(crash().into()), seconds(161));
    assert_eq!(names(&actions), ["failed:server_error", "gave up:EngineRestarting"]);
}

#[test]
fn stop_wins_over_everything() {
    let (mut worker, _) = Worker::start(Gpus::default(), RestartPolicy::default());
    worker.on(Event::Sick(hang()), seconds(1));
    assert_eq!(names(&worker.on(Event::Stop, seconds(2))), ["terminate"]);
    assert!(worker.on(Event::Ready(target()), seconds(3)).is_empty());
    assert_eq!(
        names(&worker.on(Event::Ended(poison().into()), seconds(4))),
        ["stopped"]
    );
    assert!(worker.on(Event::Stop, seconds(5)).is_empty());
}

/// A worker whose engine is ready, on two GPUs.
fn serving() -> Worker {
    let (mut worker, actions) = Worker::start(gpus(), RestartPolicy::default());
    assert_eq!(names(&actions), ["loading", "gpu", "start+0"]);
    worker.on(Event::Ready(target()), seconds(1));
    worker
}

/// A worker whose context is poisoned and gone.
fn poisoned() -> Worker {
    let mut worker = serving();
    assert_eq!(
        names(&worker.on(Event::Sick(poison()), seconds(2))),
        [
            "restarting:cuda_context_poisoned",
            "kill",
            "gpu:ContextPoisoned GPU-a GPU-b"
        ]
    );
    assert_eq!(
        names(&worker.on(Event::Ended(crash().into()), seconds(3))),
        [
            "restarting:cuda_context_poisoned",
            "gpu:ContextPoisoned GPU-a GPU-b",
            "probe+0"
        ],
        "no engine before a new process has shown that the GPU works"
    );
    worker
}

#[test]
fn a_gpu_that_works_in_a_new_process_gets_a_new_engine() {
    let mut worker = poisoned();
    assert_eq!(
        names(&worker.on(Event::Probed(Finding::Sound), seconds(4))),
        ["restarting:cuda_context_poisoned", "start+0"]
    );
    assert_eq!(
        names(&worker.on(Event::Ready(target()), seconds(5))),
        ["ready", "gpu"],
        "the fault is over"
    );
}

#[test]
fn a_gpu_that_does_not_is_given_up_at_once_with_its_uuid() {
    let mut worker = poisoned();
    let finding = Finding::Faulty {
        why: "in a new process, cuInit failed with 999 (CUDA_ERROR_UNKNOWN)".to_owned(),
        uuid: Some("GPU-b".to_owned()),
    };
    let actions = worker.on(Event::Probed(finding), seconds(4));
    assert_eq!(
        names(&actions),
        [
            "gpu:GPUFaulty GPU-b",
            "failed:cuda_context_poisoned",
            "gave up:GPUFaulty"
        ]
    );
    let Some(Action::Finish(Some(termination))) = actions.last() else {
        panic!("no termination");
    };
    assert_eq!(
        (termination.rebuilds, termination.devices[0].uuid.as_str()),
        (0, "GPU-b")
    );
    assert!(
        termination.message.contains("cuInit failed with 999") && termination.message.contains("CUDA error"),
        "{}",
        termination.message
    );
}

#[test]
fn a_gpu_that_is_busy_is_probed_again_and_then_left_to_the_engine() {
    let mut worker = poisoned();
    let busy = || Event::Probed(Finding::Busy("cuInit failed with 802".to_owned()));
    for pauses in 1..PROBES {
        assert_eq!(names(&worker.on(busy(), seconds(4))), [format!("probe+{pauses}")]);
    }
    assert_eq!(
        names(&worker.on(busy(), seconds(20))),
        ["restarting:cuda_context_poisoned", "start+0"]
    );
}

#[test]
fn every_end_of_an_engine_on_a_gpu_is_probed_and_the_policy_holds_all_the_same() {
    let (mut worker, _) = Worker::start(gpus(), RestartPolicy::default());
    for pauses in 0..3 {
        assert_eq!(
            names(&worker.on(Event::Ended(crash().into()), seconds(pauses))),
            ["restarting:server_error", "probe+0"]
        );
        let actions = worker.on(Event::Probed(Finding::Sound), seconds(pauses));
        assert_eq!(names(&actions), ["restarting:server_error", &format!("start+{pauses}")]);
    }
    worker.on(Event::Ended(crash().into()), seconds(9));
    let actions = worker.on(Event::Probed(Finding::Sound), seconds(9));
    assert_eq!(names(&actions), ["failed:server_error", "gave up:EngineStartFailed"]);
}

#[test]
fn an_xid_of_the_device_ends_the_context_at_once() {
    let mut worker = serving();
    assert_eq!(
        names(&worker.on(xid("GPU-b", 79), seconds(2))),
        [
            "restarting:cuda_context_poisoned",
            "kill",
            "gpu:ContextPoisoned GPU-b:79"
        ]
    );
}

#[test]
fn an_xid_of_a_process_is_a_doubt_and_explains_what_comes_of_it() {
    let mut worker = serving();
    assert_eq!(
        names(&worker.on(xid("GPU-a", 31), seconds(2))),
        ["doubt"],
        "it may be a neighbour's"
    );
    assert!(
        worker.on(xid("GPU-z", 79), seconds(2)).is_empty(),
        "another pod's device"
    );
    assert!(worker.on(xid("GPU-a", 43), seconds(2)).is_empty());
    assert_eq!(
        names(&worker.on(Event::Sick(hang()), seconds(3))),
        [
            "restarting:cuda_context_poisoned",
            "kill",
            "gpu:ContextPoisoned GPU-a:31"
        ]
    );
}

#[test]
fn an_xid_that_the_engine_outlived_explains_no_later_end() {
    let mut worker = serving();
    assert_eq!(names(&worker.on(xid("GPU-a", 31), seconds(2))), ["doubt"]);
    assert!(worker.on(Event::Answered, seconds(3)).is_empty());
    assert_eq!(
        names(&worker.on(Event::Ended(crash().into()), seconds(400_000))),
        ["restarting:server_error", "probe+0"]
    );
    // What comes then is of this end.
    worker.on(xid("GPU-b", 31), seconds(400_001));
    worker.on(Event::Answered, seconds(400_001));
    assert_eq!(
        names(&worker.on(Event::Probed(Finding::Sound), seconds(400_002))),
        ["restarting:cuda_context_poisoned", "start+0"]
    );
}

#[test]
fn an_xid_that_comes_late_is_still_told() {
    let mut worker = poisoned();
    assert_eq!(
        names(&worker.on(xid("GPU-a", 31), seconds(4))),
        ["gpu:ContextPoisoned GPU-a:31"]
    );
}

/// An engine's end for want of GPU memory.
fn short() -> Ending {
    let line = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.68 GiB of which 1.20 GiB is free.";
    Ending {
        error: InferenceError::Backpressure {
            message: line.to_owned(),
        },
        short: crate::runtime::local::shortage::read(line).map(|short| (short, line.to_owned())),
        explained: true,
    }
}

/// As vLLM ends: its front answers the canary with 500 while the process that computed tells why it is no more.
#[test]
fn memory_that_ran_out_outranks_the_canary_that_failed_of_it() {
    let mut worker = serving();
    for error in [crash(), hang()] {
        worker.on(Event::Sick(error), seconds(2));
        assert_eq!(
            names(&worker.on(Event::Ended(short()), seconds(3))),
            ["restarting:backpressure", "probe+0"]
        );
        worker.on(Event::Probed(Finding::Sound), seconds(3));
        worker.on(Event::Ready(target()), seconds(4));
    }
    worker.on(xid("GPU-a", 79), seconds(5));
    assert_eq!(
        names(&worker.on(Event::Ended(short()), seconds(6)))[0],
        "restarting:cuda_context_poisoned",
        "but not poison"
    );
}

#[test]
fn a_first_canary_that_fails_for_want_of_memory_is_a_model_that_does_not_fit() {
    let (mut worker, _) = Worker::start(gpus(), RestartPolicy::default());
    worker.on(Event::Sick(crash()), seconds(1));
    assert_eq!(
        names(&worker.on(Event::Ended(short()), seconds(2))),
        ["failed:server_error", "gave up:CUDAOutOfMemory"]
    );
}

#[test]
fn a_gpu_of_which_nobody_can_tell_gets_a_new_engine_at_once() {
    let mut worker = poisoned();
    let unclear = Finding::Unclear("cuInit failed with 304".to_owned());
    assert_eq!(
        names(&worker.on(Event::Probed(unclear), seconds(4))),
        ["restarting:cuda_context_poisoned", "start+0"]
    );
}

#[test]
fn a_model_that_does_not_fit_is_given_up_at_once_with_what_is_missing() {
    let (mut worker, _) = Worker::start(gpus(), RestartPolicy::default());
    let actions = worker.on(Event::Ended(short()), seconds(1));
    assert_eq!(names(&actions), ["failed:server_error", "gave up:CUDAOutOfMemory"]);
    let Some(Action::Finish(Some(termination))) = actions.last() else {
        panic!("no termination");
    };
    assert!(
        termination.message.contains("0.8 GiB are missing"),
        "{}",
        termination.message
    );
    let mut worker = serving();
    assert_eq!(
        names(&worker.on(Event::Ended(short()), seconds(2))),
        ["restarting:backpressure", "probe+0"],
        "while it serves it is overload"
    );
}

#[test]
fn a_held_pod_has_no_engine_and_does_not_end() {
    let mut worker = serving();
    assert_eq!(
        names(&worker.on(Event::Hold("GPU-a is faulty".to_owned()), seconds(2))),
        ["failed:cuda_context_poisoned", "terminate", "gpu:GPUFaulty GPU-a GPU-b"]
    );
    assert!(worker.on(Event::Ended(crash().into()), seconds(3)).is_empty());
    assert!(worker.on(xid("GPU-a", 79), seconds(3)).is_empty());
    assert_eq!(names(&worker.on(Event::Stop, seconds(4))), ["terminate"]);
    assert_eq!(names(&worker.on(Event::Ended(crash().into()), seconds(5))), ["stopped"]);
}

fn events() -> impl Strategy<Value = Vec<(u8, u64)>> {
    proptest::collection::vec((0u8..11, 0u64..40), 0..60)
}

proptest! {
    /// Whatever happens in whatever order: at most one context at a time, nothing after the end, and the view after a failure never
    /// says Ready before a new Ready came.
    #[test]
    fn never_two_contexts_and_nothing_after_the_end(events in events(), on_gpus in any::<bool>()) {
        let (mut worker, actions) = Worker::start(if on_gpus { gpus() } else { Gpus::default() }, RestartPolicy::default());
        // A GPU is never computed on after an end before a new process has shown that it works.
        let mut proved = true;
        let mut started = actions.iter().filter(|a| matches!(a, Action::Start { .. })).count();
        let (mut ended, mut now, mut finished) = (0, Duration::ZERO, false);
        for (kind, gap) in events {
            now += seconds(gap);
            let event = match kind {
                0 => Event::Ready(target()),
                1 => Event::Sick(poison()),
                2 if started > ended => { ended += 1; proved = false; Event::Ended(crash().into()) }
                3 => Event::Sick(hang()),
                4 if gap == 7 => Event::Stop,
                5 => { proved = true; Event::Probed(Finding::Sound) }
                6 => xid("GPU-a", if gap % 2 == 0 { 79 } else { 31 }),
                7 => Event::Probed(Finding::Busy(String::new())),
                8 if gap == 3 => Event::Probed(Finding::Faulty { why: String::new(), uuid: None }),
                9 if gap == 5 => Event::Hold(String::new()),
                10 => Event::Answered,
                _ => continue,
            };
            let came_ready = matches!(event, Event::Ready(_));
            let busy = matches!(event, Event::Probed(Finding::Busy(_)));
            for action in worker.on(event, now) {
                prop_assert!(!finished, "{action:?} after the end");
                match action {
                    Action::Start { .. } => {
                        prop_assert!(proved || !on_gpus || busy);
                        started += 1;
                    }
                    Action::Finish(_) => finished = true,
                    Action::Publish(EngineView::Ready(_)) => prop_assert!(came_ready),
                    _ => {}
                }
            }
            prop_assert!(started <= ended + 1);
        }
    }
}
