//! The most that a request can use under a budget, proved or refused (design section 8).
//!
//! A token stands for at least one byte of text, and JSON never writes a text shorter than it is: the bytes of the whole body bound the
//! input tokens of everything written in it. What is not written in it (images, files) counts as the backend's context length. Fields
//! whose cost is not known are refused by name.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::head::{Head, Operation};
use crate::{
    api::{NanoUsd, TokenPrice},
    policy::pricing::Prices,
};

/// Tokens that providers add around a prompt: role markers, tool preambles.
const FRAME: u64 = 1_024;
/// The output limit of requests that name none, when `serving.defaultMaxTokens` does not set one.
pub const DEFAULT_OUTPUT_LIMIT: u64 = 4_096;

/// The request has no proved bound.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {message}")]
pub struct Unbounded {
    /// The field.
    pub field: String,
    /// Why and what to do.
    pub message: String,
}

const COMMON: &[&str] = &[
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "n",
    "temperature",
    "top_p",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "user",
    "seed",
    "top_k",
    "min_p",
    "repetition_penalty",
];
const CHAT: &[&str] = &[
    "messages",
    "max_completion_tokens",
    "top_logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "response_format",
    "reasoning_effort",
    "verbosity",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
    "service_tier",
    "modalities",
    "store",
];
const COMPLETIONS: &[&str] = &["prompt", "suffix", "echo", "best_of"];
const EMBEDDINGS: &[&str] = &["model", "input", "encoding_format", "dimensions", "user"];

fn allowed(operation: Operation, field: &str) -> bool {
    match operation {
        Operation::Chat => COMMON.contains(&field) || CHAT.contains(&field),
        Operation::Completions => COMMON.contains(&field) || COMPLETIONS.contains(&field),
        Operation::Embeddings => EMBEDDINGS.contains(&field),
    }
}

/// What the request costs at most at these prices.
pub fn worst_case(
    head: &Head,
    body: &[u8],
    price: &TokenPrice,
    context_length: Option<u32>,
    output_limit: u64,
) -> Result<NanoUsd, Unbounded> {
    let Once(fields) = serde_json::from_slice(body)
        .map_err(|error| unbounded("the body", format!("must be a JSON object under a budget: {error}")))?;
    let unknown = fields.keys().find(|field| !allowed(head.operation, field));
    if let Some(field) = unknown {
        return Err(unbounded(
            field,
            "has no known cost, and the endpoint has a budget: leave it out".into(),
        ));
    }
    fixed_values(&fields)?;
    let mut input = u64::try_from(body.len()).unwrap_or(u64::MAX).saturating_add(FRAME);
    if let Some(field) = beyond_text(&fields)? {
        let length = context_length.ok_or_else(|| {
            unbounded(
                &field,
                "is no text; under a budget that needs contextLength in the backend's spec".into(),
            )
        })?;
        input = input.max(u64::from(length));
    }
    let prompts = prompts(&fields);
    let output = match head.operation {
        Operation::Embeddings => Some(0),
        _ => head.output_limit.unwrap_or(output_limit).checked_mul(prompts),
    };
    output
        .and_then(|output| Prices::from(price).worst_case(input, output, head.n))
        .ok_or_else(|| unbounded("max_tokens", "is more than can be paid for".into()))
}

fn unbounded(field: &str, message: String) -> Unbounded {
    Unbounded {
        field: field.to_owned(),
        message,
    }
}

/// The fields of an object, each written once: of two with one name a provider may read the other one than we do.
struct Once<'a>(BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Once<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Once<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    if fields.contains_key(&name) {
                        return Err(A::Error::custom(format_args!("the field {name:?} is written twice")));
                    }
                    fields.insert(name, value);
                }
                Ok(Once(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// Borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Fields that are allowed with values of known cost only.
fn fixed_values(fields: &BTreeMap<Cow<'_, str>, &RawValue>) -> Result<(), Unbounded> {
    let fixed: [(&str, &[&str]); 3] = [
        ("service_tier", &["\"default\"", "null"]),
        ("modalities", &["[\"text\"]", "null"]),
        ("store", &["false", "null"]),
    ];
    for (field, values) in fixed {
        if let Some(raw) = fields.get(field)
            && !values.contains(&raw.get())
        {
            let message = format!(
                "must be {} under a budget: other values have another price",
                values.join(" or ")
            );
            return Err(unbounded(field, message));
        }
    }
    let tools = fields.get("tools").map_or("null", |raw| raw.get());
    let tools: Option<Vec<Part<'_>>> = serde_json::from_str(tools)
        .map_err(|_| unbounded("tools", "must be a list of objects, each field written once".into()))?;
    let server_side = |tool: &Part<'_>| tool.kind.as_deref() != Some("function");
    match tools.unwrap_or_default().iter().position(server_side) {
        Some(index) => Err(unbounded(
            &format!("tools[{index}].type"),
            "must be function under a budget".into(),
        )),
        None => Ok(()),
    }
}

/// What is read of a message: its content is text, or a list of parts.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    audio: Option<&'a RawValue>,
}

/// A part of a content, or a tool.
#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
}

