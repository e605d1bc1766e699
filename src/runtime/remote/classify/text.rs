//! What texts say where no machine word does. Every rule is held within the statuses that allow it: providers quote the caller's
//! words in their errors, and a caller must not be able to speak for the provider.

use super::{body::ErrorBody, context::context, rules::Sign, shape::front};
use crate::error::Provider;

const QUOTA: &[&str] = &[
    "insufficient_quota",
    "credit balance is too low",
    "insufficient balance",
    "balance is insufficient",
    "not enough balance",
    "balance not enough",
    "balance is not enough",
    "insufficient credit",
    "insufficient fund",
    "not enough credit",
    "run out of credit",
    "out of credits",
    "have any credits",
    "used all available credits",
    "credits are depleted",
    "credit limit exceeded",
    "key limit exceeded",
    "monthly quota",
    "monthly limit",
    "monthly included credits",
    "spending limit",
    "spending cap",
    "spend limit",
    "billing hard limit",
    "check your billing details",
    "budget has been exceeded",
    "exceededbudget",
    "over budget",
    "api usage limits",
    "out of extra usage",
    "has reached its usage limit",
    "overdue balance",
    "account is in good standing",
    "out of call volume quota",
];
/// OpenAI's words for a bill that is not paid. Google uses the same for a rate.
const OPENAI_QUOTA: &str = "exceeded your current quota";
const GOOGLE: &[&str] = &[
    "ai.google.dev",
    "generativelanguage.googleapis.com",
    "aiplatform.googleapis.com",
    "resource_exhausted",
    "geminiexception",
    "vertexaiexception",
    "vertex_ai",
];
const KEY: &[&str] = &[
    "incorrect api key",
    "invalid api key",
    "api key not valid",
    "api key not found",
    "api key expired",
    "api key is invalid",
    "api_key_invalid",
    "missing or invalid authorization header",
];
/// What the provider says of whoever the key belongs to.
const BARRED: &[&str] = &[
    "organization has been disabled",
    "organization has been restricted",
    "account has been suspended",
    "account is suspended",
    "user location is not supported",
    "country, region, or territory not supported",
];
/// Validators name the field at fault without quotation marks, and its name is the caller's; Google's path holds names of properties.
const INVALID: &[&str] = &[
    "extra inputs are not permitted",
    "input should be",
    "field required",
    "unrecognized request argument",
    "unknown parameter",
    "value error, ",
    "invalid schema for",
    "generatecontentrequest.",
    "tool call id was ",
];
const CONTENT: &[&str] = &[
    "contentpolicyviolationerror",
    "content policy",
    "content management policy",
    "content filtering policy",
    "blocked by content filter",
    "safety system",
    "safety filter",
    "safety guidelines",
    "usage policy",
    "usage policies",
    "usage guidelines",
    "responsible ai",
    "inappropriate content",
    "sensitive content",
    "sensitive words",
    "may contain sensitive information",
    "content exists risk",
    "was flagged",
    "been flagged",
    "guardrail",
    "prohibited content",
    "prompt was blocked",
];
/// "Your account has been flagged" is no verdict on a prompt.
const ACCOUNT: &[&str] = &[
    "your account",
    "your access",
    "your organization has",
    "account has been",
];
const LIMIT: &[&str] = &[
    "rate limit",
    "ratelimiterror",
    "too many requests",
    "request was throttled",
];
const LIMITED: &[&str] = &["litellm.ratelimiterror", "rate limit exceeded", "rate limit reached"];
const OVERLOAD: &[&str] = &[
    "overloaded",
    "at capacity",
    "over capacity",
    "out of capacity",
    "no capacity",
    "high demand",
    "loading model",
    "currently loading",
    "too many requests in queue",
    "queue is full",
    "server is busy",
    "server busy",
    // Envoy's own breaker: nothing was sent.
    "reset reason: overflow",
];
/// A context that is poisoned, as the log's patterns have it (`runtime::local::classify`).
const POISON: &[&str] = &[
    "cuda error",
    "cudaerror",
    "cuda_error_",
    "acceleratorerror",
    "device-side assert",
    "unspecified launch failure",
    "illegal memory access",
    "misaligned address",
    "uncorrectable ecc",
];
const MEMORY: &[&str] = &[
    "out of memory",
    "outofmemoryerror",
    "cudaerrormemoryallocation",
    "failed to allocate",
    "cudamalloc failed",
    "requires more system memory",
];
const DEAD: &[&str] = &[
    "enginecore encountered an issue",
    "enginedeaderror",
    "engine is dead",
    "engine loop is not running",
    "background loop has errored",
    "background loop is stopped",
];
const TIMEOUT: &[&str] = &[
    "request timed out",
    "timed out while",
    "upstream timed out",
    "upstream request timeout",
    "read timed out",
    "deadline exceeded",
    "gateway time-out",
    "gateway timeout",
    "litellm.timeout",
    "apitimeouterror",
];
const NETWORK: &[&str] = &[
    "connection error",
    "connection reset",
    "connection refused",
    "connection aborted",
    "connection attempts failed",
    "upstream connect error",
    "cannot connect to host",
    "server disconnected",
    "remote end closed connection",
    "peer closed connection",
    "socket hang up",
    "econnreset",
    "econnrefused",
    "no route to host",
    "name or service not known",
    "dial tcp",
];

