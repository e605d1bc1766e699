//! The local backend: an engine in this deployment's own pods.

use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DurationString, GpuPrice, Gpus, ModelSource, PodOverrides, Timeouts};

/// The server process that runs the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EngineKind {
    /// llama.cpp's `llama-server`.
    LlamaCpp,
    /// vLLM's OpenAI-compatible server.
    VLLM,
    /// SGLang's server.
    SGLang,
    /// Any server that speaks the OpenAI API on `$PORT` of loopback. `command` and `args` may hold `$(PORT)`, `$(MODEL)` and others
    /// (docs/engines.md); the same names are in its environment.
    Custom,
    /// An engine that runs elsewhere and is reached at `url`. Pods of this backend hold only the runtime.
    External,
}

impl EngineKind {
    /// Requests an engine works on at once when the spec does not say. llama.cpp divides its context among its slots; vLLM and SGLang put
    /// requests into one batch, and 256 is what both are laid out for; of others nothing is known, and `serving.maxConcurrent` is 32 too.
    #[must_use]
    pub const fn parallel(self) -> u32 {
        match self {
            Self::LlamaCpp => 4,
            Self::VLLM | Self::SGLang => 256,
            Self::Custom | Self::External => 32,
        }
    }
}

/// A model run by an engine in this deployment's own pods.
///
/// A change of anything in it but `price`, `loadTimeout` and `timeouts` replaces the pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.engine != 'Custom' || (has(self.image) && has(self.command))", "engine Custom needs image and command"),
    validation = (
        "self.engine == 'Custom' || !has(self.command)",
        "command is for engine Custom; give further flags of a known engine in args"
    ),
    validation = (
        "self.engine != 'LlamaCpp' || !has(self.source) || !has(self.source.huggingFace) || has(self.source.huggingFace.file)",
        "engine LlamaCpp needs source.huggingFace.file: it reads one GGUF file"
    ),
    validation = (
        "self.engine in ['Custom', 'External'] || has(self.source)",
        "source is required for every engine except Custom and External"
    ),
    validation = (
        "(self.engine == 'External') == has(self.url)",
        "engine External needs url, and no other engine has one"
    ),
    validation = (
        "self.engine != 'External' || !(has(self.image) || has(self.args) || has(self.source) || has(self.gpus) || has(self.loadTimeout))",
        "engine External runs elsewhere: image, args, source, gpus and loadTimeout would do nothing"
    ),
    validation = (
        "!has(self.loadTimeout) || (duration(self.loadTimeout) >= duration('1m') && duration(self.loadTimeout) <= duration('24h'))",
        "loadTimeout is at least 1m, for an engine that still loads is started anew after it, and at most 24h"
    ),
    validation = (
        "!(self.engine in ['VLLM', 'SGLang']) || has(self.image) || has(self.gpus)",
        "the default images of VLLM and SGLang need a GPU: set gpus, or image to one that runs on CPU"
    ),
    validation = (
        "has(self.image) || !has(self.gpus) || !has(self.gpus.resourceName) || self.gpus.resourceName.startsWith('nvidia.com/')",
        "the default images are for NVIDIA's GPUs: set image to one for this gpus.resourceName"
    ),
    validation = ("!has(self.price) || has(self.gpus)", "price is per GPU hour and needs gpus"),
    validation = (
        "!has(self.nodes) || self.nodes == 1 || self.engine in ['VLLM', 'SGLang']",
        "nodes above 1 is for engines that spread a model over machines: VLLM and SGLang"
    ),
    validation = (
        "!has(self.nodes) || self.nodes == 1 || (has(self.gpus) && has(self.gpus.count))",
        "nodes above 1 needs gpus.count, the GPUs of each node"
    )
)]
pub struct LocalBackend {
    /// The engine.
    pub engine: EngineKind,
    /// Image of the engine. LlamaCpp, VLLM and SGLang have a default image, which moves with their releases: name one to stay at a release.
    #[schemars(length(min = 1, max = 500))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Command of engine `Custom`, which may hold `$(NAME)` as `args` may.
    #[schemars(length(min = 1, max = 64), inner(length(max = 1000)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Further arguments of the engine. Flags that the runtime sets itself (address, port, model, API key) are refused. For engine `Custom`
    /// these are arguments of `command`: `$(PORT)`, `$(MODEL)` and others are filled in, `$$(PORT)` stays `$(PORT)`.
    #[schemars(length(max = 128), inner(length(max = 1000)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Address of engine `External`: `http://HOST` or `http://HOST:PORT`, without a path; its API is below `/v1`. It is looked up again
    /// whenever the engine stops answering, and held against the operator's policy on addresses as endpoints of providers are.
    #[schemars(
        length(min = 8, max = 500),
        regex(pattern = r"^http://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?$")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where the model comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ModelSource>,
    /// GPUs of one pod; none means CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<Gpus>,
    /// Machines that one copy of the model is spread over, each with `gpus`; 1 when absent. With more, a replica is a group of so many pods,
    /// made by a LeaderWorkerSet, whose leader answers.
    #[schemars(range(min = 1, max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u32>,
    /// Resources of the engine's container. GPUs belong into `gpus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Overrides of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodOverrides>,
    /// Tokens of context a request may have, prompt and answer; the model's own length when absent.
    #[schemars(range(min = 16, max = 10_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u32>,
    /// Requests the engine works on at once (llama.cpp's slots). When absent 4 for LlamaCpp, 256 for VLLM and SGLang, 32 for Custom and External.
    #[schemars(range(min = 1, max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
    /// How long the engine may take from its start until the model is loaded; `30m` when absent, `1m` to `24h`. A download before that has
    /// its own time. A change replaces no pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_timeout: Option<DurationString>,
    /// Timers of one request at the engine. A change replaces no pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<LocalTimeouts>,
    /// What GPU time costs, for the budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<GpuPrice>,
}

