//! The two custom resources and the values they are made of: types only, no I/O.
//!
//! Group `inference-operator.dev`, version `v1alpha1`. [`InferenceDeployment`] is what people write, [`InferenceReplica`] is the
//! narrow channel between the controller and one runtime pod (design section 4). Optional fields have no schema default: an absent
//! field means the default that its accessor documents, so that defaults may be read in one place and never sit in stored objects. The one
//! exception is `replicas`, for the scale subresource.

mod access;
mod backend;
mod budget;
mod circuit;
pub mod conditions;
mod deployment;
mod devices;
mod duration;
mod gpu;
mod lease;
mod ledger;
mod local;
mod money;
pub mod names;
mod pod;
mod price;
mod remote;
mod replica;
pub mod schema;
mod serving;
mod share;
mod source;
mod status;

pub use access::{Access, AccessType, ApiKeyAccess, ServiceAccountAccess};
pub use backend::{Backend, BackendKind};
pub use budget::{Budget, BudgetPeriod, OnExhausted};
pub use circuit::{
    CircuitProbe, CircuitScope, CircuitState, CircuitStatus, MergedCircuit, ProbeOutcome, ProbePhase, ProbeReport,
    ProbeToken, ReplicaCircuit,
};
pub use deployment::{InferenceDeployment, InferenceDeploymentSpec};
pub use devices::{CelSelector, ClaimTemplate, DeviceSelector, GpuPrice, Gpus};
pub use duration::DurationString;
pub use gpu::{GpuDevice, GpuFault, GpuFaultReason, GpuReport, GpuSuspect, GpuTrouble, ReplacedPod};
pub use lease::{BudgetReport, Denied, EndedProcess, LeaseGrant, LeaseReport, ReplicaBudget, Want, WindowEnd};
pub use ledger::{BudgetStatus, BudgetWindow, ClosedWindow, GpuCharge, GpuTime, LeaseRow, LostLedger};
pub use local::{EngineKind, LocalBackend, LocalTimeouts};
pub use money::{Decimal, MoneyError, NanoUsd, PicoUsd};
pub use pod::{PodOverrides, PodSettings, RuntimePodOverrides};
pub use price::{PriceTier, TokenPrice};
pub use remote::{
    CircuitBreaker, CircuitOverride, Credentials, OutputLimitField, RateLimit, RemoteBackend, RemoteProvider, Retry,
    SecretKeyRef, Timeouts,
};
pub use replica::{
    BackendReport, DownloadStatus, EngineIsolation, EngineState, EngineStatus, InferenceReplica, InferenceReplicaSpec,
    InferenceReplicaStatus,
};
pub use serving::{Hold, Queue, ScaleToZero, Serving, Spill};
pub use share::{OrderedRate, ReportedRate, ShareOrder, ShareReport};
pub use source::{HuggingFaceSource, ImageSource, ModelSource, PersistentVolumeClaimSource, UrlSource};
pub use status::{ErrorRow, InferenceDeploymentStatus};

/// API group of both resources.
pub const GROUP: &str = "inference-operator.dev";
/// The one served version.
pub const VERSION: &str = "v1alpha1";
/// Version of what controller and runtime say to each other through `InferenceReplica`; a replica reports its own.
pub const PROTOCOL_VERSION: i32 = 1;
