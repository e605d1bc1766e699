//! The wire formats, by path: what each one demands of a request, and how it answers.

mod anthropic;
mod gemini;
mod openai;

use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    generate::{Manner, Prompt},
    play::{Body, Reply},
    seen::Seen,
};

/// A provider's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Format {
    OpenAI,
    Anthropic,
    Gemini,
    AzureOpenAI,
    LiteLLM,
    OpenAICompatible,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        serde_json::from_value(json!(text)).map_err(|_| {
            format!("{text:?} is none of OpenAI, Anthropic, Gemini, AzureOpenAI, LiteLLM, OpenAICompatible")
        })
    }
}

/// A request that the provider does not take.
#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    pub message: String,
}

pub fn refuse(message: impl Into<String>) -> Refusal {
    Refusal {
        status: 400,
        message: message.into(),
    }
}

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Chat,
    Completion,
    Embeddings,
    Messages,
    /// Of a model: the method after the colon.
    Gemini(String),
}

fn call(path: &str) -> Option<(Format, Call)> {
    let azure = path.starts_with("/openai/");
    let family = if azure { Format::AzureOpenAI } else { Format::OpenAI };
    if path.ends_with("/chat/completions") {
        return Some((family, Call::Chat));
    }
    if path.ends_with("/completions") {
        return Some((family, Call::Completion));
    }
    if path.ends_with("/embeddings") {
        return Some((family, Call::Embeddings));
    }
    if path == "/v1/messages" {
        return Some((Format::Anthropic, Call::Messages));
    }
    let (before, method) = path.rsplit_once(':')?;
    let known = before.starts_with("/v1beta/models/") || is_vertex(before);
    known.then(|| (Format::Gemini, Call::Gemini(method.to_owned())))
}

pub fn is_vertex(path: &str) -> bool {
    path.starts_with("/v1/projects/") && path.contains("/publishers/google/models/")
}

/// The format of a path: the one that is served, when it is of the same family.
fn spoken(seen: &Seen, manner: &Manner) -> Option<(Format, Call)> {
    let (format, call) = call(&seen.path)?;
    match (manner.format, format) {
        (None, _) => Some((format, call)),
        (Some(only @ (Format::LiteLLM | Format::OpenAICompatible)), Format::OpenAI) => Some((only, call)),
        (Some(only), _) => (only == format).then_some((format, call)),
    }
}

/// The key that came, without its scheme; `None` when the header of the format is missing.
fn key(format: Format, seen: &Seen) -> Option<&str> {
    let given = |name: &str| Some(seen.header(name)).filter(|key| !key.is_empty());
    let bearer = seen.header("authorization").strip_prefix("Bearer ");
    match format {
        Format::Anthropic => given("x-api-key"),
        Format::AzureOpenAI => given("api-key").or(bearer),
        Format::Gemini if is_vertex(&seen.path) => bearer.or_else(|| given("x-goog-api-key")),
        Format::Gemini => given("x-goog-api-key"),
        Format::OpenAI | Format::LiteLLM | Format::OpenAICompatible => bearer,
    }
}

/// The refusal of a wrong or missing key.
pub fn refused_key(seen: &Seen, manner: &Manner) -> Option<Reply> {
    let (format, _) = spoken(seen, manner)?;
    let key = key(format, seen);
    let keyless = matches!(format, Format::OpenAICompatible | Format::LiteLLM) && manner.key.is_none();
    let right = keyless || key.is_some_and(|key| manner.key.as_deref().is_none_or(|wanted| wanted == key));
    (!right).then(|| {
        refusal(
            format,
            401,
            &format!("Incorrect API key provided: {}.", key.unwrap_or_default()),
        )
    })
}

/// A refusal in the format's own words.
fn refusal(format: Format, status: u16, message: &str) -> Reply {
    let body = match format {
        Format::Anthropic => anthropic::error(status, message),
        Format::Gemini => gemini::error(status, message),
        _ => openai::error(status, message),
    };
    Reply::json(status, &body)
}

/// A working provider's answer.
pub fn answer(seen: &Seen, manner: &Manner) -> Reply {
    let Some((format, call)) = spoken(seen, manner) else {
        return refusal(
            manner.format.unwrap_or(Format::OpenAI),
            404,
            &format!("Invalid URL ({} {})", seen.method, seen.path),
        );
    };
    if let Some(refusal) = refused_key(seen, manner) {
        return refusal;
    }
    let made = match &call {
        Call::Chat => openai::chat(format, seen, manner),
        Call::Completion => openai::completion(seen, manner),
        Call::Embeddings => openai::embeddings(seen),
        Call::Messages => anthropic::messages(seen, manner),
        Call::Gemini(method) => gemini::call(method, seen, manner),
    };
    made.unwrap_or_else(|refused| refusal(format, refused.status, &refused.message))
}

/// A stream.
fn stream(events: Vec<String>) -> Reply {
    Reply {
        status: 200,
        headers: vec![("content-type".into(), "text/event-stream".into())],
        body: Body::Stream(events),
    }
}

/// The first field that is not among those known.
fn unknown<'a>(body: &'a Value, known: &[&str]) -> Option<&'a str> {
    let mut names = body.as_object()?.keys().map(String::as_str);
    names.find(|name| !known.contains(name))
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().filter_map(|i| i.as_str().map(str::to_owned)).collect(),
        _ => vec![],
    }
}

/// How many answers: at least one.
fn answers(prompt: &Prompt) -> usize {
    prompt.answers.max(1)
}
