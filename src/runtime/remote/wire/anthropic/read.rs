//! A whole answer.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Text;
use super::answer::{Counts, UsageOut, finish};
use crate::runtime::remote::events::Chunk;
use crate::runtime::remote::wire::{Asked, Read};

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    model: Option<Text<'a>>,
    #[serde(borrow)]
    content: Option<Vec<Block<'a>>>,
    #[serde(borrow)]
    stop_reason: Option<Text<'a>>,
    usage: Option<Counts>,
}

/// Blocks of other types are Anthropic's own business: signatures, server tools.
#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    thinking: Option<Text<'a>>,
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageOut>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Default, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<String>,
    refusal: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
}

#[derive(Serialize)]
struct ToolCall<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

/// The body of a Messages answer as an OpenAI `chat.completion`.
#[must_use]
pub fn read(body: &[u8], asked: &Asked) -> Read {
    let Ok(answer) = serde_json::from_slice::<Answer<'_>>(body) else {
        return Read::Malformed;
    };
    if answer.error.is_some() || answer.kind.as_ref().is_some_and(|kind| kind.as_str() == "error") {
        return Read::Error;
    }
    translated(&answer, asked).unwrap_or(Read::Malformed)
}

fn translated(answer: &Answer<'_>, asked: &Asked) -> Option<Read> {
    let stop_reason = answer.stop_reason.as_ref().map(Text::as_str);
    let blocks = answer.content.as_deref()?;
    if stop_reason.is_none() && blocks.is_empty() {
        return None;
    }
    let (finish_reason, finish) = finish(stop_reason.unwrap_or_default());
    let usage = answer.usage.and_then(|counts| counts.usage());
    let completion = Completion {
        id: answer.id.as_ref().map_or(&asked.id, Text::as_str),
        object: "chat.completion",
        created: asked.created,
        model: answer.model.as_ref().map_or(&asked.model, Text::as_str),
        choices: [Choice {
            index: 0,
            message: message(blocks)?,
            logprobs: None,
            finish_reason,
        }],
        usage: usage.map(UsageOut::from),
    };
    let body = Bytes::from(serde_json::to_vec(&completion).ok()?);
    let chunk = Chunk {
        content: true,
        finish: Some(finish),
        finished: 1,
        usage,
        usage_only: false,
        answers: true,
        unfiltered: false,
    };
    Some(Read::Answer { body, chunk })
}

/// Content is null where there is nothing but calls.
fn message<'a>(blocks: &'a [Block<'a>]) -> Option<Message<'a>> {
    let mut message = Message {
        role: "assistant",
        ..Message::default()
    };
    for block in blocks {
        match block.kind.as_str() {
            "text" => message
                .content
                .get_or_insert_default()
                .push_str(block.text.as_ref()?.as_str()),
            "thinking" => message
                .reasoning_content
                .get_or_insert_default()
                .push_str(block.thinking.as_ref()?.as_str()),
            "tool_use" => message.tool_calls.push(ToolCall {
                id: block.id.as_ref()?.as_str(),
                kind: "function",
                function: Function {
                    name: block.name.as_ref()?.as_str(),
                    arguments: block.input.map_or("{}", RawValue::get),
                },
            }),
            _ => {}
        }
    }
    if message.tool_calls.is_empty() {
        message.content.get_or_insert_default();
    }
    Some(message)
}