impl LocalBackend {
    /// How long the engine may load when the spec does not say.
    pub const LOAD_TIMEOUT: Duration = Duration::from_secs(30 * 60);

    /// How long the engine may load; [`Self::LOAD_TIMEOUT`] when absent.
    #[must_use]
    pub fn load_timeout(&self) -> Duration {
        self.load_timeout
            .as_ref()
            .map_or(Self::LOAD_TIMEOUT, DurationString::get)
    }

    /// Timers of one request at the engine; that of the connection is not the spec's.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts.as_ref().map(Timeouts::from).unwrap_or_default()
    }

    /// Requests the engine works on at once; [`EngineKind::parallel`] when absent.
    #[must_use]
    pub fn parallel(&self) -> u32 {
        self.parallel.unwrap_or_else(|| self.engine.parallel())
    }

    /// Machines that one copy of the model is spread over; 1 when absent.
    #[must_use]
    pub fn nodes(&self) -> u32 {
        self.nodes.unwrap_or(1)
    }
}

/// Timers of one request at the engine, asked in this pod or in another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "(!has(self.firstToken) || duration(self.firstToken) > duration('0s')) && (!has(self.idle) || duration(self.idle) > duration('0s')) && (!has(self.total) || duration(self.total) > duration('0s'))",
        "a time of local.timeouts is longer than 0s"
    ),
    validation = (
        "(has(self.firstToken) ? duration(self.firstToken) : duration('60s')) <= (has(self.total) ? duration(self.total) : duration('10m'))",
        "local.timeouts.firstToken (60s when absent) is at most total (10m when absent)"
    ),
    validation = (
        "(has(self.idle) ? duration(self.idle) : duration('30s')) <= (has(self.total) ? duration(self.total) : duration('10m'))",
        "local.timeouts.idle (30s when absent) is at most total (10m when absent)"
    )
)]
pub struct LocalTimeouts {
    /// Until the first content of a stream; `60s` when absent. Long prompts, an engine on CPU and one that works on many requests at once
    /// take longer: with another backend behind it a shorter time lets requests go on there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token: Option<DurationString>,
    /// Between two pieces of a stream; `30s` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<DurationString>,
    /// Of a request at the engine; `10m` when absent. At most `serving.drain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<DurationString>,
}

impl From<&LocalTimeouts> for Timeouts {
    fn from(local: &LocalTimeouts) -> Self {
        Self {
            connect: None,
            first_token: local.first_token.clone(),
            idle: local.idle.clone(),
            total: local.total.clone(),
        }
    }
}
