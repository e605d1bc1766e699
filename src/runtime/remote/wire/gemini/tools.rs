//! Functions that the model may call, and whether it must.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Inexpressible, refused,
    request::{AllowedTools, Chat, Function, NamedChoice, Tool, ToolChoice},
};

/// One of `tools`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Declarations<'a> {
    function_declarations: Vec<Declaration<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Declaration<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    /// JSON Schema as it is; `parameters` knows a part of OpenAPI's only.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters_json_schema: Option<&'a RawValue>,
}

/// `toolConfig`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolConfig<'a> {
    function_calling_config: CallingConfig<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CallingConfig<'a> {
    mode: Mode,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_function_names: Vec<&'a str>,
}

/// `VALIDATED` is `AUTO` with calls that hold to their schemas.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Mode {
    Auto,
    None,
    Any,
    Validated,
}

/// `tools`.
pub(super) fn declarations<'a>(tools: &'a [Tool<'_>]) -> Result<Vec<Declarations<'a>>, Inexpressible> {
    let functions: Result<Vec<_>, _> = tools.iter().enumerate().map(declaration).collect();
    Ok(match functions? {
        none if none.is_empty() => Vec::new(),
        function_declarations => vec![Declarations { function_declarations }],
    })
}

fn declaration<'a>((at, tool): (usize, &'a Tool<'_>)) -> Result<Declaration<'a>, Inexpressible> {
    if tool.kind != "function" {
        let message = format!("{:?} is not offered by Gemini: it must be function", tool.kind);
        return Err(refused(format!("tools[{at}].type"), message));
    }
    let Some(Function {
        name,
        description,
        parameters,
        ..
    }) = &tool.function
    else {
        return Err(refused(format!("tools[{at}].function"), "is required"));
    };
    Ok(Declaration {
        name,
        description: description.as_ref().map(|d| d.0.as_ref()),
        parameters_json_schema: *parameters,
    })
}

/// `tool_choice`, `parallel_tool_calls` and `strict`.
pub(super) fn config<'a>(chat: &'a Chat<'_>) -> Result<Option<ToolConfig<'a>>, Inexpressible> {
    let tools = chat.tools.as_deref().unwrap_or_default();
    if chat.parallel_tool_calls == Some(false) && !tools.is_empty() {
        let message = "cannot be false with Gemini, which may call several functions at once: leave it out";
        return Err(refused("parallel_tool_calls", message));
    }
    let strict = tools
        .iter()
        .any(|tool| tool.function.as_ref().and_then(|f| f.strict) == Some(true));
    let auto = if strict { Mode::Validated } else { Mode::Auto };
    let (mode, allowed_function_names) = match &chat.tool_choice {
        None => (auto, Vec::new()),
        Some(ToolChoice::Word(word)) => (word_mode(word, auto)?, Vec::new()),
        Some(ToolChoice::Named(named)) => named_mode(named)?,
    };
    if tools.is_empty() {
        return match mode {
            Mode::Any => Err(refused("tool_choice", "needs tools to choose from")),
            _ => Ok(None),
        };
    }
    let function_calling_config = CallingConfig {
        mode,
        allowed_function_names,
    };
    let said = chat.tool_choice.is_some() || strict;
    Ok(said.then_some(ToolConfig {
        function_calling_config,
    }))
}

fn word_mode(word: &str, auto: Mode) -> Result<Mode, Inexpressible> {
    match word {
        "none" => Ok(Mode::None),
        "auto" => Ok(auto),
        "required" => Ok(Mode::Any),
        _ => Err(refused("tool_choice", "must be none, auto, required or an object")),
    }
}

fn named_mode<'a>(named: &'a NamedChoice<'_>) -> Result<(Mode, Vec<&'a str>), Inexpressible> {
    match (named.kind.as_ref(), &named.function, &named.allowed_tools) {
        ("function", Some(function), None) => Ok((Mode::Any, vec![function.name.as_ref()])),
        ("allowed_tools", None, Some(allowed)) => allowed_mode(allowed),
        ("function", ..) => Err(refused("tool_choice.function", "is required, and nothing but it")),
        ("allowed_tools", ..) => Err(refused("tool_choice.allowed_tools", "is required, and nothing but it")),
        _ => {
            let message = "is not offered by Gemini: it must be function or allowed_tools";
            Err(refused("tool_choice.type", message))
        }
    }
}

fn allowed_mode<'a>(allowed: &'a AllowedTools<'_>) -> Result<(Mode, Vec<&'a str>), Inexpressible> {
    // Gemini takes names with ANY and VALIDATED only.
    let mode = match allowed.mode.as_ref() {
        "auto" => Mode::Validated,
        "required" => Mode::Any,
        _ => return Err(refused("tool_choice.allowed_tools.mode", "must be auto or required")),
    };
    let names: Vec<_> = allowed.tools.iter().map(|t| t.function.name.as_ref()).collect();
    if names.is_empty() {
        return Err(refused("tool_choice.allowed_tools.tools", "must name a tool"));
    }
    Ok((mode, names))
}
