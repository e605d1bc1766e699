//! What an engine's log and exit status say: pure. Each pattern is pinned by a recorded line in the tests.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::{
    shortage::{self, Shortage},
    termination::truncate,
};
use crate::error::InferenceError;

const LINE_LIMIT: usize = 400;
/// Lines after one that tells of a lack of memory or of a refused call in which a CUDA error without a cause of its own is its echo.
const ECHO: usize = 200;

/// What one line of a log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symptom {
    /// The CUDA context is poisoned.
    Poisoned,
    /// Memory ran out, of the GPU or the host. Not poison, though llama.cpp aborts on it.
    OutOfMemory,
    /// CUDA refused a call and its context is as good as before: the image, a flag or the driver is wrong, not the GPU.
    Refused,
    /// The engine has met an error that ends it.
    Fatal,
    /// Any other line of level error.
    Error,
}

/// Looked for in this order: a failed allocation is reported as a CUDA error too, and in a poisoned context allocations fail.
const OUT_OF_MEMORY: [&str; 2] = ["out of memory", "outofmemoryerror"];
/// CUDA's texts and names of what only the end of the process clears.
const STICKY: [&str; 15] = [
    "illegal memory access",
    "device-side assert",
    "unspecified launch failure",
    "misaligned address",
    "uncorrectable ecc",
    "uncorrectable nvlink",
    "hardware stack error",
    "illegal instruction",
    "on global/shared address space",
    "invalid program counter",
    "launch timed out",
    "error_illegal_address",
    "errorillegaladdress",
    "error_launch_failed",
    "errorlaunchfailure",
];
const ALLOCATION: [&str; 2] = ["cudamalloc failed", "failed to allocate buffer"];
/// The last is the text of 304, which PyTorch writes without the word error.
const CUDA: [&str; 5] = [
    "cuda error",
    "cuda_error_",
    "acceleratorerror",
    "cudaerror",
    "os call failed",
];
/// Before the text of a CUDA error: llama.cpp goes on, on the CPU.
const BEGINNING: &str = "failed to initialize cuda";
/// CUDA's texts and names of errors that leave the context as it was (their codes are 1, 3, 35, 36, 46, 98 to 101, 200 to 223, 304, 400,
/// 701 to 705, 720, 801 to 804, 900 to 908).
const REFUSED: [&str; 43] = [
    "invalid argument",
    "invalid configuration argument",
    "invalid device ordinal",
    "invalid device function",
    "invalid device context",
    "invalid resource handle",
    "no kernel image",
    "kernel image is invalid",
    "no cuda-capable device",
    "busy or unavailable",
    "driver version is insufficient",
    "in the installed cuda driver",
    "unsupported display driver",
    "forward compatibility",
    "initialization error",
    "system not yet initialized",
    "ptx jit",
    "provided ptx",
    "peer access",
    "too many resources requested",
    "too many blocks in cooperative launch",
    "operation not supported",
    "stream is capturing",
    "previous error during capture",
    "capture sequence",
    "capturing stream",
    "uncaptured work",
    "error_no_binary_for_gpu",
    "errornokernelimage",
    "error_invalid_device",
    "errorinvaliddevice",
    "error_invalid_value",
    "errorinvalidvalue",
    "error_no_device",
    "errornodevice",
    "error_not_initialized",
    "errorinsufficientdriver",
    "error_not_supported",
    "errornotsupported",
    "error_stream_capture",
    "errorstreamcapture",
    "error_operating_system",
    "erroroperatingsystem",
];
const FATAL: [&str; 5] = [
    "enginedeaderror",
    "enginecore encountered",
    "scheduler hit an exception",
    "ggml_abort",
    "ggml_assert",
];

/// What a line says in any engine, whatever its case.
#[must_use]
pub fn common(line: &str) -> Option<Symptom> {
    let line = line.to_ascii_lowercase();
    let has = |patterns: &[&str]| patterns.iter().any(|pattern| line.contains(pattern));
    if has(&OUT_OF_MEMORY) {
        Some(Symptom::OutOfMemory)
    } else if has(&STICKY) {
        Some(Symptom::Poisoned)
    } else if has(&ALLOCATION) {
        Some(Symptom::OutOfMemory)
    } else if has(&CUDA) || (line.contains("nccl") && line.contains("unhandled cuda")) {
        Some(if has(&REFUSED) {
            Symptom::Refused
        } else {
            Symptom::Poisoned
        })
    } else if line.contains(BEGINNING) && has(&REFUSED) {
        Some(Symptom::Refused)
    } else {
        has(&FATAL).then_some(Symptom::Fatal)
    }
}

/// It names what only the end of the process clears, and is no echo of anything.
fn is_sticky(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    STICKY.iter().any(|pattern| line.contains(pattern))
}

/// What is said of a call that CUDA refused.
fn no_fault(line: &str) -> String {
    format!(
        "CUDA refused a call, which is a matter of the image, its arguments or the driver and no fault of the GPU: {line}"
    )
}

/// How a context ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// Its failure, while it serves.
    pub error: InferenceError,
    /// The memory of a GPU was short, with the line that says so: while the engine loads, the model does not fit.
    pub short: Option<(Shortage, String)>,
    /// The log says why. The last lines of an engine may be lost with it: llama.cpp's are written by a thread of their own.
    pub explained: bool,
}

