//! `gpu-probe`: whether a new process can compute on the GPUs. Short-lived: it uses the driver and ends.

use std::{
    io::Write,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        mpsc::{RecvTimeoutError, channel},
    },
    thread,
    time::Duration,
};

use super::{
    codes,
    cuda::{CallError, Current, Driver},
    nvml::Management,
    report::{Device, Outcome, Report},
};
use crate::runtime::sync::lock;

/// Name of the subcommand.
pub const SUBCOMMAND: &str = "gpu-probe";
/// Exit code when a GPU does not work.
pub const FAILED: u8 = 90;
/// Exit code when there is no GPU that could be probed.
pub const UNAVAILABLE: u8 = 91;

/// Words of a device's memory that are written and read back.
const WORDS: usize = 64 * 1024;
const PATTERN: u32 = 0x5AA5_C33C;
const THREADS: u32 = 256;
/// A kernel `number` that writes every thread's number to its place in memory.
pub const KERNEL: &std::ffi::CStr =
    match std::ffi::CStr::from_bytes_with_nul(concat!(include_str!("kernel.ptx"), "\0").as_bytes()) {
        Ok(text) => text,
        Err(_) => c"",
    };

/// What a probe is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// Bytes that devices used when no engine ran, by UUID: they are waited for.
    pub idle: Vec<(String, u64)>,
    /// For how long.
    pub free_within: Duration,
    /// After this long the driver counts as hanging.
    pub limit: Duration,
}

/// What is known so far, for when the driver does not come back.
#[derive(Default)]
struct Progress {
    current: Current,
    report: Mutex<Report>,
}

/// Probes, says how it went in one line, and gives the exit code.
#[must_use]
pub fn run(question: Question) -> ExitCode {
    let limit = question.limit;
    let report = probe(question, limit);
    let line = serde_json::to_string(&report).unwrap_or_default();
    // Whoever asked may be gone.
    let _ = writeln!(std::io::stdout(), "{line}");
    ExitCode::from(match report.outcome {
        Outcome::Works => 0,
        Outcome::GpuUnavailable { .. } => UNAVAILABLE,
        Outcome::CallFailed { .. } | Outcome::WrongResult { .. } | Outcome::Hangs { .. } => FAILED,
    })
}

/// The driver is called in a thread of its own: one that never returns is left behind.
fn probe(question: Question, limit: Duration) -> Report {
    let progress = Arc::<Progress>::default();
    let (done, waiting) = channel();
    let inside = Arc::clone(&progress);
    let spawned = thread::Builder::new().spawn(move || {
        look(&question, &inside);
        let _ = done.send(());
    });
    let ended = spawned.map_or(Err(RecvTimeoutError::Disconnected), |_| waiting.recv_timeout(limit));
    let mut report = lock(&progress.report).clone();
    let call = progress.current.get().to_owned();
    match ended {
        Ok(()) => {}
        Err(RecvTimeoutError::Timeout) => {
            report.outcome = Outcome::Hangs {
                call,
                seconds: limit.as_secs(),
            };
        }
        // It panicked, and said why on stderr.
        Err(RecvTimeoutError::Disconnected) => {
            report.outcome = Outcome::WrongResult {
                what: format!("the probe broke off in {call}"),
            };
        }
    }
    report
}

fn look(question: &Question, progress: &Progress) {
    ask_management(question, progress);
    let outcome = match Driver::load(&progress.current) {
        Ok(driver) => compute_everywhere(&driver, progress).unwrap_or_else(|trouble| trouble.outcome(&driver)),
        Err(reason) => Outcome::GpuUnavailable { reason },
    };
    lock(&progress.report).outcome = outcome;
}

/// Devices and memory, before this process itself uses any.
fn ask_management(question: &Question, progress: &Progress) {
    progress.current.set("NVML");
    let asked = Management::load().and_then(|management| {
        let freed = management.await_free(&question.idle, question.free_within)?;
        Ok((freed, management.devices()?))
    });
    let mut report = lock(&progress.report);
    match asked {
        Ok((freed, devices)) => {
            report.memory_freed = (!question.idle.is_empty()).then_some(freed);
            report.devices = devices;
        }
        Err(error) => report.nvml = Some(error.to_string()),
    }
}

