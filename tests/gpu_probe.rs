//! `inference-runtime gpu-probe` and `gpu-watch`: their real way to the drivers, against drivers that fail as a script says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking, and helpers of tests are no test functions to clippy"
)]

#[path = "support/gpu.rs"]
mod gpu;

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use gpu::{Drivers, UUID};
use inference_operator::runtime::local::gpu::{
    probe::{FAILED, UNAVAILABLE},
    report::{Outcome, Recovery, Report, Sighting, Xid},
};

fn runtime() -> Command {
    Command::new(env!("CARGO_BIN_EXE_inference-runtime"))
}

/// The report and the exit code.
fn run(command: &mut Command) -> (Report, i32) {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        said.lines().count(),
        1,
        "one line: {said:?} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    (serde_json::from_str(&said).unwrap(), output.status.code().unwrap())
}

fn probe(drivers: &Drivers, arguments: &[&str]) -> (Report, i32) {
    run(runtime().arg("gpu-probe").args(arguments).envs(drivers.environment()))
}

/// With a script for the calls.
fn scripted(calls: &str) -> (Report, i32) {
    let drivers = Drivers::new();
    drivers.set("calls", calls);
    probe(&drivers, &[])
}

/// On a machine with a driver nobody can see what is said without one.
fn has_driver() -> bool {
    std::path::Path::new("/proc/driver/nvidia").exists()
}

#[test]
fn without_a_driver_it_says_what_the_loader_says() {
    if has_driver() {
        return;
    }
    let nothing = tempfile::tempdir().unwrap();
    let (report, code) = run(runtime().arg("gpu-probe").env("LD_LIBRARY_PATH", nothing.path()));
    let Outcome::GpuUnavailable { reason } = report.outcome else {
        panic!("this machine has a GPU: {report:?}")
    };
    assert_eq!(code, i32::from(UNAVAILABLE));
    assert_eq!(
        reason,
        "libcuda.so.1: cannot open shared object file: No such file or directory"
    );
    assert!(
        report
            .nvml
            .unwrap()
            .contains("libnvidia-ml.so.1: cannot open shared object file")
    );
}

#[test]
fn a_device_that_works_is_computed_on_and_named() {
    let drivers = Drivers::new();
    drivers.set("recovery", "0");
    let (report, code) = probe(&drivers, &[]);
    assert_eq!((&report.outcome, code), (&Outcome::Works, 0));
    assert_eq!((report.cuda_version, report.kernel_skipped), (Some(13_040), None));
    let device = &report.devices[0];
    assert_eq!((device.uuid.as_str(), device.name.as_str()), (UUID, "Fake GPU"));
    assert_eq!((device.used, device.total), (Some(1000), Some(80_000_000_000)));
    assert_eq!(device.recovery, Some(Recovery::None));
    for call in [
        "cuMemAlloc_v2",
        "cuMemsetD32_v2",
        "cuMemcpyDtoH_v2",
        "cuLaunchKernel",
        "cuCtxSynchronize",
    ] {
        assert!(
            drivers.calls().iter().any(|called| called == call),
            "{call} was not called"
        );
    }
}

#[test]
fn every_device_is_computed_on_and_the_one_that_fails_is_named() {
    let drivers = Drivers::new();
    let second = "ffffffff-4455-6677-8899-aabbccddeeff";
    drivers.set(
        "devices",
        &format!("00112233-4455-6677-8899-aabbccddeeff 1 2\n{second} 1 2\n"),
    );
    drivers.set("calls", "cuCtxSynchronize@2=214");
    let (report, code) = probe(&drivers, &[]);
    let failed = Outcome::CallFailed {
        call: "cuCtxSynchronize".to_owned(),
        code: 214,
        name: Some("CUDA_ERROR_ECC_UNCORRECTABLE".to_owned()),
    };
    assert_eq!((report.outcome, code), (failed, i32::from(FAILED)));
    assert_eq!(report.at, Some(format!("GPU-{second}")));
    assert_eq!(report.devices.len(), 2);
}

#[test]
fn a_part_of_a_device_is_no_whole_one() {
    let drivers = Drivers::new();
    // NVML lists the device, CUDA its part: the script serves both, so that NVML's answer is about another one.
    drivers.set("calls", "cuMemAlloc_v2=700\nnvmlDeviceGetHandleByIndex_v2=2");
    let (report, _) = probe(&drivers, &[]);
    assert_eq!(report.at, Some(UUID.replace("GPU-", "MIG-")));
}

#[test]
fn a_code_that_no_binding_knows_is_a_number() {
    for code in [999_999, 4242, -1, i32::MIN] {
        let (report, exit) = scripted(&format!("cuInit={code}"));
        let failed = Outcome::CallFailed {
            call: "cuInit".to_owned(),
            code,
            name: None,
        };
        assert_eq!((report.outcome, exit), (failed, i32::from(FAILED)));
    }
    let (report, exit) = scripted("nvmlInit_v2=999999\nnvmlDeviceGetFieldValues=4242");
    assert_eq!((report.outcome, exit), (Outcome::Works, 0), "CUDA works without NVML");
    assert!(report.nvml.unwrap().contains("999999"));
    assert_eq!(report.devices[0].uuid, UUID, "CUDA names it");
}

#[test]
fn a_poisoned_call_is_named_with_code_name_and_device() {
    let (report, code) = scripted("cuCtxSynchronize=700");
    let failed = Outcome::CallFailed {
        call: "cuCtxSynchronize".to_owned(),
        code: 700,
        name: Some("CUDA_ERROR_ILLEGAL_ADDRESS".to_owned()),
    };
    assert_eq!((report.outcome, code), (failed, i32::from(FAILED)));
    assert_eq!(report.at.as_deref(), Some(UUID));
}

