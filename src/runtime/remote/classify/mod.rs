//! From a backend's answer to one of the fourteen kinds: status, machine fields, normalised text, then the status's default (design
//! section 5). Transport is judged by whoever holds the connection.

mod body;
mod rules;
pub mod scrub;
#[cfg(test)]
mod tests;
mod wait;

use std::time::Duration;

use http::HeaderMap;

use crate::error::{CircuitRule, InferenceError, Provider, RetryRule};

use body::ErrorBody;
use rules::Sign;

/// Who answered, and what the error must name.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The provider.
    pub provider: &'a Provider,
    /// `NAMESPACE/NAME` of the deployment.
    pub deployment: &'a str,
    /// Milliseconds since 1970 UTC.
    pub now_unix_ms: i64,
    /// Milliseconds since the attempt began.
    pub elapsed_ms: u64,
}

/// A failure with what it means here; [`InferenceError::contract`] but for what only the answer tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classified {
    /// The failure.
    pub error: InferenceError,
    /// What it means for circuits.
    pub circuit: CircuitRule,
    /// What may be tried.
    pub retry: RetryRule,
    /// The wait that the backend asked for.
    pub wait: Option<Duration>,
}

impl From<InferenceError> for Classified {
    fn from(error: InferenceError) -> Self {
        let contract = error.contract();
        Self {
            error,
            circuit: contract.circuit,
            retry: contract.retry,
            wait: None,
        }
    }
}

/// Classifies an answer whose status or body says that it failed. Total: every answer gets a kind.
#[must_use]
pub fn classify(source: Source<'_>, status: u16, headers: &HeaderMap, body: &[u8]) -> Classified {
    let body = ErrorBody::read(body);
    let wait = wait::asked(headers, &body.message);
    let sign = rules::sign(status, &body, source.provider);
    Classified {
        wait,
        ..classified(source, status, &body, wait, sign)
    }
}

/// Classifies an error event inside a stream: its own code takes the place of the status.
#[must_use]
pub fn classify_event(source: Source<'_>, data: &[u8]) -> Classified {
    let status = ErrorBody::read(data).status().unwrap_or(500);
    classify(source, status, &HeaderMap::new(), data)
}

fn classified(source: Source<'_>, status: u16, body: &ErrorBody, wait: Option<Duration>, sign: Sign) -> Classified {
    let provider = source.provider.clone();
    let message = body.shown(status);
    let error = match sign {
        Sign::RateLimited => InferenceError::RateLimited {
            provider,
            retry_after: wait.and_then(|w| u64::try_from(w.as_millis()).ok()),
        },
        Sign::CircuitOpen => {
            let now = source.now_unix_ms;
            let wait_ms = wait.and_then(|w| i64::try_from(w.as_millis()).ok()).unwrap_or(0);
            InferenceError::CircuitOpen {
                provider,
                opened_at_unix_ms: now,
                retry_at_unix_ms: now.saturating_add(wait_ms),
            }
        }
        Sign::ContentFiltered => InferenceError::ContentFiltered { reason: message },
        Sign::ContextLength => {
            let (tokens, max_tokens) = body.token_counts();
            InferenceError::ContextLengthExceeded { tokens, max_tokens }
        }
        Sign::BadRequest => InferenceError::BadRequest { message },
        Sign::Unauthorized => InferenceError::Unauthorized { message },
        Sign::Forbidden => InferenceError::Forbidden { message },
        Sign::Backpressure => InferenceError::Backpressure { message },
        Sign::Quota => return quota(source),
        Sign::Network => InferenceError::NetworkError { message },
        Sign::Server => InferenceError::ServerError {
            status,
            body: (!body.is_empty()).then_some(message),
        },
        Sign::Timeout => InferenceError::Timeout {
            elapsed_ms: source.elapsed_ms,
        },
        Sign::Poisoned => InferenceError::CudaContextPoisoned { message },
    };
    error.into()
}

/// The provider's own bill is exhausted: no request with this key is answered until people pay, so it counts against the credential.
fn quota(source: Source<'_>) -> Classified {
    let error = InferenceError::BudgetExceeded {
        deployment: source.deployment.to_owned(),
    };
    Classified {
        circuit: CircuitRule::CredentialRefused,
        retry: RetryRule::NextBackend,
        ..error.into()
    }
}
