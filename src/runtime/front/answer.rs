//! Errors in OpenAI's shape, with ours inside.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::Outgoing;
use crate::{
    error::{ErrorKind, Failure, InferenceError},
    runtime::{
        access::Denied,
        request::{
            body::{BodyError, MAX_BODY},
            head::HeadError,
            order::Lost,
        },
    },
};

/// Name of the backend that answered.
pub const BACKEND: HeaderName = HeaderName::from_static("x-inference-backend");

/// A request that gets an error for an answer.
#[derive(Debug)]
pub struct Rejection {
    failure: Box<Failure>,
    status: u16,
    kind: &'static str,
    code: &'static str,
    param: Option<Cow<'static, str>>,
    retry_after: Option<u64>,
    allow: Option<&'static str>,
}

impl Rejection {
    /// As the contract table says.
    #[must_use]
    pub fn new(failure: Failure, wait: Option<Duration>) -> Self {
        let contract = failure.error.contract();
        let seconds = wait
            .map_or(1, |wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
            .max(1);
        // When the money comes back depends on the window, and mostly that is no time to wait for.
        let returns = failure.error.kind() == ErrorKind::BudgetExceeded && wait.is_some();
        Self {
            failure: Box::new(failure),
            status: contract.http_status,
            kind: contract.error_type,
            code: contract.error_code,
            param: None,
            retry_after: (contract.retry_after || returns).then_some(seconds),
            allow: None,
        }
    }

    /// A fault of the caller that OpenAI has a word of its own for.
    fn callers(status: u16, code: &'static str, message: String) -> Self {
        Self {
            status,
            code,
            ..Self::new(InferenceError::BadRequest { message }.into(), None)
        }
    }

    /// No such path.
    #[must_use]
    pub fn no_path(path: &str) -> Self {
        Self::callers(
            404,
            "unknown_url",
            format!("there is no {path} here; see /v1/models, /v1/chat/completions"),
        )
    }

    /// The path wants another method.
    #[must_use]
    pub fn wrong_method(wanted: &'static str) -> Self {
        Self {
            allow: Some(wanted),
            ..Self::callers(405, "method_not_allowed", format!("this path takes {wanted} only"))
        }
    }

    /// The endpoint serves another model.
    #[must_use]
    pub fn unknown_model(asked: &str, served: &str) -> Self {
        let asked: String = asked.chars().take(200).collect();
        Self {
            param: Some("model".into()),
            ..Self::callers(
                404,
                "model_not_found",
                format!("the model {asked:?} is not served here; {served:?} is"),
            )
        }
    }

    /// `x-inference-priority` holds something else.
    #[must_use]
    pub fn unknown_priority() -> Self {
        let message = "x-inference-priority must be critical, high, normal or background".to_owned();
        Self {
            param: Some("x-inference-priority".into()),
            ..Self::callers(400, "bad_request", message)
        }
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The kind of the error, for the request's outcome.
    #[must_use]
    pub const fn outcome(&self) -> &'static str {
        self.failure.error.kind().as_str()
    }

    /// The answer.
    #[must_use]
    pub fn into_response(self, id: &HeaderValue) -> Response<Outgoing> {
        let id_text = id.to_str().unwrap_or_default();
        let body = json!({"error": self.error(id_text)}).to_string();
        let mut response = Response::new(Outgoing::whole(body));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    fn error(&self, id: &str) -> Value {
        object(&self.failure, self.kind, self.code, self.param.as_deref(), id)
    }
}

fn object(failure: &Failure, kind: &str, code: &str, param: Option<&str>, id: &str) -> Value {
    json!({
        "message": failure.error.to_string(),
        "type": kind,
        "param": param,
        "code": code,
        "retryable": failure.error.is_retryable(),
        "upstream_status": failure.upstream_status,
        "request_id": id,
        "inference_error": failure,
    })
}

/// The event that ends a broken stream.
#[must_use]
pub fn event(failure: &Failure, id: &str) -> Bytes {
    let contract = failure.error.contract();
    let error = object(failure, contract.error_type, contract.error_code, None, id);
    format!("event: error\ndata: {}\n\n", json!({ "error": error })).into()
}

impl From<Denied> for Rejection {
    fn from(denied: Denied) -> Self {
        let message = denied.to_string();
        match denied {
            Denied::Missing | Denied::Caller(_) => Self::callers(401, "invalid_api_key", message),
            Denied::Forbidden(_) => Self::callers(403, "permission_denied", message),
            Denied::Ourselves(_) => Self::new(InferenceError::Backpressure { message }.into(), None),
        }
    }
}

impl From<BodyError> for Rejection {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::callers(
                413,
                "request_too_large",
                format!("the body is longer than {} MiB", MAX_BODY >> 20),
            ),
            BodyError::TooSlow => Self::callers(408, "request_timeout", error.to_string()),
            BodyError::NoRoom => Self::new(
                InferenceError::Backpressure {
                    message: error.to_string(),
                }
                .into(),
                None,
            ),
            BodyError::Broken(_) => Self::callers(400, "bad_request", error.to_string()),
        }
    }
}

