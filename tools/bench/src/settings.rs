//! What a run is told by the environment.

use std::{env, time::Duration};

use crate::Failure;

/// What a run is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Times that everything is measured.
    pub rounds: usize,
    /// How long each measurement lasts, after its warm-up.
    pub window: Duration,
    /// How long the runtime is watched under load for growth.
    pub soak: Duration,
    /// The processor of what is measured; `None` leaves processes where the kernel puts them.
    pub subject_cpu: Option<String>,
    /// True when a missed bar is no failure.
    pub report_only: bool,
}

impl Settings {
    /// `ROUNDS`, `WINDOW` and `SOAK` (seconds), `BENCH_SUBJECT_CPU`, `BENCH_REPORT_ONLY`.
    pub fn from_environment() -> Result<Self, Failure> {
        Ok(Self {
            rounds: usize::try_from(number("ROUNDS", 5)?.max(1))?,
            window: Duration::from_secs(number("WINDOW", 2)?.max(1)),
            soak: Duration::from_secs(number("SOAK", 60)?),
            subject_cpu: env::var("BENCH_SUBJECT_CPU").ok().filter(|cpu| !cpu.is_empty()),
            report_only: env::var("BENCH_REPORT_ONLY").is_ok_and(|value| value == "1"),
        })
    }
}

fn number(name: &str, default: u64) -> Result<u64, Failure> {
    match env::var(name) {
        Ok(text) if !text.is_empty() => text
            .parse()
            .map_err(|_| format!("{name}={text:?} must be a whole number of at least 0").into()),
        _ => Ok(default),
    }
}
