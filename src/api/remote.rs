//! The remote backend: a provider's API.

use std::time::Duration;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Decimal, DurationString, TokenPrice};

/// The providers whose wire formats are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RemoteProvider {
    /// api.openai.com.
    OpenAI,
    /// api.anthropic.com, Messages API.
    Anthropic,
    /// Gemini's generateContent, AI Studio and Vertex.
    Gemini,
    /// Azure OpenAI deployments.
    AzureOpenAI,
    /// A LiteLLM proxy.
    LiteLLM,
    /// Anything else that speaks OpenAI's API.
    OpenAICompatible,
}

/// The field of a chat request that holds the output limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OutputLimitField {
    /// `max_tokens`.
    MaxTokens,
    /// `max_completion_tokens`, which newer models of OpenAI demand.
    MaxCompletionTokens,
}

/// A provider's API. Hot: everything but the Secret references takes effect without a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.credentials) || self.provider == 'OpenAICompatible' || self.provider == 'LiteLLM'",
    "credentials are required for this provider"
), validation = (
    "!has(self.apiVersion) || self.provider == 'AzureOpenAI'",
    "apiVersion is for provider AzureOpenAI; for others it would do nothing"
), validation = (
    "!has(self.outputLimitField) || self.provider in ['AzureOpenAI', 'LiteLLM', 'OpenAICompatible']",
    "outputLimitField is for providers AzureOpenAI, LiteLLM and OpenAICompatible; for others it would do nothing"
), validation = (
    "!has(self.contextLength) || !has(self.price) || !has(self.price.tiers) || self.price.tiers.all(t, t.aboveInputTokens < self.contextLength)",
    "a tier of prices that begins at contextLength or above would do nothing"
))]
pub struct RemoteBackend {
    /// Whose wire format the endpoint speaks.
    pub provider: RemoteProvider,
    /// Base address of the API, for example `https://api.openai.com/v1`, without query or fragment. For Anthropic and Gemini a bare
    /// host gets the API's version; for Gemini on Vertex it ends in `/publishers/google`; for Azure OpenAI it is the resource's host,
    /// or ends in `/openai/v1` for that API.
    #[schemars(length(min = 8, max = 500), regex(pattern = r"^https?://[^/?#@\s]+(/[^?#\s]*)?$"))]
    pub endpoint: String,
    /// The provider's name of the model; the deployment's for Azure OpenAI.
    #[schemars(length(min = 1, max = 200))]
    pub model: String,
    /// `api-version` of Azure's API; `2024-10-21` when absent, none for an endpoint that ends in `/openai/v1`.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[-.0-9A-Za-z]+$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// The key. None means that requests go out without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// Tokens of context a request may have at the provider. A longer request goes to the next backend.
    #[schemars(range(min = 16, max = 10_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u32>,
    /// The field that this server reads the output limit of a chat from. When absent: `max_completion_tokens` for Azure OpenAI from
    /// `apiVersion` 2024-09 on, `max_tokens` for LiteLLM and for OpenAI-compatible servers. Under a budget it is the only one that is
    /// sent to the latter two, whichever the client wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_limit_field: Option<OutputLimitField>,
    /// What tokens cost. Required under a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<TokenPrice>,
    /// The provider's limits for this key, over all replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// The circuit breaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// Retries before the first byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Timers of one attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
}

/// Where a key is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// A key of a Secret of the same namespace.
    pub secret: SecretKeyRef,
}

/// A key of a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key inside the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// A provider's limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.requestsPerMinute) || has(self.tokensPerMinute)",
    "rateLimit needs requestsPerMinute or tokensPerMinute"
))]
pub struct RateLimit {
    /// Requests a minute.
    #[schemars(range(min = 1, max = 100_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute, input and output.
    #[schemars(range(min = 1, max = 2_000_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u32>,
}

/// What people may force during an incident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CircuitOverride {
    /// The breaker decides.
    #[default]
    Auto,
    /// Nothing is sent.
    ForceOpen,
    /// Everything is sent.
    ForceClosed,
}

/// The circuit breaker of a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "(has(self.openDuration) ? duration(self.openDuration) : duration('30s')) <= (has(self.maxOpenDuration) ? duration(self.maxOpenDuration) : duration('10m'))",
        "openDuration (30s when absent) is at most maxOpenDuration (10m when absent)"
    ),
    validation = (
        "!has(self.failureRatio) || (self.failureRatio.matches('^(0[.][0-9]*[1-9][0-9]*|1([.]0+)?)$'))",
        "failureRatio is above 0 and at most 1"
    )
)]
pub struct CircuitBreaker {
    /// Failures in a row that open it; 10 when absent.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_failures: Option<u32>,
    /// Share of failures in the window that opens it; `0.5` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_ratio: Option<Decimal>,
    /// Calls in the window below which the ratio does not count; 20 when absent.
    #[schemars(range(min = 1, max = 100_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_requests: Option<u32>,
    /// Time constant of the ratio's decay; `30s` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<DurationString>,
    /// How long it stays open at first; `30s` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_duration: Option<DurationString>,
    /// How long it stays open at most; `10m` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_open_duration: Option<DurationString>,
    /// Requests let through while half-open; 1 when absent.
    #[schemars(range(min = 1, max = 100))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_open_probes: Option<u32>,
    /// Forces the circuit during an incident; `Auto` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#override: Option<CircuitOverride>,
}

