//! What the GPU's children say, one JSON object a line, and what the supervisor understands.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What became of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome")]
pub enum Outcome {
    /// A new process computes on every device.
    #[default]
    Works,
    /// There is no driver to ask, or no device.
    GpuUnavailable {
        /// The loader's or the driver's words.
        reason: String,
    },
    /// The driver refused a call.
    CallFailed {
        /// The function.
        call: String,
        /// What it returned, a number that need not be known to anybody.
        code: i32,
        /// The driver's own name for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// A device computed nonsense.
    WrongResult {
        /// What was wrong.
        what: String,
    },
    /// The driver does not come back from a call.
    Hangs {
        /// The function, or the library that is being asked.
        call: String,
        /// For how long it was waited.
        seconds: u64,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works => write!(f, "it works"),
            Self::GpuUnavailable { reason } => write!(f, "no GPU can be used: {reason}"),
            Self::CallFailed { call, code, name } => {
                let name = name.as_deref().unwrap_or("an unknown code");
                write!(f, "{call} failed with {code} ({name})")
            }
            Self::WrongResult { what } => write!(f, "it computes nonsense: {what}"),
            Self::Hangs { call, seconds } => write!(f, "{call} did not return within {seconds} s"),
        }
    }
}

/// A GPU as the driver's management library shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// `GPU-…` or `MIG-…`.
    pub uuid: String,
    /// The product.
    pub name: String,
    /// Bytes of memory in use, by anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// Bytes of memory in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// What the driver says has to be done before it works again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
}

/// The driver's recovery action (NVML field 230).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recovery {
    /// Nothing.
    None,
    /// Reset the GPU.
    GpuReset,
    /// Start the node anew.
    NodeReboot,
    /// End what sends between GPUs.
    DrainP2P,
    /// Let what runs end, then reset the GPU.
    DrainAndReset,
    /// An action that this version has no name for.
    Other(u64),
}

impl From<u64> for Recovery {
    fn from(action: u64) -> Self {
        match action {
            0 => Self::None,
            1 => Self::GpuReset,
            2 => Self::NodeReboot,
            3 => Self::DrainP2P,
            4 => Self::DrainAndReset,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "nothing"),
            Self::GpuReset => write!(f, "a reset of the GPU"),
            Self::NodeReboot => write!(f, "a reboot of the node"),
            Self::DrainP2P => write!(f, "the end of traffic between GPUs"),
            Self::DrainAndReset => write!(f, "an empty GPU and its reset"),
            Self::Other(action) => write!(f, "recovery action {action}"),
        }
    }
}

/// The one line of `gpu-probe`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// UUID of the device at which it ended, unless it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Version of the driver's CUDA, as 1000 × major + 10 × minor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuda_version: Option<i32>,
    /// Why no kernel was run though all else works: the container has no compiler for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_skipped: Option<String>,
    /// The devices, as NVML lists them, else as CUDA does.
    pub devices: Vec<Device>,
    /// Why NVML says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvml: Option<String>,
    /// Whether the memory that the last engine used was seen free, when that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_freed: Option<bool>,
}

/// A line of `gpu-watch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event")]
pub enum Sighting {
    /// The first line: what there is.
    Found {
        /// The devices that NVML lists.
        devices: Vec<Device>,
        /// Why the CUDA driver cannot be loaded, in the loader's words; absent when it can.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        missing: Option<String>,
    },
    /// A critical Xid.
    Xid(Xid),
}

/// An Xid of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xid {
    /// UUID of the device.
    pub uuid: String,
    /// Its number.
    pub xid: u64,
    /// The recovery action after it, where the driver tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
}
