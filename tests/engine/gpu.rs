//! The ladder on a GPU whose drivers fail as a script says: what a new process finds decides what becomes of the pod.

use std::time::{Duration, Instant};

use inference_operator::{
    api::{GpuFault, GpuFaultReason},
    error::ErrorKind,
    runtime::local::{Termination, Verdict},
};
use tokio::time::timeout;

use crate::{
    bench::{Bench, DEADLINE, Engine, fake, provoke, serves},
    drivers::{Drivers, UUID},
};

/// A bench whose processes find the drivers.
pub fn with(drivers: &Drivers, plan: &str) -> Bench {
    let mut bench = fake(plan);
    let variables = drivers.environment().map(|(name, value)| (name.into(), value.into()));
    bench.options.environment.retain(|(name, _)| name != "LD_LIBRARY_PATH");
    bench.options.environment.extend(variables);
    bench.options.domain.writable.push(drivers.script());
    bench.options.timing.memory = Duration::from_secs(1);
    bench.options.timing.probe = Duration::from_secs(20);
    bench
}

/// A ready engine on a GPU, whose context is then poisoned.
async fn poisoned(drivers: &Drivers) -> Engine {
    let mut engine = with(drivers, "well").start();
    let target = engine.ready().await;
    assert!(serves(&target).await);
    provoke(&target, "cuda-and-stay").await;
    engine
}

/// Until the GPU has a fault that `is`.
async fn fault(engine: &mut Engine, is: impl Fn(&GpuFault) -> bool) -> GpuFault {
    let found = engine.local.gpu.wait_for(|report| {
        let fault = report.as_ref().and_then(|report| report.fault.as_ref());
        fault.is_some_and(&is)
    });
    let found = timeout(DEADLINE, found).await.expect("never such a fault").unwrap();
    found.as_ref().unwrap().fault.clone().unwrap()
}

async fn sound(engine: &mut Engine) {
    let sound = engine
        .local
        .gpu
        .wait_for(|report| report.as_ref().is_some_and(|report| report.fault.is_none()));
    timeout(DEADLINE, sound).await.expect("the fault stays").unwrap();
}

async fn given_up(engine: Engine) -> Termination {
    let (termination, bench) = engine.ended().await;
    let termination = termination.expect("a termination");
    let written = std::fs::read(bench.path("termination-log")).unwrap();
    assert_eq!(serde_json::from_slice::<Termination>(&written).unwrap(), termination);
    termination
}

