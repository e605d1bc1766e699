//! Real poison: a kernel that writes outside of all memory, and a new process that works again. `make test-gpu` runs it on the GPU of this
//! machine; `make test` on the fake drivers, which do the same, so that it is known to work before there is a GPU.

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

use std::{env, process::Command, time::Instant};

use gpu::Drivers;
use inference_operator::runtime::local::gpu::{
    cuda::{CallError, Current, Driver},
    probe::KERNEL,
    report::{Outcome, Report},
};

/// Set by `make test-gpu`: the drivers of this machine are meant.
const ENV_REAL: &str = "TEST_REAL_GPU";
/// Set in the process that poisons its context.
const ENV_CHILD: &str = "TEST_POISON";

#[test]
fn a_write_outside_of_memory_is_700_for_ever_and_a_new_process_works() {
    if env::var_os(ENV_CHILD).is_some() {
        return poison();
    }
    let drivers = env::var_os(ENV_REAL).is_none().then(Drivers::new);
    let variables = drivers.iter().flat_map(Drivers::environment);
    let variables: Vec<_> = variables.collect();
    let child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "a_write_outside_of_memory_is_700_for_ever_and_a_new_process_works",
            "--nocapture",
        ])
        .env(ENV_CHILD, "yes")
        .envs(variables.clone())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("poisoned"),
        "{said}{}",
        String::from_utf8_lossy(&child.stderr)
    );

    let began = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_inference-runtime"))
        .arg("gpu-probe")
        .envs(variables)
        .output()
        .unwrap();
    println!("FIGURE ms_gpu_probe_after_poison: {}", began.elapsed().as_millis());
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report.outcome, output.status.code()),
        (&Outcome::Works, Some(0)),
        "{report:?}"
    );
    assert_eq!(report.kernel_skipped, None);
    println!("{}", String::from_utf8_lossy(&output.stdout));
}

/// In a process of its own, which never works again.
fn poison() {
    let current = Current::default();
    let driver = Driver::load(&current).unwrap();
    driver.init().unwrap();
    driver.context(driver.device(0).unwrap()).unwrap();
    let kernel = driver.function(KERNEL, c"number").unwrap();
    // No memory is ever at address 0.
    driver.launch(kernel, 1, 32, 0).unwrap();
    assert_eq!(driver.synchronize(), Err(CallError::Code("cuCtxSynchronize", 700)));
    assert_eq!(driver.error_name(700).as_deref(), Some("CUDA_ERROR_ILLEGAL_ADDRESS"));
    let CallError::Code(_, code) = driver.allocate(4096).expect_err("the context is poisoned") else {
        panic!("there is no cuMemAlloc_v2")
    };
    assert_eq!(code, 700, "it stays poisoned");
    println!("poisoned");
}
