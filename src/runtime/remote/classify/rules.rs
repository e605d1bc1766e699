//! The rules, in their order. Words of providers were taken from recorded bodies; see `tests/data/provider-errors.tsv`.

use super::body::ErrorBody;
use crate::error::Provider;

/// What an answer is a sign of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    RateLimited,
    CircuitOpen,
    ContentFiltered,
    ContextLength,
    BadRequest,
    Unauthorized,
    Forbidden,
    Backpressure,
    /// The provider's bill is exhausted.
    Quota,
    Network,
    Server,
    Timeout,
    Poisoned,
}

/// Machine fields first, then text within what the status allows, then the status alone.
pub fn sign(status: u16, body: &ErrorBody, provider: &Provider) -> Sign {
    by_fields(status, body)
        .or_else(|| by_text(status, body, provider))
        .unwrap_or_else(|| by_status(status))
}

fn by_fields(status: u16, body: &ErrorBody) -> Option<Sign> {
    let sign = match body.code.as_str() {
        "context_length_exceeded" => Sign::ContextLength,
        "content_policy_violation"
        | "content_filter"
        | "invalid_prompt"
        | "responsibleaipolicyviolation"
        | "moderation_blocked" => Sign::ContentFiltered,
        "insufficient_quota" | "credit_balance_exhausted" | "billing_hard_limit_reached" | "billing_not_active" => {
            Sign::Quota
        }
        "server_is_overloaded" | "model_overloaded" => Sign::Backpressure,
        "rate_limit_exceeded" if status < 500 => Sign::RateLimited,
        "invalid_api_key" | "ip_not_authorized" => Sign::Unauthorized,
        _ => return by_type(status, body.kind.as_str()),
    };
    Some(sign)
}

fn by_type(status: u16, kind: &str) -> Option<Sign> {
    match kind {
        "all_deployments_in_cooldown" => Some(Sign::CircuitOpen),
        "insufficient_quota" | "budget_exceeded" => Some(Sign::Quota),
        "exceed_context_size_error" => Some(Sign::ContextLength),
        "overloaded_error" => Some(Sign::Backpressure),
        "service_unavailable_error" | "unavailable_error" if status == 503 => Some(Sign::Backpressure),
        _ => None,
    }
}

const QUOTA: &[&str] = &[
    "exceeded your current quota",
    "insufficient_quota",
    "credit balance is too low",
];
const CONTEXT: &[&str] = &[
    "context window",
    "maximum context length",
    "context length exceeded",
    "contextwindowexceedederror",
    "exceeds the available context size",
    "too large to process",
    "prompt is too long",
];
const CONTENT: &[&str] = &[
    "contentpolicyviolationerror",
    "content policy",
    "content management policy",
    "safety system",
    "usage policy",
];
const OVERLOAD: &[&str] = &[
    "overloaded",
    "at capacity",
    "loading model",
    "too many requests in queue",
];
const POISON: &[&str] = &[
    "cuda error",
    "cudaerror",
    "device-side assert",
    "unspecified launch failure",
];
const MEMORY: &[&str] = &["out of memory", "cudaerrormemoryallocation", "failed to allocate"];

fn by_text(status: u16, body: &ErrorBody, provider: &Provider) -> Option<Sign> {
    let says = |words: &[&str]| words.iter().any(|word| body.text.contains(word));
    match status {
        400 | 402 | 403 | 429 if says(QUOTA) => Some(Sign::Quota),
        400 | 413 | 422 | 500 if says(CONTEXT) => Some(Sign::ContextLength),
        400 | 403 | 422 if says(CONTENT) => Some(Sign::ContentFiltered),
        503 if says(OVERLOAD) => Some(Sign::Backpressure),
        500..600 if says(MEMORY) => Some(Sign::Backpressure),
        500..600 if *provider == Provider::Local && says(POISON) => Some(Sign::Poisoned),
        500 | 502 if *provider == Provider::LiteLlm && says(&["connection error"]) => Some(Sign::Network),
        _ => None,
    }
}

const fn by_status(status: u16) -> Sign {
    match status {
        401 => Sign::Unauthorized,
        402 => Sign::Quota,
        403 => Sign::Forbidden,
        408 | 504 | 524 => Sign::Timeout,
        429 => Sign::RateLimited,
        529 => Sign::Backpressure,
        400..=499 | 501 => Sign::BadRequest,
        _ => Sign::Server,
    }
}
