//! Messages of the conversation.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::Text;
use super::chat::{CalledFunction, Content as Given, Message as Asked, Raw, ToolCall};
use super::named::{NOT_OFFERED, Object, wrong};
use super::parts::{Allowed, blocks, text};
use super::request::{Block, Content, Message};
use crate::runtime::remote::wire::Inexpressible;

/// A conversation as the Messages API has it.
#[derive(Debug, Default)]
pub(super) struct Conversation<'a> {
    system: Vec<Block<'a>>,
    messages: Vec<Message<'a>>,
    /// The last message holds results of tools: more of them go into it.
    results_open: bool,
}

/// Translates all messages.
pub(super) fn conversation<'a>(asked: &'a [Object<Asked<'a>>]) -> Result<Conversation<'a>, Inexpressible> {
    let mut conversation = Conversation::default();
    for (i, Object(message)) in asked.iter().enumerate() {
        conversation.add(message, &format!("messages[{i}]"))?;
    }
    if conversation.messages.is_empty() {
        return Err(wrong(
            "messages",
            "must hold a message that is not of the system: Anthropic answers nothing else",
        ));
    }
    Ok(conversation)
}

impl<'a> Conversation<'a> {
    /// `system`, in short where it is one plain text, and the messages.
    pub(super) fn into_parts(mut self) -> (Option<Content<'a>>, Vec<Message<'a>>) {
        let system = match (self.system.len(), self.system.pop()) {
            (_, None) => None,
            (
                1,
                Some(Block::Text {
                    text,
                    cache_control: None,
                }),
            ) => Some(Content::Text(text)),
            (_, Some(last)) => {
                self.system.push(last);
                Some(Content::Blocks(self.system))
            }
        };
        (system, self.messages)
    }

    fn add(&mut self, message: &'a Asked<'a>, path: &str) -> Result<(), Inexpressible> {
        let role = message.role.as_str();
        belongs(message, role, path)?;
        match role {
            "system" | "developer" => {
                let content = required(message, path)?;
                self.system
                    .extend(blocks(Some(content), Allowed::Text, &format!("{path}.content"))?);
                Ok(())
            }
            "user" => self.user(message, path),
            "assistant" => self.assistant(message, path),
            "tool" => self.tool(message, path),
            "function" => Err(wrong(
                format!("{path}.role"),
                "is OpenAI's old form: use tool and tool_call_id",
            )),
            _ => Err(wrong(
                format!("{path}.role"),
                "must be system, developer, user, assistant or tool",
            )),
        }
    }

    fn push(&mut self, role: &'static str, content: Content<'a>) {
        self.results_open = false;
        self.messages.push(Message { role, content });
    }

    fn user(&mut self, message: &'a Asked<'a>, path: &str) -> Result<(), Inexpressible> {
        let content = self::content(required(message, path)?, Allowed::All, &format!("{path}.content"))?;
        let content = content.ok_or_else(|| {
            wrong(
                format!("{path}.content"),
                "is empty: Anthropic takes no empty message, leave it out",
            )
        })?;
        self.push("user", content);
        Ok(())
    }

    fn assistant(&mut self, message: &'a Asked<'a>, path: &str) -> Result<(), Inexpressible> {
        let calls = message.tool_calls.as_deref().unwrap_or_default();
        if let (Some(Given::Text(said)), None, []) = (&message.content, &message.refusal, calls)
            && !said.as_str().is_empty()
        {
            self.push("assistant", Content::Text(said.as_str()));
            return Ok(());
        }
        let mut all = blocks(
            message.content.as_ref(),
            Allowed::TextAndRefusals,
            &format!("{path}.content"),
        )?;
        all.extend(
            message
                .refusal
                .as_ref()
                .and_then(|refusal| text(refusal.as_str(), None)),
        );
        for (j, Object(call)) in calls.iter().enumerate() {
            all.push(tool_use(call, &format!("{path}.tool_calls[{j}]"))?);
        }
        if !all.is_empty() {
            self.push("assistant", Content::Blocks(all));
        }
        Ok(())
    }

    /// Results that follow each other belong into one message of the user.
    fn tool(&mut self, message: &'a Asked<'a>, path: &str) -> Result<(), Inexpressible> {
        let id = message.tool_call_id.as_ref();
        let tool_use_id = id
            .map(Text::as_str)
            .ok_or_else(|| wrong(format!("{path}.tool_call_id"), "is required"))?;
        let content = self::content(
            required(message, path)?,
            Allowed::TextAndImages,
            &format!("{path}.content"),
        )?;
        let result = Block::ToolResult {
            tool_use_id: known(tool_use_id),
            content,
        };
        if let (
            true,
            Some(Message {
                content: Content::Blocks(results),
                ..
            }),
        ) = (self.results_open, self.messages.last_mut())
        {
            results.push(result);
        } else {
            self.push("user", Content::Blocks(vec![result]));
            self.results_open = true;
        }
        Ok(())
    }
}

fn required<'a>(message: &'a Asked<'a>, path: &str) -> Result<&'a Given<'a>, Inexpressible> {
    message
        .content
        .as_ref()
        .ok_or_else(|| wrong(format!("{path}.content"), "is required"))
}