/// The sign of an answer's text.
pub fn sign(status: u16, body: &ErrorBody, provider: &Provider) -> Option<Sign> {
    match status {
        500..600 => of_server(status, body, provider),
        429 | 402 | 403 => of_account(body, provider).or_else(|| of_limit(status, body)),
        // These say what they mean.
        408 | 424 | 451 | 498 | 499 => None,
        400..500 => {
            let vague = !matches!(status, 401 | 404 | 413 | 422);
            if status != 401 && body.says(INVALID) {
                return Some(Sign::BadRequest);
            }
            // Here the caller's words may be quoted, so what convicts the key must stand where the provider speaks.
            if leads(body, KEY) && status != 404 {
                Some(Sign::Unauthorized)
            } else if vague && leads_account(body, provider) {
                Some(Sign::Quota)
            } else if vague && leads(body, BARRED) {
                Some(Sign::Forbidden)
            } else {
                of_request(body, status)
            }
        }
        _ => None,
    }
}

fn of_server(status: u16, body: &ErrorBody, provider: &Provider) -> Option<Sign> {
    if body.text.starts_with("failed to parse") {
        // llama.cpp repeats what the model wrote.
        None
    } else if status == 500 && context(&body.text) {
        Some(Sign::ContextLength)
    } else if body.says(MEMORY) {
        Some(Sign::Memory)
    } else if *provider == Provider::Local && !body.cut && says_outside_quotes(body, POISON) {
        Some(Sign::Poisoned)
    } else if body.says(DEAD) {
        Some(Sign::EngineDead)
    } else if body.says(OVERLOAD) {
        Some(Sign::Backpressure)
    } else if status != 504 && body.says(NETWORK) {
        Some(Sign::Network)
    } else if body.says(TIMEOUT) {
        Some(Sign::Timeout)
    } else if status == 500 && body.says(&["litellm.ratelimiterror"]) {
        Some(Sign::RateLimited)
    } else {
        None
    }
}

fn is_google(body: &ErrorBody, provider: &Provider) -> bool {
    *provider == Provider::Gemini || body.has(&["resourceexhausted"]) || body.says(GOOGLE)
}

fn of_account(body: &ErrorBody, provider: &Provider) -> Option<Sign> {
    let unpaid = || body.says(QUOTA) || (body.says(&[OPENAI_QUOTA]) && !is_google(body, provider));
    (!body.cut && unpaid()).then_some(Sign::Quota)
}

fn of_limit(status: u16, body: &ErrorBody) -> Option<Sign> {
    match status {
        429 if body.says(&["overloaded", "model busy"]) => Some(Sign::Backpressure),
        // LiteLLM before it had a type for it.
        429 if body.says(&["no deployments available for selected model"]) => Some(Sign::CircuitOpen),
        403 if content(body) => Some(Sign::ContentFiltered),
        403 if body.says(LIMIT) => Some(Sign::RateLimited),
        _ => None,
    }
}

fn of_request(body: &ErrorBody, status: u16) -> Option<Sign> {
    if matches!(status, 401 | 404) {
        None
    } else if context(&body.text) {
        Some(Sign::ContextLength)
    } else if content(body) {
        Some(Sign::ContentFiltered)
    } else if leads(body, LIMITED) {
        Some(Sign::RateLimited)
    } else {
        None
    }
}

fn content(body: &ErrorBody) -> bool {
    body.says(CONTENT) && !body.says(ACCOUNT)
}

/// Bytes within which a sentence of the provider begins, class names of gateways before it included.
const LEAD: usize = 200;

/// Whether one of the texts begins near the front, before any quotation.
fn leads(body: &ErrorBody, texts: &[&str]) -> bool {
    let text = front(&body.text, LEAD);
    let end = quotation(text.as_bytes()).into_iter().chain(refused_value(text)).min();
    let end = end.unwrap_or(LEAD);
    texts.iter().any(|text| body.text.find(text).is_some_and(|at| at < end))
}

/// Where a quotation begins near the front: an index of a path is one (`properties[x]`), an apostrophe within a word is none.
fn quotation(text: &[u8]) -> Option<usize> {
    let in_word = |at: usize| text.get(at).is_some_and(u8::is_ascii_alphanumeric);
    let follows_word = |at: usize| at.checked_sub(1).is_some_and(in_word);
    (0..text.len()).find(|&at| match text.get(at) {
        Some(b'"' | b'`') => true,
        Some(b'[') => follows_word(at),
        Some(b'\'') => !(follows_word(at) && in_word(at + 1)),
        _ => false,
    })
}

/// Where a value begins that is not known or not taken, quoted or not: `Unknown part type: x`.
fn refused_value(text: &str) -> Option<usize> {
    text.match_indices(": ").map(|(at, _)| at).find(|&at| {
        let clause = text.get(..at).and_then(|before| before.rsplit([':', '.']).next());
        clause.is_some_and(|clause| {
            let refused = ["unknown ", "unsupported ", "unexpected ", "invalid "];
            let itself = ["request", "argument", "error"];
            refused.iter().any(|word| clause.contains(word)) && !itself.iter().any(|word| clause.ends_with(word))
        })
    })
}

/// Whether a text without any machine word is about a rate.
pub fn limited(body: &ErrorBody) -> bool {
    (leads(body, LIMITED) || leads(body, &["too many requests"])) && !body.says(OVERLOAD)
}

fn leads_account(body: &ErrorBody, provider: &Provider) -> bool {
    leads(body, QUOTA) || (leads(body, &[OPENAI_QUOTA]) && !is_google(body, provider))
}

/// Engines quote what they could not parse, the model's own output among it: that must not convict the GPU.
fn says_outside_quotes(body: &ErrorBody, texts: &[&str]) -> bool {
    let quoting = ["parse", "template", "grammar", "input at", "prompt", "unexpected"];
    texts.iter().any(|text| {
        let before = body.text.split_once(text).map(|(before, _)| before);
        before.is_some_and(|before| !quoting.iter().any(|word| before.contains(word)))
    })
}
