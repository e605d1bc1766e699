//! A chat request as a Messages request.

use bytes::Bytes;

use super::Text;
use super::chat::{Chat, ResponseFormat, Stop};
use super::effort::effort;
use super::messages::conversation;
use super::named::{Object, parse, wrong};
use super::neutral;
use super::request::{Format, Metadata, OutputConfig, Request};
use super::thinking;
use super::tools::{choice, tools};
use crate::runtime::remote::wire::{Inexpressible, Target};
use crate::runtime::request::head::{Head, Operation};

/// Tokens of output when neither the request nor the backend says how many: the API wants a number.
const DEFAULT_MAX_TOKENS: u64 = 4096;

/// The body of the Messages request that asks what an OpenAI chat request asks.
pub fn encode(head: &Head, body: &[u8], target: Target<'_>) -> Result<Bytes, Inexpressible> {
    if head.operation != Operation::Chat {
        let message = "is not offered by Anthropic: use /v1/chat/completions";
        return Err(wrong(format!("/v1{}", head.operation.path()), message));
    }
    let chat: Chat<'_> = parse(body)?;
    neutral::check(&chat)?;
    let request = request(&chat, head, target)?;
    // The translation is about as long as the original.
    let mut written = Vec::with_capacity(body.len() + 256);
    serde_json::to_writer(&mut written, &request)
        .map_err(|error| wrong("the body", format!("cannot be written for Anthropic: {error}")))?;
    Ok(written.into())
}

fn request<'a>(chat: &'a Chat<'a>, head: &Head, target: Target<'a>) -> Result<Request<'a>, Inexpressible> {
    let max_tokens = head.output_limit.or(target.output_limit).unwrap_or(DEFAULT_MAX_TOKENS);
    let asked = chat.reasoning_effort.as_ref().map(Text::as_str);
    let effort = effort(asked, chat.thinking, target.model, max_tokens)?;
    let tool_choice = choice(chat)?;
    let thinking = thinking::beside(effort.thinking, chat, tool_choice.as_ref())?;
    let (system, messages) = conversation(&chat.messages)?.into_parts();
    let user = chat.safety_identifier.as_ref().or(chat.user.as_ref());
    Ok(Request {
        model: target.model,
        max_tokens,
        messages,
        system,
        stream: chat.stream.filter(|stream| *stream),
        temperature: share("temperature", chat.temperature)?,
        top_p: share("top_p", chat.top_p)?,
        top_k: chat.top_k,
        stop_sequences: stop_sequences(chat.stop.as_ref())?,
        tools: tools(chat.tools.as_deref().unwrap_or_default())?,
        tool_choice,
        thinking,
        output_config: OutputConfig {
            effort: effort.effort,
            format: format(chat.response_format.as_ref())?,
        },
        metadata: user.map(|user| Metadata { user_id: user.as_str() }),
        service_tier: service_tier(chat.service_tier.as_ref())?,
        cache_control: chat.cache_control,
    })
}

/// A number of 0 to 1. Both fields are 1 when absent, in both APIs, and newer models take no other value nor both of them:
/// 1 is left out.
fn share(field: &str, value: Option<f64>) -> Result<Option<f64>, Inexpressible> {
    match value {
        Some(value) if !(0.0..=1.0).contains(&value) => {
            Err(wrong(field, format!("must be 0 to 1 for Anthropic, it is {value}")))
        }
        value => Ok(value.filter(|value| *value < 1.0)),
    }
}

fn stop_sequences<'a>(stop: Option<&'a Stop<'a>>) -> Result<Vec<&'a str>, Inexpressible> {
    let blank = |text: &Text<'_>| text.as_str().trim().is_empty();
    let refused = |field: String| Err(wrong(field, "must hold more than white space for Anthropic"));
    match stop {
        None => Ok(Vec::new()),
        Some(Stop::One(text)) if blank(text) => refused("stop".into()),
        Some(Stop::One(text)) => Ok(vec![text.as_str()]),
        Some(Stop::Several(texts)) => match texts.iter().position(blank) {
            Some(at) => refused(format!("stop[{at}]")),
            None => Ok(texts.iter().map(Text::as_str).collect()),
        },
    }
}

fn format<'a>(asked: Option<&'a Object<ResponseFormat<'a>>>) -> Result<Option<Format<'a>>, Inexpressible> {
    let Some(Object(asked)) = asked else {
        return Ok(None);
    };
    match (asked.kind.as_str(), &asked.json_schema) {
        ("text", None) => Ok(None),
        ("json_schema", Some(Object(format))) => {
            if format.description.is_some() {
                let message = "has no place at Anthropic: make it the description of the schema";
                return Err(wrong("response_format.json_schema.description", message));
            }
            let schema = format.schema.filter(|raw| raw.get().starts_with('{'));
            let schema =
                schema.ok_or_else(|| wrong("response_format.json_schema.schema", "is required, as an object"))?;
            Ok(Some(Format::JsonSchema { schema }))
        }
        ("json_schema", None) => Err(wrong("response_format.json_schema", "is required")),
        ("json_object", _) => Err(wrong(
            "response_format.type",
            "json_object is not offered by Anthropic: use json_schema",
        )),
        ("text", Some(_)) => Err(wrong(
            "response_format.json_schema",
            "does not belong to the type text: leave it out",
        )),
        _ => Err(wrong("response_format.type", "must be text or json_schema")),
    }
}

/// OpenAI's `default` is the standard tier, whatever else was bought.
fn service_tier(asked: Option<&Text<'_>>) -> Result<Option<&'static str>, Inexpressible> {
    match asked.map(Text::as_str) {
        None => Ok(None),
        Some("auto") => Ok(Some("auto")),
        Some("default" | "standard_only") => Ok(Some("standard_only")),
        Some(_) => Err(wrong(
            "service_tier",
            "must be auto or default: Anthropic offers no other",
        )),
    }
}