/// Content in the form the client chose; `None` when it is empty.
fn content<'a>(given: &'a Given<'a>, allowed: Allowed, path: &str) -> Result<Option<Content<'a>>, Inexpressible> {
    if let Given::Text(text) = given {
        return Ok((!text.as_str().is_empty()).then(|| Content::Text(text.as_str())));
    }
    let all = blocks(Some(given), allowed, path)?;
    Ok((!all.is_empty()).then_some(Content::Blocks(all)))
}

/// Names a field that a message of this role does not have, or that Anthropic does not. The name of a tool message only
/// repeats what its `tool_call_id` says.
fn belongs(message: &Asked<'_>, role: &str, path: &str) -> Result<(), Inexpressible> {
    const ELSEWHERE: &str = "does not belong to a message of this role: leave it out";
    let assistant = role == "assistant";
    let holds = |raw: Raw<'_>| raw.is_some_and(|raw| !assistant || !is_empty_list(raw));
    let added = [
        ("reasoning", message.reasoning),
        ("reasoning_details", message.reasoning_details),
        ("thinking_blocks", message.thinking_blocks),
        ("provider_specific_fields", message.provider_specific_fields),
    ];
    let added = added.map(|(name, raw)| (name, raw.is_some() && !assistant, ELSEWHERE));
    let fields = [
        ("name", message.name.is_some() && role != "tool", NOT_OFFERED),
        ("audio", message.audio.is_some(), NOT_OFFERED),
        (
            "function_call",
            message.function_call.is_some(),
            "is OpenAI's old form: use tool_calls",
        ),
        ("annotations", holds(message.annotations), NOT_OFFERED),
        ("images", holds(message.images), NOT_OFFERED),
        ("refusal", message.refusal.is_some() && !assistant, ELSEWHERE),
        (
            "reasoning_content",
            message.reasoning_content.is_some() && !assistant,
            ELSEWHERE,
        ),
        ("tool_calls", message.tool_calls.is_some() && !assistant, ELSEWHERE),
        (
            "tool_call_id",
            message.tool_call_id.is_some() && role != "tool",
            ELSEWHERE,
        ),
    ];
    match fields.into_iter().chain(added).find(|(_, given, _)| *given) {
        Some((name, _, why)) => Err(wrong(format!("{path}.{name}"), why)),
        None => Ok(()),
    }
}

fn is_empty_list(raw: &RawValue) -> bool {
    serde_json::from_str::<Vec<serde::de::IgnoredAny>>(raw.get()).is_ok_and(|list| list.is_empty())
}

fn tool_use<'a>(call: &'a ToolCall<'a>, path: &str) -> Result<Block<'a>, Inexpressible> {
    let kind = call.kind.as_ref().map_or("function", Text::as_str);
    if kind != "function" || call.custom.is_some() {
        return Err(wrong(
            format!("{path}.type"),
            "must be function: Anthropic has no other calls",
        ));
    }
    let function = call.function.as_ref();
    let Object(CalledFunction { name, arguments }) =
        function.ok_or_else(|| wrong(format!("{path}.function"), "is required"))?;
    let input = input(arguments.as_str()).ok_or_else(|| {
        wrong(
            format!("{path}.function.arguments"),
            "must be the text of a JSON object: Anthropic takes nothing else",
        )
    })?;
    Ok(Block::ToolUse {
        id: known(call.id.as_str()),
        name: name.as_str(),
        input,
    })
}

/// The API takes letters, digits, `_` and `-` in the id of a call; other servers' ids have more (`functions.f:0`).
fn known(id: &str) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if id.chars().all(fits) {
        return id.into();
    }
    id.chars().map(|c| if fits(c) { c } else { '_' }).collect()
}

/// No text at all is what clients keep of a call without arguments.
fn input(arguments: &str) -> Raw<'_> {
    let text = arguments.trim();
    let text = if text.is_empty() { "{}" } else { text };
    serde_json::from_str::<&RawValue>(text)
        .ok()
        .filter(|raw| raw.get().starts_with('{'))
}
