//! Engines: what the supervisor has to know of a server that it runs unmodified (design section 10).

mod llama_cpp;

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

use super::classify::Symptom;
use crate::api::{EngineKind, LocalBackend};

/// Why an engine cannot even be started. Starting again would not help.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SetupError {
    /// This version runs other engines only.
    #[error("engine {0:?} is not supported by this version; use LlamaCpp")]
    UnsupportedEngine(EngineKind),
    /// There is nothing to run.
    #[error("no model: set source")]
    NoSource,
    /// This version mounts models, it does not download them.
    #[error("source.{0} is not supported by this version; use persistentVolumeClaim or image")]
    UnsupportedSource(&'static str),
    /// The model is not where it should be.
    #[error("the model {path} cannot be read: {cause}; check the path of source")]
    NoModel {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
    /// The image has no such engine.
    #[error("no {program} in this image: it is neither in PATH nor at {usual}; use an image that has it")]
    NoProgram {
        /// Name of the program.
        program: &'static str,
        /// Where vendors put it.
        usual: &'static str,
    },
    /// A flag in `args` that the runtime has to set itself.
    #[error("args: {flag} is set by the runtime; remove it{instead}")]
    ReservedFlag {
        /// The flag as written.
        flag: String,
        /// What to use instead, or nothing.
        instead: &'static str,
    },
}

/// Where a context runs.
pub struct Placement<'a> {
    /// Loopback address to listen on.
    pub address: SocketAddr,
    /// Key that requests will carry.
    pub api_key: &'a SecretString,
    /// The model, a file or a folder.
    pub model: &'a Path,
    /// The engine's program when it is not to be searched for.
    pub program: Option<&'a Path>,
    /// Threads the container's CPU limit and the node allow.
    pub threads: usize,
}

/// What to run.
#[derive(Debug)]
pub struct EngineCommand {
    /// The program, an absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment in addition to the cleaned one.
    pub env: Vec<(OsString, OsString)>,
}

/// How to find out whether it serves.
#[derive(Clone, Copy, Debug)]
pub struct Readiness {
    /// Path that answers 200 once the model is loaded.
    pub health: &'static str,
    /// Path of the canary.
    pub canary: &'static str,
    /// JSON body of the canary: the smallest request that makes the engine compute.
    pub canary_body: &'static str,
    /// Path whose answer [`Engine::limits`] reads.
    pub limits: &'static str,
}

/// What an engine can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Tokens of context of one request.
    pub context_length: Option<u32>,
    /// Requests at once.
    pub parallel: Option<u32>,
}

/// A server that runs a local model.
pub trait Engine: Send + Sync {
    /// The command that starts it.
    fn command(&self, place: &Placement<'_>) -> Result<EngineCommand, SetupError>;
    /// How to find out whether it serves.
    fn readiness(&self) -> Readiness;
    /// Its limits, from the answer at [`Readiness::limits`].
    fn limits(&self, answer: &[u8]) -> Limits;
    /// What a line of its log says of its health.
    fn classify(&self, line: &str) -> Option<Symptom>;
}

/// The adapter for a backend's engine.
pub fn adapter(backend: &LocalBackend) -> Result<Box<dyn Engine>, SetupError> {
    match backend.engine {
        EngineKind::LlamaCpp => Ok(Box::new(llama_cpp::LlamaCpp::new(backend)?)),
        other @ (EngineKind::VLLM | EngineKind::SGLang | EngineKind::Custom) => {
            Err(SetupError::UnsupportedEngine(other))
        }
    }
}

/// Where the backend's model lies below `models`.
pub fn model_path(backend: &LocalBackend, models: &Path) -> Result<PathBuf, SetupError> {
    let source = backend.source.as_ref().ok_or(SetupError::NoSource)?;
    let path = match (&source.persistent_volume_claim, &source.image) {
        (Some(claim), _) => models.join(&claim.path),
        (None, Some(image)) => models.join(&image.path),
        (None, None) if source.hugging_face.is_some() => return Err(SetupError::UnsupportedSource("huggingFace")),
        (None, None) => return Err(SetupError::UnsupportedSource("url")),
    };
    match std::fs::metadata(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(SetupError::NoModel {
            path,
            cause: error.to_string(),
        }),
    }
}
