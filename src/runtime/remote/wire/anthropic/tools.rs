//! Tools and which of them to call.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Text;
use super::chat::{Chat, Tool as Asked, ToolChoice as AskedChoice};
use super::named::{NOT_OFFERED, Object, wrong};
use super::request::{Tool, ToolChoice};
use crate::runtime::remote::wire::Inexpressible;

/// Translates the definitions of tools.
pub(super) fn tools<'a>(asked: &'a [Object<Asked<'a>>]) -> Result<Vec<Tool<'a>>, Inexpressible> {
    asked
        .iter()
        .enumerate()
        .map(|(i, Object(asked))| tool(asked, &format!("tools[{i}]")))
        .collect()
}

fn tool<'a>(asked: &'a Asked<'a>, path: &str) -> Result<Tool<'a>, Inexpressible> {
    if asked.kind.as_str() != "function" || asked.custom.is_some() {
        return Err(wrong(
            format!("{path}.type"),
            "must be function: no other tools can be said to Anthropic",
        ));
    }
    let function = asked.function.as_ref();
    let Object(function) = function.ok_or_else(|| wrong(format!("{path}.function"), "is required"))?;
    let schema = schema(function.parameters).ok_or_else(|| {
        wrong(
            format!("{path}.function.parameters"),
            "must be an object, the JSON schema of one",
        )
    })?;
    Ok(Tool {
        name: function.name.as_str(),
        description: function.description.as_ref().map(Text::as_str),
        input_schema: schema,
        strict: function.strict.filter(|strict| *strict),
        cache_control: asked.cache_control,
    })
}

/// Anthropic wants the schema and its `type`; OpenAI takes both as understood.
fn schema(given: Option<&RawValue>) -> Option<Cow<'_, RawValue>> {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<&'a RawValue>,
    }
    let text = given.map_or("{}", RawValue::get);
    let rest = text.strip_prefix('{')?.trim_start();
    if let (Some(raw), Some(_)) = (given, serde_json::from_str::<Typed<'_>>(text).ok()?.kind) {
        return Some(Cow::Borrowed(raw));
    }
    let comma = if rest.starts_with('}') { "" } else { "," };
    RawValue::from_string(format!("{{\"type\":\"object\"{comma}{rest}"))
        .ok()
        .map(Cow::Owned)
}

/// Translates `tool_choice` and `parallel_tool_calls`, which is part of it here.
pub(super) fn choice<'a>(chat: &'a Chat<'a>) -> Result<Option<ToolChoice<'a>>, Inexpressible> {
    let offered = chat.tools.as_ref().is_some_and(|tools| !tools.is_empty());
    let alone = chat.parallel_tool_calls.filter(|parallel| !parallel).map(|_| true);
    let choose = |kind, name| ToolChoice {
        kind,
        name,
        disable_parallel_tool_use: alone,
    };
    let choice = match &chat.tool_choice {
        None => alone.map(|_| choose("auto", None)),
        Some(AskedChoice::Mode(mode)) => match mode.as_str() {
            "auto" => Some(choose("auto", None)),
            "required" => Some(choose("any", None)),
            "none" => Some(ToolChoice {
                kind: "none",
                name: None,
                disable_parallel_tool_use: None,
            }),
            _ => {
                return Err(wrong(
                    "tool_choice",
                    "must be auto, none, required or the name of a function",
                ));
            }
        },
        Some(AskedChoice::Named(named)) => {
            if named.kind.as_str() != "function" || named.allowed_tools.is_some() || named.custom.is_some() {
                return Err(wrong(
                    "tool_choice.type",
                    format!("must be function: {:?} {NOT_OFFERED}", named.kind.as_str()),
                ));
            }
            let function = named.function.as_ref();
            let Object(function) = function.ok_or_else(|| wrong("tool_choice.function", "is required"))?;
            Some(choose("tool", Some(function.name.as_str())))
        }
    };
    match choice {
        Some(ToolChoice {
            kind: "any" | "tool", ..
        }) if !offered => Err(wrong("tool_choice", "needs tools to choose from")),
        choice => Ok(choice.filter(|_| offered)),
    }
}
