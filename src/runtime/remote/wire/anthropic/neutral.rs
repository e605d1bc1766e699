//! Fields that Anthropic has no word for: left out when they ask for nothing, refused when they ask for something.

use serde_json::Value;

use super::chat::{Chat, Raw};
use super::named::{NOT_OFFERED, wrong};
use crate::runtime::remote::wire::Inexpressible;

/// Whether a value asks for nothing.
type Neutral = fn(&Value) -> bool;

fn never(_: &Value) -> bool {
    false
}

fn off(value: &Value) -> bool {
    value == false
}

fn zero(value: &Value) -> bool {
    value.as_f64() == Some(0.0)
}

fn one(value: &Value) -> bool {
    value.as_f64() == Some(1.0)
}

fn empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// Names the first field that asks for something.
pub(super) fn check(chat: &Chat<'_>) -> Result<(), Inexpressible> {
    let fields: [(&str, Raw<'_>, Neutral, &str); 16] = [
        ("audio", chat.audio, never, NOT_OFFERED),
        ("frequency_penalty", chat.frequency_penalty, zero, NOT_OFFERED),
        (
            "function_call",
            chat.function_call,
            |v| v == "none" || v == "auto",
            "is OpenAI's old form: use tool_choice",
        ),
        ("functions", chat.functions, empty, "is OpenAI's old form: use tools"),
        ("logit_bias", chat.logit_bias, empty, NOT_OFFERED),
        ("logprobs", chat.logprobs, off, NOT_OFFERED),
        ("metadata", chat.metadata, empty, NOT_OFFERED),
        (
            "modalities",
            chat.modalities,
            |v| *v == serde_json::json!(["text"]),
            "must be [\"text\"]: Anthropic answers with nothing else",
        ),
        (
            "n",
            chat.n,
            one,
            "must be 1: Anthropic gives one answer a request, send several requests",
        ),
        ("prediction", chat.prediction, never, NOT_OFFERED),
        ("presence_penalty", chat.presence_penalty, zero, NOT_OFFERED),
        ("seed", chat.seed, never, NOT_OFFERED),
        ("store", chat.store, off, NOT_OFFERED),
        ("top_logprobs", chat.top_logprobs, zero, NOT_OFFERED),
        ("verbosity", chat.verbosity, |v| v == "medium", NOT_OFFERED),
        ("web_search_options", chat.web_search_options, never, NOT_OFFERED),
    ];
    for (field, raw, neutral, message) in fields {
        if raw.is_some_and(|raw| !serde_json::from_str(raw.get()).is_ok_and(|value| neutral(&value))) {
            return Err(wrong(field, message));
        }
    }
    Ok(())
}
