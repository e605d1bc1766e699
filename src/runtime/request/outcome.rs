//! How an attempt can fail, and what the rest of the request must know of it.

use std::time::Duration;

use crate::{
    error::{Failure, InferenceError, RetryRule},
    policy::pricing::Usage,
    runtime::remote::classify::Classified,
};

/// How far an attempt got before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing left this process.
    Unsent,
    /// The request left, in part or whole; what became of it is not known.
    Sent,
    /// The backend answered with a complete error and nothing else.
    Answered,
}

/// What names a backend's answer that was none.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Its HTTP status.
    pub status: u16,
    /// The provider's request id.
    pub request_id: Option<String>,
}

/// An attempt that brought no answer, or ended before its end.
#[derive(Clone, Debug)]
pub struct Miss {
    /// The failure and what it means.
    pub classified: Classified,
    /// How far it got.
    pub progress: Progress,
    /// The backend's answer, when there was one.
    pub upstream: Option<Box<Upstream>>,
    /// Tokens it reported all the same.
    pub usage: Option<Box<Usage>>,
    /// The field of the client's request that is at fault.
    pub param: Option<Box<str>>,
    /// No pod with an engine was reached, and one will come back for it.
    pub asleep: bool,
    /// The refusal speaks of `stream_options`, perhaps because they are refused.
    pub of_stream_options: bool,
}

impl Miss {
    /// Nothing was sent.
    #[must_use]
    pub fn unsent(error: InferenceError) -> Self {
        Self::at(Progress::Unsent, error.into())
    }

    /// Nothing was sent, and trying again makes sense after a while.
    #[must_use]
    pub fn unsent_for(error: InferenceError, wait: Duration) -> Self {
        let classified = Classified {
            wait: Some(wait),
            ..error.into()
        };
        Self::at(Progress::Unsent, classified)
    }

    /// The request left and no complete answer came.
    #[must_use]
    pub fn sent(error: InferenceError) -> Self {
        Self::at(Progress::Sent, error.into())
    }

    /// A failure at a point.
    #[must_use]
    pub const fn at(progress: Progress, classified: Classified) -> Self {
        Self {
            classified,
            progress,
            upstream: None,
            usage: None,
            param: None,
            asleep: false,
            of_stream_options: false,
        }
    }

    /// This backend has no way to take a field of the request. Another one may.
    #[must_use]
    pub fn inexpressible(field: &str, message: &str, retry: RetryRule) -> Self {
        let error = InferenceError::BadRequest {
            message: format!("{field} {message}"),
        };
        let mut miss = Self::unsent(error);
        miss.classified.retry = retry;
        miss.param = Some(field.into());
        miss
    }

    /// The failure as the wire says it.
    #[must_use]
    pub fn failure(&self, backend: &str) -> Failure {
        Failure {
            error: self.classified.error.clone(),
            backend: Some(backend.to_owned()),
            upstream_status: self.upstream.as_ref().map(|upstream| upstream.status),
            request_id: self.upstream.as_ref().and_then(|upstream| upstream.request_id.clone()),
        }
    }
}
