//! From a backend's answer to one of the fourteen kinds: status, machine fields, normalised text, then the status's default (design
//! section 5). Transport is judged by whoever holds the connection.

mod body;
mod context;
mod duration;
mod rules;
pub mod scrub;
mod shape;
#[cfg(test)]
mod tests;
mod text;
mod tokens;
mod wait;

use std::{borrow::Cow, time::Duration};

use http::HeaderMap;
use secrecy::SecretString;

use crate::error::{CircuitRule, InferenceError, Provider, RetryRule};

use body::ErrorBody;
use rules::Sign;
pub use wait::in_headers as asked_wait;

/// Who answered, and what the error must name.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The provider.
    pub provider: &'a Provider,
    /// The key that it was shown: some repeat it in what they say.
    pub secret: Option<&'a SecretString>,
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
    /// What the backend said.
    pub words: Option<Box<Words>>,
}

/// A text for people, short and without keys; behind one pointer, since failures are handed on by value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words(String);

impl Classified {
    /// For people: what the backend said, else what happened.
    #[must_use]
    pub fn said(&self) -> Cow<'_, str> {
        match &self.words {
            Some(words) => Cow::Borrowed(&words.0),
            None => Cow::Owned(self.error.to_string()),
        }
    }
}

impl From<InferenceError> for Classified {
    fn from(error: InferenceError) -> Self {
        let contract = error.contract();
        Self {
            error,
            circuit: contract.circuit,
            retry: contract.retry,
            wait: None,
            words: None,
        }
    }
}

/// Classifies an answer whose status or body says that it failed. Total: every answer gets a kind.
#[must_use]
pub fn classify(source: Source<'_>, status: u16, headers: &HeaderMap, body: &[u8]) -> Classified {
    judge(source, status, headers, &ErrorBody::read(body).with_headers(headers))
}

/// Classifies an error event inside a stream: its own code or type takes the place of the status.
#[must_use]
pub fn classify_event(source: Source<'_>, data: &[u8]) -> Classified {
    let body = ErrorBody::read(data);
    judge(source, rules::status_of_event(&body), &HeaderMap::new(), &body)
}

fn judge(source: Source<'_>, status: u16, headers: &HeaderMap, body: &ErrorBody) -> Classified {
    let sign = rules::sign(status, body, source.provider);
    let wait = wait::in_headers(headers).or_else(|| {
        let limited = matches!(sign, Sign::RateLimited | Sign::OwnLimit | Sign::DayQuota);
        // What is wrong with the request or the key does not pass with time, whatever its text quotes.
        waits(sign).then(|| wait::elsewhere(headers, body, source.now_unix_ms, limited))?
    });
    let message = body.shown(status, source.secret);
    let classified = Classified::from(error(source, status, body, wait, sign, message.clone()));
    Classified {
        wait,
        words: Some(Box::new(Words(message))),
        ..refined(classified, status, sign)
    }
}

const fn waits(sign: Sign) -> bool {
    !matches!(
        sign,
        Sign::BadRequest
            | Sign::ContextLength
            | Sign::ContentFiltered
            | Sign::Unauthorized
            | Sign::Forbidden
            | Sign::Quota
    )
}

fn error(
    source: Source<'_>,
    status: u16,
    body: &ErrorBody,
    wait: Option<Duration>,
    sign: Sign,
    message: String,
) -> InferenceError {
    let provider = source.provider.clone();
    match sign {
        Sign::RateLimited | Sign::DayQuota | Sign::OwnLimit => InferenceError::RateLimited {
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
        Sign::Backpressure | Sign::Memory => InferenceError::Backpressure { message },
        Sign::Quota => InferenceError::BudgetExceeded {
            deployment: source.deployment.to_owned(),
            window_end_unix_ms: None,
        },
        Sign::Network => InferenceError::NetworkError { message },
        Sign::Server | Sign::EngineDead => InferenceError::ServerError {
            status,
            body: (!body.is_empty()).then_some(message),
        },
        Sign::Timeout => InferenceError::Timeout {
            elapsed_ms: source.elapsed_ms,
        },
        Sign::Poisoned => InferenceError::CudaContextPoisoned { message },
    }
}

/// Where an answer tells more than its kind. The contract table is about kinds, whoever has them: its backpressure and its open
/// circuit are mostly our own, and its exhausted budget is always ours. The same kind from a provider means something else.
fn refined(classified: Classified, status: u16, sign: Sign) -> Classified {
    use CircuitRule as C;
    use RetryRule as R;
    let (circuit, retry) = match sign {
        // A provider's overload passes, and is its failure; asked politely (429) to come back it is a limit like others.
        Sign::Backpressure if status >= 500 => (C::EndpointFailure, R::SameBackend),
        // Out of memory means this request and those beside it: the endpoint is well. A gateway's own breaker tells when it
        // closes, and our failures must not be stacked on it.
        Sign::Backpressure | Sign::Memory | Sign::CircuitOpen => (C::Ignored, R::SameBackend),
        // No request with this key is answered until people pay, or until the day ends.
        Sign::Quota | Sign::DayQuota => (C::CredentialRefused, R::NextBackend),
        Sign::OwnLimit => (C::Ignored, R::NextBackend),
        // The replica that answered is gone for good.
        Sign::EngineDead => (C::EndpointFailure, R::OtherReplica),
        _ => return classified,
    };
    Classified {
        circuit,
        retry,
        ..classified
    }
}
