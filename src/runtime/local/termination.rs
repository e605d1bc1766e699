//! Why the process ended: a typed exit code and a JSON termination message (design section 10), for the controller to read from
//! `containerStatuses[].lastState.terminated`.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    api::{GpuSuspect, conditions::reason},
    error::{ErrorKind, InferenceError},
};

/// Most bytes the kubelet takes from a container's termination message.
pub const MESSAGE_LIMIT: usize = 4096;
const TEXT_LIMIT: usize = 1024;
/// Devices that are still named when the message is too long.
const DEVICES_LEFT: usize = 4;

/// The supervisor's verdict on an engine that it gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// What the pod was told to run cannot be run: a wrong flag, no such engine, no model.
    InvalidSpec,
    /// The engine ended before it answered its first canary, again and again.
    EngineStartFailed,
    /// The engine served and then ended or hung, again and again.
    EngineRestarting,
    /// CUDA contexts are poisoned again and again.
    ContextPoisoned,
    /// The engine runs out of memory again and again.
    OOMKilled,
    /// A GPU does not work in a new process either.
    GPUFaulty,
    /// The model does not fit into the GPU's memory.
    CUDAOutOfMemory,
    /// The token of the model's source is missing or refused.
    DownloadUnauthorized,
    /// The model's source does not exist.
    DownloadNotFound,
    /// The model does not fit onto the disk.
    DownloadNoSpace,
    /// The model's bytes are not what they should be.
    DownloadChecksumMismatch,
    /// The model's source does not answer, or the disk fails.
    DownloadFailed,
}

impl Verdict {
    /// Exit code of the process; outside of what shells, signals (128 and up) and clap (2) use.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::InvalidSpec => 80,
            Self::EngineStartFailed => 81,
            Self::EngineRestarting => 82,
            Self::ContextPoisoned => 83,
            Self::OOMKilled => 84,
            Self::GPUFaulty => 85,
            Self::CUDAOutOfMemory => 86,
            Self::DownloadUnauthorized => 87,
            Self::DownloadNotFound => 88,
            Self::DownloadNoSpace => 89,
            // 90 to 92 are those of gpu-probe.
            Self::DownloadChecksumMismatch => 93,
            Self::DownloadFailed => 94,
        }
    }

    /// The reason that a condition gives for it.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::InvalidSpec => reason::INVALID_SPEC,
            Self::EngineStartFailed => reason::ENGINE_START_FAILED,
            Self::EngineRestarting => reason::ENGINE_RESTARTING,
            Self::ContextPoisoned => reason::CONTEXT_POISONED,
            Self::OOMKilled => reason::OOM_KILLED,
            Self::GPUFaulty => reason::GPU_FAULTY,
            Self::CUDAOutOfMemory => reason::CUDA_OUT_OF_MEMORY,
            Self::DownloadUnauthorized => reason::DOWNLOAD_UNAUTHORIZED,
            Self::DownloadNotFound => reason::DOWNLOAD_NOT_FOUND,
            Self::DownloadNoSpace => reason::DOWNLOAD_NO_SPACE,
            Self::DownloadChecksumMismatch => reason::DOWNLOAD_CHECKSUM_MISMATCH,
            Self::DownloadFailed => reason::DOWNLOAD_FAILED,
        }
    }

    /// The verdict on a context that ended with `error`.
    #[must_use]
    pub const fn of(error: &InferenceError, was_ready: bool) -> Self {
        match error.kind() {
            ErrorKind::CudaContextPoisoned => Self::ContextPoisoned,
            ErrorKind::Backpressure => Self::OOMKilled,
            ErrorKind::BadRequest => Self::InvalidSpec,
            _ if was_ready => Self::EngineRestarting,
            _ => Self::EngineStartFailed,
        }
    }
}

/// The termination message, at most [`MESSAGE_LIMIT`] bytes as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Termination {
    /// The verdict, spelled as the reason of a condition.
    pub reason: Verdict,
    /// What happened, for people.
    pub message: String,
    /// The failure that ended the last context.
    pub error: InferenceError,
    /// Contexts that were started anew before the supervisor gave up.
    pub rebuilds: u32,
    /// GPUs that it may be the fault of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<GpuSuspect>,
}