/// Retries of one request at this backend, only before the first byte reached the client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "(has(self.initialBackoff) ? duration(self.initialBackoff) : duration('1s')) <= (has(self.maxBackoff) ? duration(self.maxBackoff) : duration('60s'))",
        "initialBackoff (1s when absent) is at most maxBackoff (60s when absent)"
    ),
    validation = (
        "!has(self.maxRetries) || self.maxRetries > 0 || !(has(self.initialBackoff) || has(self.maxBackoff))",
        "with maxRetries 0 a backoff would do nothing"
    )
)]
pub struct Retry {
    /// Retries after the first attempt; 3 when absent.
    #[schemars(range(min = 0, max = 10))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// Upper bound of the first wait; `1s` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_backoff: Option<DurationString>,
    /// Upper bound of every wait; `60s` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<DurationString>,
}

/// Timers of one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "(!has(self.connect) || duration(self.connect) > duration('0s')) && (!has(self.firstToken) || duration(self.firstToken) > duration('0s')) && (!has(self.idle) || duration(self.idle) > duration('0s')) && (!has(self.total) || duration(self.total) > duration('0s'))",
        "a timeout is longer than 0s"
    ),
    validation = (
        "(has(self.firstToken) ? duration(self.firstToken) : duration('60s')) <= (has(self.total) ? duration(self.total) : duration('10m'))",
        "firstToken (60s when absent) is at most total (10m when absent)"
    ),
    validation = (
        "(has(self.connect) ? duration(self.connect) : duration('5s')) <= (has(self.firstToken) ? duration(self.firstToken) : duration('60s'))",
        "connect (5s when absent) is at most firstToken (60s when absent)"
    ),
    validation = (
        "(has(self.idle) ? duration(self.idle) : duration('30s')) <= (has(self.total) ? duration(self.total) : duration('10m'))",
        "idle (30s when absent) is at most total (10m when absent)"
    )
)]
pub struct Timeouts {
    /// Until the connection stands, TLS included; `5s` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<DurationString>,
    /// Until the first content, from the start of the attempt; `60s` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token: Option<DurationString>,
    /// Between two pieces of a stream; `30s` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<DurationString>,
    /// Of a request at this backend, retries included; `10m` when absent. At most `serving.drain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<DurationString>,
}

/// The first version of Azure's API that knows `max_completion_tokens` and `stream_options`.
const AZURE_NEW_FIELDS: &str = "2024-09-01";

impl RemoteBackend {
    /// The field of a chat's output limit.
    #[must_use]
    pub fn output_limit_field(&self) -> OutputLimitField {
        self.output_limit_field.unwrap_or(match self.provider {
            RemoteProvider::OpenAI => OutputLimitField::MaxCompletionTokens,
            RemoteProvider::AzureOpenAI if self.knows_new_fields() => OutputLimitField::MaxCompletionTokens,
            _ => OutputLimitField::MaxTokens,
        })
    }

    /// Whether a stream may be asked for its usage with `stream_options`, as far as the spec tells.
    #[must_use]
    pub fn knows_stream_options(&self) -> bool {
        self.provider != RemoteProvider::AzureOpenAI || self.knows_new_fields()
    }

    fn knows_new_fields(&self) -> bool {
        self.api_version.as_deref().is_none_or(|v| v >= AZURE_NEW_FIELDS)
    }
}

fn or(given: Option<&DurationString>, default: Duration) -> Duration {
    given.map_or(default, DurationString::get)
}

impl CircuitBreaker {
    /// Failures in a row that open it.
    #[must_use]
    pub fn consecutive_failures(&self) -> u32 {
        self.consecutive_failures.unwrap_or(10)
    }

    /// Share of failures that opens it, above 0 and at most 1.
    #[must_use]
    pub fn failure_ratio(&self) -> f64 {
        self.failure_ratio.as_ref().map_or(0.5, Decimal::ratio)
    }

    /// Calls below which the ratio does not count.
    #[must_use]
    pub fn minimum_requests(&self) -> u32 {
        self.minimum_requests.unwrap_or(20)
    }

    /// Time constant of the ratio's decay.
    #[must_use]
    pub fn window(&self) -> Duration {
        or(self.window.as_ref(), Duration::from_secs(30))
    }

    /// How long it stays open at first.
    #[must_use]
    pub fn open_duration(&self) -> Duration {
        or(self.open_duration.as_ref(), Duration::from_secs(30))
    }

    /// How long it stays open at most.
    #[must_use]
    pub fn max_open_duration(&self) -> Duration {
        or(self.max_open_duration.as_ref(), Duration::from_secs(600))
    }

    /// Requests let through while half-open.
    #[must_use]
    pub fn half_open_probes(&self) -> u32 {
        self.half_open_probes.unwrap_or(1)
    }

    /// What people force.
    #[must_use]
    pub fn forced(&self) -> CircuitOverride {
        self.r#override.unwrap_or_default()
    }
}

impl Retry {
    /// Retries after the first attempt.
    #[must_use]
    pub fn max_retries(&self) -> u32 {
        self.max_retries.unwrap_or(3)
    }

    /// Upper bound of the first wait.
    #[must_use]
    pub fn initial_backoff(&self) -> Duration {
        or(self.initial_backoff.as_ref(), Duration::from_secs(1))
    }

    /// Upper bound of every wait.
    #[must_use]
    pub fn max_backoff(&self) -> Duration {
        or(self.max_backoff.as_ref(), Duration::from_secs(60))
    }
}

impl Timeouts {
    /// Until the connection stands.
    #[must_use]
    pub fn connect(&self) -> Duration {
        or(self.connect.as_ref(), Duration::from_secs(5))
    }

    /// Until the first content.
    #[must_use]
    pub fn first_token(&self) -> Duration {
        or(self.first_token.as_ref(), Duration::from_secs(60))
    }

    /// Between two pieces of a stream.
    #[must_use]
    pub fn idle(&self) -> Duration {
        or(self.idle.as_ref(), Duration::from_secs(30))
    }

    /// Of the whole attempt.
    #[must_use]
    pub fn total(&self) -> Duration {
        or(self.total.as_ref(), Duration::from_secs(600))
    }
}
