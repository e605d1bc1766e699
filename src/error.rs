//! The fourteen kinds of failure, their wire form and the contract table (design section 5).
//!
//! The set is closed. The HTTP front, retries, circuits, metrics, conditions, events and the docs all read [`InferenceError::contract`].

use serde::{Deserialize, Serialize};

mod contract;
mod provider;

pub use contract::{BudgetRule, CircuitRule, Contract, RetryRule};
pub use provider::Provider;

/// A failure of one request at one backend, or before any.
///
/// Serialised as an object tagged by `kind`. Counts that nobody told us are null, never 0. Every string in here has already been
/// truncated and scrubbed of keys by whoever made the error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum InferenceError {
    /// The provider asks to slow down.
    #[error("{provider} limits the rate{}", after(*retry_after))]
    RateLimited {
        /// Who.
        provider: Provider,
        /// Milliseconds to wait, when the provider said so.
        retry_after: Option<u64>,
    },
    /// The circuit of the backend is open: nothing was sent.
    #[error("the circuit to {provider} is open")]
    CircuitOpen {
        /// To whom.
        provider: Provider,
        /// When it opened, milliseconds since 1970 UTC.
        opened_at_unix_ms: i64,
        /// When the next probe may be sent, milliseconds since 1970 UTC.
        retry_at_unix_ms: i64,
    },
    /// The provider refuses the content.
    #[error("the content was filtered: {reason}")]
    ContentFiltered {
        /// The provider's words.
        reason: String,
    },
    /// Prompt and output limit exceed what the model takes.
    #[error("the request exceeds the context length{}", limits(*tokens, *max_tokens))]
    ContextLengthExceeded {
        /// Tokens of the request.
        tokens: Option<u64>,
        /// Tokens the model takes.
        max_tokens: Option<u64>,
    },
    /// The request is wrong.
    #[error("bad request: {message}")]
    BadRequest {
        /// What is wrong, with the field's name.
        message: String,
    },
    /// The provider does not know our key.
    #[error("the provider refuses the credentials: {message}")]
    Unauthorized {
        /// The provider's words.
        message: String,
    },
    /// The provider knows our key and forbids the call.
    #[error("the provider forbids the call: {message}")]
    Forbidden {
        /// The provider's words.
        message: String,
    },
    /// We or the backend are full.
    #[error("overloaded: {message}")]
    Backpressure {
        /// What is full.
        message: String,
    },
    /// The budget has no money for this request.
    #[error("the budget of {deployment} has no money left for this request{}", until(*window_end_unix_ms))]
    BudgetExceeded {
        /// `NAMESPACE/NAME` of the InferenceDeployment.
        deployment: String,
        /// When the budget's window ends, milliseconds since 1970 UTC. Absent where it never ends, or where the budget is the provider's;
        /// an optional addition, which old readers skip.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        window_end_unix_ms: Option<i64>,
    },
    /// The connection failed or broke.
    #[error("network error: {message}")]
    NetworkError {
        /// What broke.
        message: String,
    },
    /// The backend failed.
    #[error("the backend answered {status}")]
    ServerError {
        /// HTTP status of the backend.
        status: u16,
        /// Its body, truncated and scrubbed.
        body: Option<String>,
    },
    /// A timer of ours ran out.
    #[error("no answer within {elapsed_ms} ms")]
    Timeout {
        /// Milliseconds waited.
        elapsed_ms: u64,
    },
    /// The engine's CUDA context is poisoned: it computes no more.
    #[error("the CUDA context is poisoned: {message}")]
    CudaContextPoisoned {
        /// What the driver or the engine said.
        message: String,
    },
    /// A fault of our own.
    #[error("internal error: {message}")]
    Internal {
        /// What went wrong.
        message: String,
    },
}

fn after(wait: Option<u64>) -> String {
    wait.map_or_else(String::new, |ms| format!(", retry after {ms} ms"))
}

fn until(window_end_unix_ms: Option<i64>) -> String {
    let end = window_end_unix_ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    end.map_or_else(String::new, |end| format!(" until {end}"))
}

fn limits(tokens: Option<u64>, max: Option<u64>) -> String {
    match (tokens, max) {
        (Some(tokens), Some(max)) => format!(": {tokens} tokens, at most {max}"),
        (None, Some(max)) => format!(": at most {max} tokens"),
        (Some(tokens), None) => format!(": {tokens} tokens"),
        (None, None) => String::new(),
    }
}

