//! Every call to the API server goes through here: kube's client has no read timeout of its own.

use std::{future::Future, time::Duration};

/// A call that has no answer after this long has failed.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Why a call to the API server failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer in time. Whether the server carried it out is unknown.
    #[error("{what}: no answer within {} s", DEADLINE.as_secs())]
    Deadline {
        /// The call in words.
        what: String,
    },
    /// An answer that is an error, or no connection.
    #[error("{what}: {}", explain(source))]
    Api {
        /// The call in words.
        what: String,
        /// kube's error.
        source: kube::Error,
    },
}

/// The server's own words where there are some: kube's text repeats them with the whole structure.
fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

impl CallError {
    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Api {
                source: kube::Error::Api(status),
                ..
            } => Some(status),
            Self::Api { .. } | Self::Deadline { .. } => None,
        }
    }

    /// 404.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|s| s.code == 404)
    }

    /// 409 because the name is taken.
    pub fn is_already_exists(&self) -> bool {
        self.status()
            .is_some_and(|s| s.code == 409 && s.reason == "AlreadyExists")
    }

    /// 409 because somebody else was faster.
    pub fn is_conflict(&self) -> bool {
        self.status()
            .is_some_and(|s| s.code == 409 && s.reason != "AlreadyExists")
    }

    /// The same call would fail again: the request is wrong (400, 422) or not allowed (403).
    pub fn is_refusal(&self) -> bool {
        self.status().is_some_and(|s| matches!(s.code, 400 | 403 | 422))
    }

    /// A constant name for metrics.
    pub fn label(&self) -> &'static str {
        match (self, self.status().map(|s| s.code)) {
            (Self::Deadline { .. }, _) => "deadline",
            (_, Some(403)) => "forbidden",
            (_, Some(404)) => "not_found",
            (_, Some(409)) => "conflict",
            (_, Some(400 | 422)) => "invalid",
            (_, Some(429)) => "too_many_requests",
            (_, Some(_)) => "server",
            (_, None) => "network",
        }
    }
}

/// Waits for `future` at most [`DEADLINE`]; `what` names the call in errors.
pub async fn call<T>(what: &str, future: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(CallError::Api {
            what: what.to_owned(),
            source,
        }),
        Err(_) => Err(CallError::Deadline { what: what.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_ends_at_the_deadline() {
        let error = call("get Service a/b", std::future::pending::<kube::Result<()>>()).await;
        assert_eq!(error.unwrap_err().to_string(), "get Service a/b: no answer within 10 s");
    }
}
