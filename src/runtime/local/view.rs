//! What the request path sees of the engine.

use std::{net::SocketAddr, sync::Arc};

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::Verdict;
use crate::{
    api::conditions::reason,
    error::{ErrorKind, InferenceError},
};

/// Whether the engine may be sent requests, published by the worker through a `tokio::sync::watch`.
#[derive(Clone, Debug)]
pub enum EngineView {
    /// The model is being downloaded.
    Downloading(Download),
    /// The process is being started or loads the model.
    Loading,
    /// The first canary was answered.
    Ready(Arc<EngineTarget>),
    /// It ended, hangs or is poisoned; a new one is being started. The failure is the one that ended it.
    Restarting(InferenceError),
    /// The worker gave up; the process is about to end.
    Failed(InferenceError),
    /// The model could not be downloaded; the process is about to end with this verdict.
    NoModel(Verdict, InferenceError),
}

/// How far the download of a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Download {
    /// Bytes that are there, in steps.
    pub bytes: u64,
    /// Bytes of the whole, once the server has said.
    pub total: Option<u64>,
}

impl EngineView {
    /// Why the backend is as it is, in the words of conditions.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Downloading(_) => reason::DOWNLOADING,
            Self::Loading => reason::LOADING,
            Self::Ready(_) => reason::LOADED,
            Self::Restarting(_) => reason::ENGINE_RESTARTING,
            Self::Failed(_) => reason::ENGINE_START_FAILED,
            Self::NoModel(verdict, _) => verdict.reason(),
        }
    }

    /// The same for the Event about it, by what ended the engine.
    #[must_use]
    pub const fn event_reason(&self) -> &'static str {
        match self {
            Self::Restarting(error) | Self::Failed(error) => match (error.kind(), self) {
                (ErrorKind::CudaContextPoisoned, _) => reason::CONTEXT_POISONED,
                (ErrorKind::Backpressure, _) => reason::OOM_KILLED,
                (ErrorKind::BadRequest, Self::Failed(_)) => reason::INVALID_SPEC,
                _ => self.reason(),
            },
            Self::Downloading(_) | Self::Loading | Self::Ready(_) | Self::NoModel(..) => self.reason(),
        }
    }
}

/// One context: an engine process that answered its canary.
#[derive(Debug)]
pub struct EngineTarget {
    /// Where it listens: loopback, or elsewhere for engine External.
    pub address: SocketAddr,
    /// The key that the runtime gave it; none where the runtime did not start it.
    pub api_key: Option<SecretString>,
    /// The name of the model that requests must carry; any will do when absent.
    pub model: Option<String>,
    /// Tokens of context of one request, as the engine reports them.
    pub context_length: Option<u32>,
    /// Requests it works on at once.
    pub parallel: u32,
    /// Cancelled the moment the context is known to be dead or poisoned: not one more byte of it may reach a client.
    pub gone: CancellationToken,
}