impl From<InferenceError> for Ending {
    fn from(error: InferenceError) -> Self {
        Self {
            error,
            short: None,
            explained: true,
        }
    }
}

/// What an engine may survive, each by its first line: later ones are its consequences.
#[derive(Clone, Debug, Default)]
struct Told {
    /// The context is poisoned: whoever lives on was told so by somebody else.
    poison: Option<String>,
    /// Memory ran out. It must not hide what comes later.
    memory: Option<String>,
    fatal: Option<String>,
    error: Option<String>,
}

/// What was seen of a context until it ended.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Told before the last sign of life.
    earlier: Told,
    /// Told since.
    told: Told,
    /// Lines that said that the context is poisoned.
    accusations: u64,
    /// Lines that may still be an echo of a lack of memory or of a refused call.
    echo: usize,
    last: Option<String>,
}

impl Evidence {
    /// Take a line of the log in.
    pub fn note(&mut self, symptom: Option<Symptom>, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        let line = truncate(line, LINE_LIMIT);
        let echo = self.echo > 0 && !is_sticky(&line);
        self.echo = self.echo.saturating_sub(1);
        match symptom {
            Some(Symptom::Poisoned) if !echo => {
                self.accusations += 1;
                self.told.poison.get_or_insert_with(|| line.clone());
            }
            Some(Symptom::OutOfMemory) => {
                self.told.memory.get_or_insert_with(|| line.clone());
                self.echo = ECHO;
            }
            Some(Symptom::Refused) => {
                self.told.fatal.get_or_insert_with(|| no_fault(&line));
                self.echo = ECHO;
            }
            Some(Symptom::Fatal) => {
                self.told.fatal.get_or_insert_with(|| line.clone());
            }
            Some(Symptom::Error) => {
                self.told.error.get_or_insert_with(|| line.clone());
            }
            Some(Symptom::Poisoned) | None => {}
        }
        self.last = Some(line);
    }

    /// A sign of life. It may have been on its way when the last lines were written; what was told before the sign of life before it the
    /// engine has survived, and whatever it ends of is something else.
    pub fn survived(&mut self) {
        self.earlier = std::mem::take(&mut self.told);
        if self.earlier.memory.is_none() && self.earlier.fatal.is_none() {
            self.echo = 0;
        }
    }

    /// How often it was said that the context is poisoned.
    #[must_use]
    pub const fn accusations(&self) -> u64 {
        self.accusations
    }

    /// The context works, though it was said so often that it is poisoned: somebody else said so. What was said since stays.
    pub fn acquit(&mut self, accusations: u64) {
        if self.accusations == accusations {
            (self.earlier.poison, self.told.poison) = (None, None);
        }
    }

    fn first<'a>(&'a self, pick: impl Fn(&'a Told) -> &'a Option<String>) -> Option<&'a String> {
        pick(&self.earlier).as_ref().or(pick(&self.told).as_ref())
    }

    fn memory(&self) -> Option<&String> {
        self.first(|told| &told.memory)
    }

    /// What should have ended the engine since its last sign of life.
    #[must_use]
    pub fn outlived(&self) -> Option<&str> {
        self.told.fatal.as_deref()
    }

    /// The line that says that the context is poisoned.
    #[must_use]
    pub fn poison(&self) -> Option<&str> {
        self.first(|told| &told.poison).map(String::as_str)
    }

    /// How a context ended whose process ended with `status`. `oom_killed`: the kernel killed a process of the container for its memory.
    #[must_use]
    pub fn ending(&self, status: ExitStatus, oom_killed: bool) -> Ending {
        let memory = self.memory().filter(|_| !oom_killed && self.poison().is_none());
        let short = memory.and_then(|line| Some((shortage::read(line)?, line.clone())));
        Ending {
            error: self.failure(status, oom_killed),
            short,
            explained: oom_killed || self.poison().is_some() || self.memory().is_some() || self.reason().is_some(),
        }
    }

    fn failure(&self, status: ExitStatus, oom_killed: bool) -> InferenceError {
        if oom_killed {
            return InferenceError::Backpressure {
                message: format!(
                    "the kernel killed the engine for its memory ({}); raise resources.limits.memory, or lower contextLength or parallel",
                    describe(status)
                ),
            };
        }
        match (self.poison(), self.memory()) {
            (Some(line), _) => InferenceError::CudaContextPoisoned {
                message: line.to_owned(),
            },
            (None, Some(line)) => InferenceError::Backpressure {
                message: format!(
                    "the engine ran out of memory: {line}; use a larger GPU or memory limit, or lower contextLength or parallel"
                ),
            },
            (None, None) => InferenceError::ServerError {
                status: 500,
                body: Some(format!(
                    "the engine ended unasked with {}: {}",
                    describe(status),
                    self.cause()
                )),
            },
        }
    }

    fn reason(&self) -> Option<&String> {
        self.first(|told| &told.fatal).or(self.first(|told| &told.error))
    }

    fn cause(&self) -> &str {
        let line = self.reason().or(self.last.as_ref());
        line.map_or("it logged nothing", String::as_str)
    }
}

/// An exit status in words.
fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(name) => format!("signal {signal} ({name})"),
            Err(_) => format!("signal {signal}"),
        },
        (None, code) => format!("exit status {}", code.unwrap_or(-1)),
    }
}

#[cfg(test)]
mod tests;