/// The first part of a message that is not text, if there is one; audio is refused, its tokens have another price.
fn beyond_text(fields: &BTreeMap<Cow<'_, str>, &RawValue>) -> Result<Option<String>, Unbounded> {
    let Some(raw) = fields.get("messages") else {
        return Ok(None);
    };
    let messages: Vec<Message<'_>> = serde_json::from_str(raw.get())
        .map_err(|_| unbounded("messages", "must be a list of objects, each field written once".into()))?;
    let mut found = None;
    for (m, message) in messages.iter().enumerate() {
        if message.audio.is_some() {
            return Err(unbounded(
                &format!("messages[{m}].audio"),
                "has another price: leave it out".into(),
            ));
        }
        let Some(content) = message.content else { continue };
        if content.get().starts_with('[') {
            let beyond = beyond_text_part(m, content)?;
            found = found.or(beyond);
        } else if !content.get().starts_with(['"', 'n']) {
            return Err(unbounded(
                &format!("messages[{m}].content"),
                "must be a text or a list of parts".into(),
            ));
        }
    }
    Ok(found)
}

fn beyond_text_part(message: usize, parts: &RawValue) -> Result<Option<String>, Unbounded> {
    let field = |part: usize| format!("messages[{message}].content[{part}]");
    let parts: Vec<&RawValue> = serde_json::from_str(parts.get()).unwrap_or_default();
    let mut found = None;
    for (index, part) in parts.into_iter().enumerate() {
        let kind = serde_json::from_str::<Part<'_>>(part.get())
            .ok()
            .and_then(|part| part.kind);
        match kind.as_deref() {
            Some("text" | "refusal") => {}
            Some("image_url" | "file") => found = found.or_else(|| Some(field(index))),
            _ => {
                return Err(unbounded(
                    &field(index),
                    "has no known cost under a budget: use text, image_url or file".into(),
                ));
            }
        }
    }
    Ok(found)
}

/// Prompts of a completion request: each gets an answer of its own.
fn prompts(fields: &BTreeMap<Cow<'_, str>, &RawValue>) -> u64 {
    let list = fields
        .get("prompt")
        .and_then(|raw| serde_json::from_str::<Vec<&RawValue>>(raw.get()).ok());
    let Some(list) = list else { return 1 };
    let is_list_of_prompts = list.iter().any(|item| item.get().starts_with(['"', '[']));
    if is_list_of_prompts { list.len() as u64 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::request::head::read;

    fn price() -> TokenPrice {
        TokenPrice {
            input_per_million_tokens: "1".parse().unwrap(),
            cached_input_per_million_tokens: None,
            output_per_million_tokens: "1".parse().unwrap(),
        }
    }

    fn cost(operation: Operation, body: &str, context: Option<u32>) -> Result<u64, Unbounded> {
        let head = read(operation, body.as_bytes()).unwrap();
        worst_case(&head, body.as_bytes(), &price(), context, 4_096).map(|cost| cost.0)
    }

    #[test]
    fn bytes_bound_the_input_and_the_limit_bounds_the_output() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"Hi"}],"max_tokens":10,"n":2}"#;
        let expected = (body.len() as u64 + FRAME + 10) * 2 * 1_000;
        assert_eq!(cost(Operation::Chat, body, None), Ok(expected));
        let unlimited = r#"{"model":"m","messages":[]}"#;
        assert_eq!(
            cost(Operation::Chat, unlimited, None),
            Ok((unlimited.len() as u64 + FRAME + 4_096) * 1_000)
        );
    }

    #[test]
    fn every_prompt_has_an_answer_of_its_own() {
        for (prompt, prompts) in [(r#""a""#, 1), (r#"["a","b","c"]"#, 3), ("[1,2,3]", 1), ("[[1],[2]]", 2)] {
            let body = format!(r#"{{"model":"m","prompt":{prompt},"max_tokens":10}}"#);
            let expected = (body.len() as u64 + FRAME + 10 * prompts) * 1_000;
            assert_eq!(cost(Operation::Completions, &body, None), Ok(expected), "{prompt}");
        }
    }

    #[test]
    fn what_is_not_text_counts_as_the_context_length() {
        let body = r#"{"model":"m","messages":[{"content":[{"type":"text"},{"type":"image_url"}]}],"max_tokens":1}"#;
        assert_eq!(cost(Operation::Chat, body, Some(100_000)), Ok(100_001_000));
        assert_eq!(
            cost(Operation::Chat, body, None).unwrap_err().field,
            "messages[0].content[1]"
        );
    }

    #[test]
    fn fields_of_unknown_cost_are_refused_by_name() {
        for (fields, named) in [
            (r#""web_search_options":{}"#, "web_search_options"),
            (r#""service_tier":"priority""#, "service_tier"),
            (r#""store":true"#, "store"),
            (
                r#""tools":[{"type":"function"},{"type":"web_search"}]"#,
                "tools[1].type",
            ),
            (
                r#""messages":[{"content":[{"type":"input_audio"}]}]"#,
                "messages[0].content[0]",
            ),
            (r#""messages":[{"audio":{"id":"x"}}]"#, "messages[0].audio"),
            // Ways to say something that was not looked at.
            (
                r#""messages":[{"content":{"type":"image_url"}}]"#,
                "messages[0].content",
            ),
            (
                r#""tools":[{"type":"web_search"}],"tools":[{"type":"function"}]"#,
                "the body",
            ),
            (
                r#""tools":[{"type":"web_search"}],"tool\u0073":[{"type":"function"}]"#,
                "the body",
            ),
            (r#""tools":[{"type":"web_search","type":"function"}]"#, "tools"),
            (
                r#""tools":[{"type":"web_search","x":1e999},{"type":"web_search"}]"#,
                "tools[0].type",
            ),
            (r#""max_tokens":18446744073709551615"#, "max_tokens"),
        ] {
            let body = format!(r#"{{"model":"m",{fields}}}"#);
            assert_eq!(cost(Operation::Chat, &body, Some(10)).unwrap_err().field, named);
        }
    }
}
