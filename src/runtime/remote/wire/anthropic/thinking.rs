//! What the model cannot do while it thinks.
//!
//! - Be forced to call a tool.
//! - Go on after calls of tools whose thinking is not sent back, where a budget makes it think (adaptive thinking has no such rule):
//!   OpenAI's format has no place for signed thinking.
//! - Sample with a `temperature` below 1 or with `top_k`.
//!
//! `reasoning_effort` asks for an amount of thinking: where none is allowed, the amount is none. A client's own `thinking` is refused there.

use serde::Deserialize;

use super::chat::{Chat, Message};
use super::named::{Object, wrong};
use super::request::{Thinking, ToolChoice};
use crate::runtime::remote::wire::Inexpressible;

/// The thinking that goes with the rest of the request.
pub(super) fn beside<'a>(
    thinking: Option<Thinking<'a>>,
    chat: &Chat<'_>,
    choice: Option<&ToolChoice<'_>>,
) -> Result<Option<Thinking<'a>>, Inexpressible> {
    let Some(asked) = &thinking else { return Ok(None) };
    let mode = mode(asked);
    if mode == "disabled" {
        return Ok(thinking);
    }
    let forced = choice.is_some_and(|choice| matches!(choice.kind, "any" | "tool"));
    let unsigned = mode == "enabled" && goes_on_after_calls(&chat.messages);
    match asked {
        Thinking::Made { .. } if forced || unsigned => return Ok(None),
        Thinking::Given(_) if forced => {
            let message =
                "forces a tool, which no model of Anthropic does while it thinks: leave thinking out or send auto";
            return Err(wrong("tool_choice", message));
        }
        Thinking::Given(_) if unsigned => {
            let message = "cannot be enabled in the midst of calls of tools, as their thinking has no place in OpenAI's format: \
                leave it out, or make it adaptive";
            return Err(wrong("thinking", message));
        }
        Thinking::Made { .. } | Thinking::Given(_) => {}
    }
    samples_freely(chat)?;
    Ok(thinking)
}

fn samples_freely(chat: &Chat<'_>) -> Result<(), Inexpressible> {
    let message = "is not taken by Anthropic while the model thinks: leave it out, or reasoning_effort and thinking";
    if chat.temperature.is_some_and(|temperature| temperature < 1.0) {
        return Err(wrong("temperature", message));
    }
    match chat.top_k {
        Some(_) => Err(wrong("top_k", message)),
        None => Ok(()),
    }
}

fn mode<'a>(thinking: &Thinking<'a>) -> &'a str {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
    }
    match thinking {
        Thinking::Made { kind, .. } => kind,
        // What cannot be read is for the API to judge.
        Thinking::Given(raw) => serde_json::from_str(raw.get()).map_or("", |typed: Typed<'_>| typed.kind),
    }
}

/// The assistant called tools since the user spoke last.
fn goes_on_after_calls(messages: &[Object<Message<'_>>]) -> bool {
    let since = messages
        .iter()
        .rev()
        .take_while(|Object(message)| message.role.as_str() != "user");
    since
        .filter_map(|Object(message)| message.tool_calls.as_ref())
        .any(|calls| !calls.is_empty())
}