/// The kind of a failure without its details: what metrics, conditions and events are keyed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// See [`InferenceError::RateLimited`].
    RateLimited,
    /// See [`InferenceError::CircuitOpen`].
    CircuitOpen,
    /// See [`InferenceError::ContentFiltered`].
    ContentFiltered,
    /// See [`InferenceError::ContextLengthExceeded`].
    ContextLengthExceeded,
    /// See [`InferenceError::BadRequest`].
    BadRequest,
    /// See [`InferenceError::Unauthorized`].
    Unauthorized,
    /// See [`InferenceError::Forbidden`].
    Forbidden,
    /// See [`InferenceError::Backpressure`].
    Backpressure,
    /// See [`InferenceError::BudgetExceeded`].
    BudgetExceeded,
    /// See [`InferenceError::NetworkError`].
    NetworkError,
    /// See [`InferenceError::ServerError`].
    ServerError,
    /// See [`InferenceError::Timeout`].
    Timeout,
    /// See [`InferenceError::CudaContextPoisoned`].
    CudaContextPoisoned,
    /// See [`InferenceError::Internal`].
    Internal,
}

impl ErrorKind {
    /// All fourteen, in the order of the contract table.
    pub const ALL: [Self; 14] = [
        Self::RateLimited,
        Self::CircuitOpen,
        Self::ContentFiltered,
        Self::ContextLengthExceeded,
        Self::BadRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::Backpressure,
        Self::BudgetExceeded,
        Self::NetworkError,
        Self::ServerError,
        Self::Timeout,
        Self::CudaContextPoisoned,
        Self::Internal,
    ];

    /// The kind as the wire spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::CircuitOpen => "circuit_open",
            Self::ContentFiltered => "content_filtered",
            Self::ContextLengthExceeded => "context_length_exceeded",
            Self::BadRequest => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Backpressure => "backpressure",
            Self::BudgetExceeded => "budget_exceeded",
            Self::NetworkError => "network_error",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::CudaContextPoisoned => "cuda_context_poisoned",
            Self::Internal => "internal",
        }
    }

    /// The kind that the wire spells so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl InferenceError {
    /// The kind without its details.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::RateLimited { .. } => ErrorKind::RateLimited,
            Self::CircuitOpen { .. } => ErrorKind::CircuitOpen,
            Self::ContentFiltered { .. } => ErrorKind::ContentFiltered,
            Self::ContextLengthExceeded { .. } => ErrorKind::ContextLengthExceeded,
            Self::BadRequest { .. } => ErrorKind::BadRequest,
            Self::Unauthorized { .. } => ErrorKind::Unauthorized,
            Self::Forbidden { .. } => ErrorKind::Forbidden,
            Self::Backpressure { .. } => ErrorKind::Backpressure,
            Self::BudgetExceeded { .. } => ErrorKind::BudgetExceeded,
            Self::NetworkError { .. } => ErrorKind::NetworkError,
            Self::ServerError { .. } => ErrorKind::ServerError,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::CudaContextPoisoned { .. } => ErrorKind::CudaContextPoisoned,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// The row of the contract table.
    #[must_use]
    pub const fn contract(&self) -> Contract {
        self.kind().contract()
    }

    /// True for the kinds that a client may try again as they are (design section 5).
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::RateLimited | ErrorKind::ServerError | ErrorKind::Timeout | ErrorKind::NetworkError
        )
    }

    /// True for the kinds that speak of a sick endpoint (design section 5).
    #[must_use]
    pub const fn counts_as_circuit_failure(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::ServerError | ErrorKind::Timeout | ErrorKind::NetworkError
        )
    }
}

/// A failure with what is known of where it happened: optional additions that old readers of the wire form skip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The failure.
    #[serde(flatten)]
    pub error: InferenceError,
    /// Name of the backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// HTTP status of the backend's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_status: Option<u16>,
    /// The provider's request id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl From<InferenceError> for Failure {
    fn from(error: InferenceError) -> Self {
        Self {
            error,
            backend: None,
            upstream_status: None,
            request_id: None,
        }
    }
}

#[cfg(test)]
mod tests;