/// Why a device is not found to work.
enum Trouble {
    Call(CallError),
    Wrong(String),
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl Trouble {
    fn outcome(self, driver: &Driver<'_>) -> Outcome {
        match self {
            Self::Call(CallError::Code(call, code)) => Outcome::CallFailed {
                call: call.to_owned(),
                code,
                name: driver.error_name(code),
            },
            Self::Call(missing @ CallError::Missing(_)) => Outcome::GpuUnavailable {
                reason: missing.to_string(),
            },
            Self::Wrong(what) => Outcome::WrongResult { what },
        }
    }
}

fn compute_everywhere(driver: &Driver<'_>, progress: &Progress) -> Result<Outcome, Trouble> {
    driver.init()?;
    lock(&progress.report).cuda_version = driver.version().ok();
    let count = driver.device_count()?;
    if count == 0 {
        let reason = "the CUDA driver sees no device: look at CUDA_VISIBLE_DEVICES".to_owned();
        return Ok(Outcome::GpuUnavailable { reason });
    }
    for ordinal in 0..count {
        let device = driver.device(ordinal)?;
        let uuid = name_device(driver, device, progress)?;
        lock(&progress.report).at = Some(uuid);
        driver.context(device)?;
        let skipped = compute(driver)?;
        driver.release(device)?;
        let mut report = lock(&progress.report);
        report.at = None;
        report.kernel_skipped = skipped;
    }
    Ok(Outcome::Works)
}

/// The device's UUID, added to the list where NVML does not make one.
fn name_device(driver: &Driver<'_>, device: i32, progress: &Progress) -> Result<String, CallError> {
    let bytes = driver.uuid(device)?;
    let name = driver.name(device)?;
    let mut report = lock(&progress.report);
    let whole = format!("GPU-{}", hyphenated(bytes));
    if report.nvml.is_some() {
        report.devices.push(Device {
            uuid: whole.clone(),
            name,
            used: None,
            total: None,
            recovery: None,
        });
    }
    if report.devices.iter().any(|known| known.uuid == whole) {
        return Ok(whole);
    }
    // NVML lists whole devices: one that it does not know is a part of one.
    Ok(format!("MIG-{}", hyphenated(bytes)))
}

/// As NVIDIA writes them: 8-4-4-4-12.
fn hyphenated(bytes: [u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| digits.get(range).unwrap_or_default());
    groups.join("-")
}

/// Memory that keeps what is written, and a kernel. Gives why there was no kernel.
fn compute(driver: &Driver<'_>) -> Result<Option<String>, Trouble> {
    let memory = driver.allocate(WORDS * size_of::<u32>())?;
    let mut words = vec![0; WORDS];
    driver.fill(memory, PATTERN, WORDS)?;
    driver.read(memory, &mut words)?;
    if words.iter().any(|word| *word != PATTERN) {
        return Err(Trouble::Wrong("memory does not keep what is written to it".to_owned()));
    }
    let skipped = match driver.function(KERNEL, c"number") {
        Ok(function) => {
            let blocks = u32::try_from(WORDS).unwrap_or(0) / THREADS;
            driver.launch(function, blocks, THREADS, memory)?;
            driver.synchronize()?;
            driver.read(memory, &mut words)?;
            if !words.iter().zip(0..).all(|(word, number)| *word == number) {
                return Err(Trouble::Wrong(
                    "a kernel wrote something else than it computes".to_owned(),
                ));
            }
            None
        }
        Err(error @ CallError::Code(_, code)) if codes::lacks_compiler(code) => Some(error.to_string()),
        Err(error) => return Err(error.into()),
    };
    driver.free(memory)?;
    Ok(skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_reads_as_nvidia_writes_it() {
        let bytes = std::array::from_fn(|n| u8::try_from(n).unwrap() * 0x11);
        assert_eq!(hyphenated(bytes), "00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn the_kernel_is_a_text_that_c_can_read() {
        assert!(KERNEL.to_str().unwrap().contains(".entry number("));
    }
}