impl Termination {
    /// What is said of a supervisor that gave up after `rebuilds`.
    #[must_use]
    pub fn new(reason: Verdict, error: InferenceError, rebuilds: u32) -> Self {
        Self {
            reason,
            message: truncate(&said(&error), TEXT_LIMIT),
            error,
            rebuilds,
            devices: Vec::new(),
        }
    }

    /// The message as JSON, within the kubelet's limit: the error goes before the message does.
    #[must_use]
    pub fn to_json(&self) -> String {
        let whole = serde_json::to_string(self).unwrap_or_default();
        if whole.len() <= MESSAGE_LIMIT {
            return whole;
        }
        let message = truncate(&self.message, TEXT_LIMIT / 2);
        let short = Self {
            reason: self.reason,
            error: InferenceError::Internal {
                message: "too long to repeat".to_owned(),
            },
            message,
            rebuilds: self.rebuilds,
            devices: self.devices.iter().take(DEVICES_LEFT).cloned().collect(),
        };
        serde_json::to_string(&short).unwrap_or_default()
    }

    /// Write the message to where the kubelet reads it.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        std::fs::write(file, self.to_json())
    }
}

/// What an error says, without the wording that is about HTTP answers.
#[must_use]
pub fn said(error: &InferenceError) -> String {
    match error {
        InferenceError::ServerError { body: Some(body), .. } => body.clone(),
        InferenceError::BadRequest { message } | InferenceError::Backpressure { message } => message.clone(),
        other => other.to_string(),
    }
}

/// At most `limit` bytes of `text`, cut between characters.
#[must_use]
pub fn truncate(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub('…'.len_utf8());
    let cut = (0..=room).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{}…", text.get(..cut).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crashed(body: String) -> InferenceError {
        InferenceError::ServerError {
            status: 500,
            body: Some(body),
        }
    }

    #[test]
    fn the_message_is_json_and_says_what_happened() {
        let termination = Termination::new(
            Verdict::EngineStartFailed,
            crashed("signal 6: GGML_ASSERT".to_owned()),
            3,
        );
        let read: Termination = serde_json::from_str(&termination.to_json()).unwrap();
        assert_eq!(read, termination);
        assert_eq!(read.reason, Verdict::EngineStartFailed);
        assert_eq!(read.message, "signal 6: GGML_ASSERT");
    }

    #[test]
    fn the_message_never_exceeds_the_kubelets_limit() {
        for text in ["x".repeat(100_000), "\u{1}".repeat(10_000), "€".repeat(10_000)] {
            let mut termination = Termination::new(Verdict::GPUFaulty, crashed(text), 3);
            termination.devices = (0..16)
                .map(|n| GpuSuspect {
                    uuid: format!("GPU-{n:0>92}"),
                    xid: Some(79),
                })
                .collect();
            let json = termination.to_json();
            assert!(json.len() <= MESSAGE_LIMIT, "{}", json.len());
            let read: Termination = serde_json::from_str(&json).unwrap();
            assert_eq!(read.devices[0].xid, Some(79), "the device is never left out");
        }
    }

    #[test]
    fn a_verdict_is_spelled_as_its_reason() {
        for verdict in [
            Verdict::InvalidSpec,
            Verdict::EngineStartFailed,
            Verdict::EngineRestarting,
            Verdict::ContextPoisoned,
            Verdict::OOMKilled,
            Verdict::GPUFaulty,
            Verdict::CUDAOutOfMemory,
            Verdict::DownloadUnauthorized,
            Verdict::DownloadNotFound,
            Verdict::DownloadNoSpace,
            Verdict::DownloadChecksumMismatch,
            Verdict::DownloadFailed,
        ] {
            assert_eq!(
                serde_json::to_value(verdict).unwrap(),
                serde_json::Value::from(verdict.reason())
            );
        }
    }
}
