//! The body of `generateContent`.

use bytes::Bytes;
use serde::Serialize;

use super::{
    Inexpressible, Target,
    contents::{self, Content, SystemInstruction},
    options::{self, GenerationConfig},
    parse, refused,
    request::Chat,
    tools::{self, Declarations, ToolConfig},
};
use crate::runtime::request::head::Head;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<SystemInstruction<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Declarations<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    generation_config: GenerationConfig<'a>,
}

/// A chat request in Gemini's format.
pub(super) fn encode(head: &Head, body: &[u8], target: Target<'_>, vertex: bool) -> Result<Bytes, Inexpressible> {
    let chat: Chat<'_> = parse(body)?;
    options::refuse_unoffered(&chat)?;
    let (contents, system_instruction) = contents::translate(&chat, target.model, vertex)?;
    let translated = Body {
        contents,
        system_instruction,
        tools: tools::declarations(chat.tools.as_deref().unwrap_or_default())?,
        tool_config: tools::config(&chat)?,
        generation_config: options::config(&chat, head, target)?,
    };
    write(&translated, body.len())
}

/// Writes a body that is about as long as the one it comes from.
pub(super) fn write(body: &impl Serialize, size: usize) -> Result<Bytes, Inexpressible> {
    let mut bytes = Vec::with_capacity(size + size / 4 + 256);
    serde_json::to_writer(&mut bytes, body)
        .map_err(|error| refused("the body", format!("cannot be written for Gemini: {error}")))?;
    Ok(bytes.into())
}