fn count(drivers: &Drivers, call: &str) -> usize {
    drivers.calls().iter().filter(|called| *called == call).count()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = timeout(DEADLINE, async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn after_poison_a_new_process_shows_that_the_gpu_works_and_an_engine_follows() {
    let drivers = Drivers::new();
    let mut engine = poisoned(&drivers).await;
    let began = Instant::now();
    let fault = fault(&mut engine, |_| true).await;
    assert_eq!(fault.reason, GpuFaultReason::ContextPoisoned);
    assert_eq!(fault.suspects[0].uuid, UUID);
    assert_eq!(engine.restarting().await.kind(), ErrorKind::CudaContextPoisoned);
    let target = engine.ready().await;
    println!(
        "FIGURE ms_from_poison_to_serving_with_probe: {}",
        began.elapsed().as_millis()
    );
    assert!(serves(&target).await);
    assert_eq!(count(&drivers, "cuInit"), 1, "one probe");
    let calls = drivers.calls();
    let place = |call: &str| calls.iter().rposition(|called| called == call).unwrap();
    assert!(
        place("nvmlDeviceGetMemoryInfo_v2") < place("cuInit"),
        "memory is looked at before it is used"
    );
    sound(&mut engine).await;
    let (termination, bench) = engine.stop().await;
    assert_eq!(termination, None);
    assert_eq!(std::fs::read_to_string(bench.path("state/starts")).unwrap(), "xx");
}

#[tokio::test]
async fn a_gpu_that_fails_in_a_new_process_too_is_given_up_without_another_engine() {
    let drivers = Drivers::new();
    let mut engine = with(&drivers, "well").start();
    let target = engine.ready().await;
    drivers.set("calls", "cuCtxSynchronize=214");
    provoke(&target, "cuda-and-stay").await;
    let fault = fault(&mut engine, |fault| fault.reason == GpuFaultReason::GPUFaulty).await;
    assert_eq!(fault.suspects[0].uuid, UUID);
    let termination = given_up(engine).await;
    assert_eq!((termination.reason, termination.rebuilds), (Verdict::GPUFaulty, 0));
    assert_eq!(termination.reason.exit_code(), 85);
    assert_eq!(termination.devices[0].uuid, UUID);
    for words in [
        "cuCtxSynchronize failed with 214",
        "CUDA_ERROR_ECC_UNCORRECTABLE",
        "unspecified launch failure",
    ] {
        assert!(
            termination.message.contains(words),
            "{words} is missing in {}",
            termination.message
        );
    }
}

#[tokio::test]
async fn a_driver_that_crashes_or_hangs_takes_the_probe_and_not_the_runtime() {
    for (call, told) in [
        ("cuMemAlloc_v2=abort", "a new process that used it ended with SIGABRT"),
        ("cuMemAlloc_v2=hang", "cuMemAlloc_v2 did not return within 2 s"),
        ("cuInit=999999", "cuInit failed with 999999 (an unknown code)"),
    ] {
        let drivers = Drivers::new();
        let mut bench = with(&drivers, "well");
        bench.options.timing.probe = Duration::from_secs(2);
        let mut engine = bench.start();
        let target = engine.ready().await;
        drivers.set("calls", call);
        provoke(&target, "cuda-and-stay").await;
        let termination = given_up(engine).await;
        assert_eq!(termination.reason, Verdict::GPUFaulty);
        assert!(
            termination.message.contains(told),
            "{told} is missing in {}",
            termination.message
        );
    }
}

#[tokio::test]
async fn the_driver_is_believed_when_it_asks_for_a_reset_though_a_probe_works() {
    let drivers = Drivers::new();
    drivers.set("recovery", "0");
    let mut engine = with(&drivers, "well").start();
    let target = engine.ready().await;
    drivers.set("recovery", "1");
    provoke(&target, "cuda-and-stay").await;
    let termination = given_up(engine).await;
    assert_eq!(termination.reason, Verdict::GPUFaulty);
    assert!(
        termination.message.contains("the driver asks for a reset of the GPU"),
        "{}",
        termination.message
    );
}

#[tokio::test]
async fn a_system_that_is_not_ready_yet_is_asked_again() {
    let drivers = Drivers::new();
    let mut engine = with(&drivers, "well").start();
    let target = engine.ready().await;
    drivers.set("calls", "cuInit=802");
    provoke(&target, "cuda-and-stay").await;
    until("a second probe", || count(&drivers, "cuInit") >= 2).await;
    drivers.set("calls", "");
    assert!(serves(&*engine.ready().await).await);
}

/// What a sandbox does to the driver is no fault of the GPU.
#[tokio::test]
async fn a_driver_that_the_system_refuses_a_call_convicts_no_gpu() {
    let drivers = Drivers::new();
    let mut engine = with(&drivers, "well").start();
    let target = engine.ready().await;
    drivers.set("calls", "cuInit=304");
    provoke(&target, "cuda-and-stay").await;
    timeout(DEADLINE, target.gone.cancelled())
        .await
        .expect("gone is not cancelled");
    assert!(serves(&*engine.ready().await).await);
    assert_eq!(count(&drivers, "cuInit"), 1, "it is not asked again");
}

#[tokio::test]
async fn an_xid_of_the_device_ends_an_engine_that_seems_well() {
    let drivers = Drivers::new();
    let mut engine = with(&drivers, "well").start();
    let target = engine.ready().await;
    until("it watches", || count(&drivers, "nvmlEventSetWait_v2") > 0).await;
    drivers.set("xids", "0 79\n");
    let began = Instant::now();
    timeout(DEADLINE, target.gone.cancelled())
        .await
        .expect("gone is not cancelled");
    println!("FIGURE ms_from_xid_to_the_last_byte: {}", began.elapsed().as_millis());
    let fault = fault(&mut engine, |_| true).await;
    assert_eq!(
        (fault.suspects[0].uuid.as_str(), fault.suspects[0].xid),
        (UUID, Some(79))
    );
    assert!(fault.message.contains("Xid 79"), "{}", fault.message);
    assert!(serves(&*engine.ready().await).await, "a new process works");
}

/// Between two engines: there is nothing to kill, and no engine is started on what is accused before a new process has tried it.
#[tokio::test]
async fn an_xid_of_the_device_while_no_engine_runs_is_looked_into_at_once() {
    let drivers = Drivers::new();
    let mut bench = with(&drivers, "crash");
    bench.options.timing.pause = Duration::from_secs(60 * 60);
    bench.options.timing.kill = Duration::from_millis(300);
    let mut engine = bench.start();
    until("a second probe", || count(&drivers, "cuInit") >= 2).await;
    // While the second probe still runs an Xid only explains what it finds: the one that comes during the pause is the last.
    let mut xids = String::new();
    while count(&drivers, "cuInit") < 3 {
        xids.push_str("0 79\n");
        drivers.set("xids", &xids);
        let read = || count(&drivers, "nvmlDeviceGetFieldValues") >= xids.lines().count();
        until("it is read", || read() || count(&drivers, "cuInit") >= 3).await;
    }
    let error = engine.restarting().await;
    assert!(error.to_string().contains("Xid 79"), "{error}");
    let (termination, bench) = engine.stop().await;
    assert_eq!(termination, None);
    assert_eq!(std::fs::read_to_string(bench.path("state/starts")).unwrap(), "xx");
}

#[tokio::test]
async fn an_xid_of_a_process_makes_the_engines_end_poison() {
    let drivers = Drivers::new();
    let mut bench = with(&drivers, "well");
    bench.options.timing.idle = Duration::from_secs(60 * 60);
    let mut engine = bench.start();
    let target = engine.ready().await;
    until("it watches", || count(&drivers, "nvmlEventSetWait_v2") > 0).await;
    provoke(&target, "errors").await;
    drivers.set("xids", "0 31\n");
    let error = engine.restarting().await;
    assert_eq!(error.kind(), ErrorKind::CudaContextPoisoned);
    assert!(error.to_string().contains("Xid 31 on GPU-"), "{error}");
}

#[tokio::test]
async fn a_neighbours_xid_ends_nothing() {
    let drivers = Drivers::new();
    let mut engine = with(&drivers, "well").start();
    let target = engine.ready().await;
    until("it watches", || count(&drivers, "nvmlEventSetWait_v2") > 0).await;
    let before = engine.local.activity.beats();
    drivers.set("xids", "0 31\n0 43\n");
    until("the Xids are read", || count(&drivers, "nvmlDeviceGetFieldValues") >= 3).await;
    assert!(serves(&target).await);
    assert!(!target.gone.is_cancelled() && engine.local.activity.beats() == before);
    let (termination, bench) = engine.stop().await;
    assert_eq!(termination, None);
    assert_eq!(std::fs::read_to_string(bench.path("state/starts")).unwrap(), "x");
}

#[tokio::test]
async fn memory_that_stays_taken_is_waited_for_within_bounds() {
    let drivers = Drivers::new();
    let mut engine = with(&drivers, "well").start();
    let target = engine.ready().await;
    drivers.set("devices", &format!("{} 70000000000 80000000000\n", &UUID[4..]));
    provoke(&target, "cuda-and-stay").await;
    let began = Instant::now();
    assert_eq!(engine.restarting().await.kind(), ErrorKind::CudaContextPoisoned);
    assert!(serves(&*engine.ready().await).await);
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert!(count(&drivers, "nvmlDeviceGetMemoryInfo_v2") >= 3);
}

#[tokio::test]
async fn a_model_that_does_not_fit_ends_at_once_and_says_what_is_missing() {
    let drivers = Drivers::new();
    let termination = given_up(with(&drivers, "too-big").start()).await;
    assert_eq!(
        (termination.reason, termination.rebuilds),
        (Verdict::CUDAOutOfMemory, 0)
    );
    assert_eq!(termination.reason.exit_code(), 86);
    let missing = "87.9 GiB could not be allocated; 74.5 GiB of 74.5 GiB were free before the engine started; 13.4 GiB are missing";
    assert!(termination.message.contains(missing), "{}", termination.message);
}

#[tokio::test]
async fn a_held_pod_keeps_its_gpu_without_an_engine_and_without_an_end() {
    let drivers = Drivers::new();
    let mut engine = with(&drivers, "well").start();
    let target = engine.ready().await;
    engine.local.hold.send_replace(Some("GPU is faulty".to_owned()));
    assert_eq!(engine.failed().await.kind(), ErrorKind::CudaContextPoisoned);
    timeout(DEADLINE, target.gone.cancelled())
        .await
        .expect("the engine stays");
    until("the engine is gone", || !crate::bench::is_listening(target.address)).await;
    assert!(!engine.local.ended.is_finished());
    assert_eq!(engine.stop().await.0, None);
}

#[tokio::test]
async fn a_driver_that_hangs_from_the_start_keeps_no_engine_from_being_tried() {
    let drivers = Drivers::new();
    drivers.set("calls", "nvmlInit_v2=hang");
    let mut bench = with(&drivers, "well");
    bench.options.timing.survey = Duration::from_millis(300);
    let mut engine = bench.start();
    assert!(serves(&*engine.ready().await).await);
}