impl From<HeadError> for Rejection {
    fn from(error: HeadError) -> Self {
        Self {
            param: error.param.map(Cow::Borrowed),
            ..Self::callers(400, "bad_request", error.message)
        }
    }
}

impl From<&Lost> for Rejection {
    fn from(lost: &Lost) -> Self {
        Self {
            param: lost.miss.param.as_deref().map(|param| Cow::Owned(param.to_owned())),
            ..Self::new(lost.miss.failure(&lost.backend), lost.miss.classified.wait)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Provider;

    #[test]
    fn an_error_speaks_openai_and_carries_ours() {
        let error = InferenceError::RateLimited {
            provider: Provider::OpenAi,
            retry_after: Some(1_500),
        };
        let failure = Failure {
            error,
            backend: Some("openai".into()),
            upstream_status: Some(429),
            request_id: Some("up-1".into()),
        };
        let rejection = Rejection::new(failure, Some(Duration::from_millis(1_500)));
        assert_eq!((rejection.status, rejection.retry_after), (429, Some(2)));
        let expected = json!({
            "message": "OpenAI limits the rate, retry after 1500 ms", "type": "rate_limit_error", "param": null,
            "code": "rate_limited", "retryable": true, "upstream_status": 429, "request_id": "our-1",
            "inference_error": {"kind": "rate_limited", "provider": "open_ai", "retry_after": 1500, "backend": "openai",
                "upstream_status": 429, "request_id": "up-1"},
        });
        assert_eq!(rejection.error("our-1"), expected);
    }

    #[test]
    fn an_exhausted_budget_says_when_to_come_back_only_when_that_is_soon() {
        let error = InferenceError::BudgetExceeded {
            deployment: "prod/assistant".into(),
            window_end_unix_ms: Some(1_796_083_200_000),
        };
        let rejection = |wait| Rejection::new(error.clone().into(), wait);
        assert_eq!(rejection(None).retry_after, None);
        assert_eq!(rejection(Some(Duration::from_secs(90))).retry_after, Some(90));
        let body = rejection(None).error("our-1");
        assert_eq!(
            (
                &body["type"],
                &body["code"],
                &body["inference_error"]["window_end_unix_ms"]
            ),
            (
                &json!("insufficient_quota"),
                &json!("insufficient_quota"),
                &json!(1_796_083_200_000_i64)
            )
        );
    }

    #[test]
    fn a_wrong_key_of_the_caller_is_not_the_backends() {
        let rejection = Rejection::from(Denied::Caller("the key is wrong".into()));
        assert_eq!(
            (rejection.status, rejection.code, rejection.outcome()),
            (401, "invalid_api_key", "bad_request")
        );
    }
}