#[test]
fn a_container_without_a_compiler_for_kernels_still_has_a_gpu() {
    for code in [218, 221] {
        let (report, exit) = scripted(&format!("cuModuleLoadData={code}"));
        assert_eq!((report.outcome, exit), (Outcome::Works, 0));
        assert!(report.kernel_skipped.unwrap().contains(&code.to_string()));
    }
}

#[test]
fn a_function_that_the_driver_lacks_is_no_panic() {
    for (library, function) in [("libcuda.so.1", "cuMemsetD32_v2"), ("libcuda.so.1", "cuInit")] {
        let drivers = Drivers::new();
        drivers.without(library, function);
        let (report, code) = probe(&drivers, &[]);
        let reason = format!("the driver has no {function}");
        assert_eq!(
            (report.outcome, code),
            (Outcome::GpuUnavailable { reason }, i32::from(UNAVAILABLE))
        );
    }
    for function in [
        "nvmlInit_v2",
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlShutdown",
        "nvmlDeviceGetFieldValues",
    ] {
        let drivers = Drivers::new();
        drivers.without("libnvidia-ml.so.1", function);
        let (report, code) = probe(&drivers, &[]);
        assert_eq!((report.outcome, code), (Outcome::Works, 0), "without {function}");
    }
}

#[test]
fn a_driver_that_hangs_is_told_with_the_call_it_hangs_in() {
    for (call, told) in [("cuMemAlloc_v2", "cuMemAlloc_v2"), ("nvmlDeviceGetCount_v2", "NVML")] {
        let drivers = Drivers::new();
        drivers.set("calls", &format!("{call}=hang"));
        let (report, code) = probe(&drivers, &["--limit=1"]);
        let hangs = Outcome::Hangs {
            call: told.to_owned(),
            seconds: 1,
        };
        assert_eq!((report.outcome, code), (hangs, i32::from(FAILED)));
    }
}

#[test]
fn no_device_is_no_gpu() {
    let drivers = Drivers::new();
    drivers.set("devices", "\n");
    let (report, code) = probe(&drivers, &[]);
    let Outcome::GpuUnavailable { reason } = report.outcome else {
        panic!("{report:?}")
    };
    assert!(reason.contains("CUDA_VISIBLE_DEVICES"), "{reason}");
    assert_eq!(code, i32::from(UNAVAILABLE));
}

#[test]
fn memory_is_waited_for_before_the_driver_is_used_and_not_for_ever() {
    let drivers = Drivers::new();
    let full = "00112233-4455-6677-8899-aabbccddeeff 70000000000 80000000000";
    drivers.set("devices", full);
    let idle = format!("--idle={UUID}=1000");
    let began = Instant::now();
    let (report, _) = probe(&drivers, &[&idle, "--free-within=1"]);
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!((report.memory_freed, report.outcome), (Some(false), Outcome::Works));

    let waiting = runtime()
        .args(["gpu-probe", &idle, "--free-within=60"])
        .envs(drivers.environment())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let looks = || {
        drivers
            .calls()
            .iter()
            .filter(|call| *call == "nvmlDeviceGetMemoryInfo_v2")
            .count()
    };
    let before = looks();
    wait_until("it looks again and again", || looks() > before + 3);
    let inits = |calls: &[String]| calls.iter().filter(|call| *call == "cuInit").count();
    assert_eq!(inits(&drivers.calls()), 1, "only the first probe's");
    drivers.set("devices", &full.replace("70000000000", "1000"));
    let output = waiting.wait_with_output().unwrap();
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report.memory_freed, report.outcome), (Some(true), Outcome::Works));
    assert_eq!(inits(&drivers.calls()), 2);
}

#[test]
fn the_watch_tells_what_there_is_and_every_xid() {
    let drivers = Drivers::new();
    drivers.set("xids", "0 13\n");
    let mut child = runtime()
        .arg("gpu-watch")
        .envs(drivers.environment())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Sighting>(&lines.next().expect("a line").unwrap()).unwrap();
    let Sighting::Found { devices, missing } = next() else {
        panic!("an Xid first")
    };
    assert_eq!((devices.len(), devices[0].uuid.as_str(), missing), (1, UUID, None));
    wait_until("it waits for events", || {
        drivers.calls().iter().any(|call| call == "nvmlEventSetWait_v2")
    });
    let xid = |xid, recovery| {
        Sighting::Xid(Xid {
            uuid: UUID.to_owned(),
            xid,
            recovery,
        })
    };
    drivers.set("xids", "0 13\n0 31\n");
    assert_eq!(next(), xid(31, None), "what came before is no news");
    drivers.set("recovery", "1");
    drivers.set("xids", "0 13\n0 31\n0 123456\n");
    assert_eq!(next(), xid(123_456, Some(Recovery::GpuReset)));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn without_a_driver_the_watch_finds_nothing_and_ends() {
    if has_driver() {
        return;
    }
    let nothing = tempfile::tempdir().unwrap();
    let output = runtime()
        .arg("gpu-watch")
        .env("LD_LIBRARY_PATH", nothing.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(i32::from(UNAVAILABLE)));
    let found: Sighting = serde_json::from_slice(&output.stdout).unwrap();
    let Sighting::Found { devices, missing } = found else {
        panic!("{found:?}")
    };
    let reason = missing.expect("the loader's reason");
    assert!(devices.is_empty() && reason.contains("libcuda.so.1"), "{reason}");
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::yield_now();
    }
}
