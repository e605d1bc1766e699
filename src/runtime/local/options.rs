//! Where the engine is, what it may touch, and how long things may take.

use std::{env, ffi::OsString, io, path::PathBuf, time::Duration};

use super::{sandbox::Domain, source};
use crate::{
    api::{LocalBackend, Timeouts, names},
    policy::reach::AllowedAddresses,
};

/// Environment variable with the engine's program, when it is not to be searched for.
pub const ENV_ENGINE_PATH: &str = "INFERENCE_ENGINE_PATH";
/// Environment variable with the loopback port of the engine.
pub const ENV_ENGINE_PORT: &str = "INFERENCE_ENGINE_PORT";
/// Environment variable with the folder below which models lie.
pub const ENV_MODEL_DIR: &str = "INFERENCE_MODEL_DIR";
/// Environment variable with the file for the termination message.
pub const ENV_TERMINATION_LOG: &str = "INFERENCE_TERMINATION_LOG";

const TERMINATION_LOG: &str = "/dev/termination-log";
/// Where the kubelet mounts the pod's own token.
const DIR_SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Folders that engines and the libraries in them write to, when the environment names them.
const CACHES: [&str; 9] = [
    "HOME",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "HF_HOME",
    "TRITON_CACHE_DIR",
    "TORCHINDUCTOR_CACHE_DIR",
    "VLLM_CACHE_ROOT",
    "CUDA_CACHE_PATH",
    "LLAMA_CACHE",
];

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two looks at the health of a loading engine.
    pub poll: Duration,
    /// Deadline of one such look.
    pub health: Duration,
    /// Deadline of a canary.
    pub canary: Duration,
    /// Without a sign of life until a canary convicts that queues behind whole answers in every place of the engine.
    pub silence: Duration,
    /// From the start until the model is loaded, until the configuration has said ([`super::Activity::may_load`]).
    pub load: Duration,
    /// Between two reports that it is still loading.
    pub progress: Duration,
    /// Without requests until a canary.
    pub idle: Duration,
    /// From SIGTERM until SIGKILL. llama.cpp's server never ends by itself while a request without streaming is in flight.
    pub grace: Duration,
    /// From SIGKILL until the processes count as unkillable (a driver that hangs).
    pub kill: Duration,
    /// One pause of the back-off between rebuilds: 0, 1, 2 of them; and between probes of a GPU that is busy.
    pub pause: Duration,
    /// Until the GPU's driver has said what there is.
    pub survey: Duration,
    /// For an ended engine's GPU memory to be seen free, in whole seconds.
    pub memory: Duration,
    /// Deadline of a probe, in whole seconds.
    pub probe: Duration,
    /// Until a watch for Xids that ended is started anew.
    pub rewatch: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            poll: Duration::from_millis(100),
            health: Duration::from_secs(2),
            canary: Duration::from_secs(30),
            // As long as a request to an engine may take.
            silence: Timeouts::default().total(),
            load: LocalBackend::LOAD_TIMEOUT,
            progress: Duration::from_secs(15),
            idle: Duration::from_secs(30),
            grace: Duration::from_secs(10),
            kill: Duration::from_secs(30),
            pause: Duration::from_secs(1),
            survey: Duration::from_secs(10),
            memory: Duration::from_secs(10),
            probe: Duration::from_secs(60),
            rewatch: Duration::from_secs(30),
        }
    }
}

/// Everything about the place that is not in the backend.
#[derive(Clone, Debug)]
pub struct Options {
    /// The engine's program; searched for when `None`.
    pub engine: Option<PathBuf>,
    /// Loopback port of the engine.
    pub port: u16,
    /// Folder below which models lie.
    pub models: PathBuf,
    /// What downloads of models need.
    pub source: source::Means,
    /// Where the downloaded model lies, once it is there.
    pub fetched: Option<PathBuf>,
    /// What clients call the model; the backend's name when `None`.
    pub model: Option<String>,
    /// Addresses that an engine elsewhere may have beyond ordinary ones.
    pub allowed: AllowedAddresses,
    /// File for the termination message; none is written when `None`.
    pub termination_log: Option<PathBuf>,
    /// The program that has the subcommand `exec-engine`.
    pub launcher: PathBuf,
    /// What the engine may touch.
    pub domain: Domain,
    /// The environment that the engine's is made from.
    pub environment: Vec<(OsString, OsString)>,
    /// How long things may take.
    pub timing: Timing,
}

/// What is wrong with the runtime's own environment.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// Not a port.
    #[error("{ENV_ENGINE_PORT}: {0:?} is no port; use a number from 1 to 65535")]
    Port(OsString),
    /// The runtime does not know its own program.
    #[error("cannot find the runtime's own program: {0}")]
    Launcher(#[from] io::Error),
}

impl Options {
    /// As the environment says, with the defaults of a pod.
    pub fn from_env() -> Result<Self, OptionsError> {
        let path = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let log = PathBuf::from(TERMINATION_LOG);
        Ok(Self {
            engine: path(ENV_ENGINE_PATH),
            port: port(env::var_os(ENV_ENGINE_PORT))?,
            model: env::var(names::ENV_MODEL_NAME).ok().filter(|name| !name.is_empty()),
            allowed: AllowedAddresses::default(),
            source: source::Means::default(),
            fetched: None,
            models: path(ENV_MODEL_DIR).unwrap_or_else(|| names::DIR_MODEL.into()),
            termination_log: path(ENV_TERMINATION_LOG).or_else(|| log.exists().then_some(log)),
            launcher: env::current_exe()?,
            domain: domain(),
            environment: env::vars_os().collect(),
            timing: Timing::default(),
        })
    }

    /// What clients call the model of the backend `name`.
    #[must_use]
    pub fn model_name<'a>(&'a self, name: &'a str) -> &'a str {
        self.model.as_deref().unwrap_or(name)
    }
}

fn port(value: Option<OsString>) -> Result<u16, OptionsError> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(names::PORT_ENGINE);
    };
    let parsed = value.to_str().and_then(|text| text.parse().ok());
    parsed.filter(|&port| port != 0).ok_or(OptionsError::Port(value))
}

fn domain() -> Domain {
    let denied = [
        names::DIR_KEYS,
        names::DIR_PEER_TOKEN,
        names::DIR_JOURNAL,
        DIR_SERVICE_ACCOUNT,
        TERMINATION_LOG,
    ];
    let caches = CACHES.iter().filter_map(env::var_os).map(PathBuf::from);
    // A home of "/" (a user without an entry in the image's passwd) would open everything.
    let caches = caches.filter(|path| path.is_absolute() && path.parent().is_some());
    let fixed = ["/tmp", "/var/tmp", "/dev"].into_iter().map(PathBuf::from);
    Domain {
        denied: denied.into_iter().map(PathBuf::from).collect(),
        writable: fixed.chain(caches).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_port_is_named_with_its_fix() {
        for wrong in ["0", "65536", "x"] {
            let error = port(Some(wrong.into())).unwrap_err().to_string();
            assert!(
                error.contains("INFERENCE_ENGINE_PORT") && error.contains(wrong),
                "{error}"
            );
        }
        assert_eq!(port(None).unwrap(), names::PORT_ENGINE);
        assert_eq!(port(Some("1234".into())).unwrap(), 1234);
    }
}
