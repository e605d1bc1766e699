//! Engines: what the supervisor has to know of a server that it runs unmodified (design section 10).

mod custom;
mod external;
mod group;
mod llama_cpp;
mod log;
mod openai;
mod program;
mod sglang;
mod vllm;

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use http::StatusCode;
use secrecy::SecretString;

use super::classify::Symptom;
use crate::{
    api::{EngineKind, LocalBackend},
    policy::engines::{self, Reserved},
};

pub use external::External;
pub use group::{Group, LEADER as ENV_GROUP_LEADER};

/// Why an engine cannot even be started. Starting again would not help.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SetupError {
    /// There is nothing to run.
    #[error("no model: set source")]
    NoSource,
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
    #[error("args: {0}")]
    ReservedFlag(Reserved),
    /// Engine Custom does not know what to run.
    #[error("no command: set command")]
    NoCommand,
    /// The command names what has no value.
    #[error("$({variable}) has no value; set {field}")]
    NoValue {
        /// Name of the variable.
        variable: &'static str,
        /// The field that would give it one.
        field: &'static str,
    },
    /// A part of an engine does not know which one it is.
    #[error(
        "{variable} does not say where in its group this pod is: pods of several nodes are made by a LeaderWorkerSet"
    )]
    NoGroup {
        /// Name of the variable.
        variable: &'static str,
    },
    /// An engine elsewhere has no usable address.
    #[error("url {0:?} is no address like http://HOST:PORT")]
    NoAddress(String),
}

/// Where a context runs.
pub struct Placement<'a> {
    /// Loopback address to listen on.
    pub address: SocketAddr,
    /// Key that requests will carry.
    pub api_key: &'a SecretString,
    /// The model, a file or a folder; engine Custom may have none.
    pub model: Option<&'a Path>,
    /// What clients call the model.
    pub name: &'a str,
    /// The engine's program when it is not to be searched for.
    pub program: Option<&'a Path>,
    /// The part that this pod runs of an engine in several.
    pub group: Option<&'a Group>,
    /// Threads the container's CPU limit and the node allow.
    pub threads: usize,
    /// Bytes of memory that the container may have; `None` where there is no limit.
    pub memory: Option<u64>,
}

/// What to run.
#[derive(Debug)]
pub struct EngineCommand {
    /// The program: an absolute path, or a name that is searched for in the engine's PATH.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment in addition to the cleaned one.
    pub env: Vec<(OsString, OsString)>,
}

/// How to find out whether it serves.
#[derive(Clone, Copy, Debug)]
pub struct Readiness {
    /// Path that is asked until the engine is loaded.
    pub health: &'static str,
    /// The status that this path has once it is; the canary has the last word.
    pub loaded: fn(StatusCode) -> bool,
    /// Requests that make the engine compute. The first that it knows is its canary: what a model can do is not always said beforehand.
    pub canaries: &'static [Canary],
    /// Path whose answer [`Server::about`] reads.
    pub about: &'static str,
}

/// The smallest request that makes an engine compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canary {
    /// Its path.
    pub path: &'static str,
    /// Its body, a JSON object without the name of the model.
    pub body: &'static str,
}

impl Canary {
    /// The body for the model of this name.
    #[must_use]
    pub fn body(&self, model: Option<&str>) -> String {
        match (model, self.body.strip_prefix('{')) {
            (Some(model), Some(rest)) => format!("{{\"model\":{},{rest}", serde_json::Value::from(model)),
            _ => self.body.to_owned(),
        }
    }
}

/// What an engine can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Tokens of context of one request.
    pub context_length: Option<u32>,
    /// Requests at once.
    pub parallel: Option<u32>,
}

impl Limits {
    /// What the spec asks of an engine.
    #[must_use]
    pub fn wanted(backend: &LocalBackend) -> Self {
        Self {
            context_length: backend.context_length,
            parallel: Some(backend.parallel()),
        }
    }
}

/// What an engine says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// What it can take.
    pub limits: Limits,
    /// The name of the model that requests must carry; any will do when absent.
    pub model: Option<String>,
}

/// A server that runs a model, as it is seen through HTTP.
pub trait Server: Send + Sync {
    /// How to find out whether it serves.
    fn readiness(&self) -> Readiness;
    /// What it says of itself in the answer at [`Readiness::about`]. `name` is what clients call the model.
    fn about(&self, answer: &[u8], name: &str) -> About;
}

/// A server that is a process of this pod.
pub trait Engine: Server {
    /// The command that starts it.
    fn command(&self, place: &Placement<'_>) -> Result<EngineCommand, SetupError>;
    /// What a line of its log says of its health.
    fn classify(&self, line: &str) -> Option<Symptom>;
    /// Whole lines of its log may be a client's: what they say of the GPU has to be confirmed.
    fn logs_requests(&self) -> bool {
        false
    }
}

/// Where the model of a backend is run.
pub enum Adapter {
    /// In this pod, as a process.
    Own(Box<dyn Engine>),
    /// Elsewhere.
    Elsewhere(External),
}

/// The adapter for a backend's engine.
pub fn adapter(backend: &LocalBackend) -> Result<Adapter, SetupError> {
    if let Some(reserved) = engines::reserved(backend.engine, &backend.args).next() {
        return Err(SetupError::ReservedFlag(reserved));
    }
    Ok(match backend.engine {
        EngineKind::LlamaCpp => Adapter::Own(Box::new(llama_cpp::LlamaCpp::new(backend))),
        EngineKind::VLLM => Adapter::Own(Box::new(vllm::Vllm::new(backend))),
        EngineKind::SGLang => Adapter::Own(Box::new(sglang::Sglang::new(backend))),
        EngineKind::Custom => Adapter::Own(Box::new(custom::Custom::new(backend)?)),
        EngineKind::External => Adapter::Elsewhere(External::new(backend)?),
    })
}

/// Where the backend's model lies: below `models`, or where it was `fetched`. Engine Custom may do without.
pub fn model_path(
    backend: &LocalBackend,
    models: &Path,
    fetched: Option<&Path>,
) -> Result<Option<PathBuf>, SetupError> {
    let Some(source) = &backend.source else {
        return match backend.engine {
            EngineKind::Custom | EngineKind::External => Ok(None),
            EngineKind::LlamaCpp | EngineKind::VLLM | EngineKind::SGLang => Err(SetupError::NoSource),
        };
    };
    let path = match (&source.persistent_volume_claim, &source.image, fetched) {
        (Some(claim), ..) => models.join(&claim.path),
        (None, Some(image), _) => models.join(&image.path),
        (None, None, Some(fetched)) => fetched.to_path_buf(),
        (None, None, None) => return Err(SetupError::NoSource),
    };
    match std::fs::metadata(&path) {
        Ok(_) => Ok(Some(path)),
        Err(error) => Err(SetupError::NoModel {
            path,
            cause: error.to_string(),
        }),
    }
}

/// GPUs that the backend counts; none on CPU, and where a claim selects them.
fn gpus(backend: &LocalBackend) -> Option<u32> {
    backend.gpus.as_ref().and_then(|gpus| gpus.count)
}

/// Whether `args` has one of `flags`, written with `-` or `_`, with or without a value.
fn has_flag(args: &[String], flags: &[&str]) -> bool {
    args.iter().any(|arg| {
        let flag = arg.split_once('=').map_or(arg.as_str(), |(flag, _)| flag);
        flags.contains(&flag.replace('_', "-").as_str())
    })
}

/// Threads of each process of PyTorch: it sees the node's processors and not the container's limit, and there is a process for each GPU.
/// What `podTemplate` says is left alone.
fn torch_threads(backend: &LocalBackend, threads: usize) -> Option<(OsString, OsString)> {
    const NAME: &str = "OMP_NUM_THREADS";
    let processes = usize::try_from(gpus(backend)?).unwrap_or(1).max(1);
    (!names_variable(backend, NAME)).then(|| (NAME.into(), (threads / processes).max(1).to_string().into()))
}

/// Whether `podTemplate` gives the engine the variable `name`.
fn names_variable(backend: &LocalBackend, name: &str) -> bool {
    let mut named = backend.pod_template.iter().flat_map(|template| &template.env);
    named.any(|variable| variable.name == name)
}

#[cfg(test)]
pub mod fixtures;
#[cfg(test)]
mod tests;
