//! How the model answers: `generationConfig`, and the fields that Gemini has nothing like.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Inexpressible, NOT_OFFERED, Target, before_gemini_3, refused,
    request::{Chat, OneOrMore},
};
use crate::runtime::request::head::Head;

/// `generationConfig`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GenerationConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate_count: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<ThinkingConfig>,
}

/// How much the model thinks: in tokens before Gemini 3, in levels from then on. Both at once are an error.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum ThinkingConfig {
    ThinkingBudget(u32),
    ThinkingLevel(&'static str),
}

/// The configuration of an answer.
pub(super) fn config<'a>(
    chat: &'a Chat<'_>,
    head: &Head,
    target: Target<'_>,
) -> Result<GenerationConfig<'a>, Inexpressible> {
    let (response_mime_type, response_json_schema) = format(chat)?;
    let response_logprobs = chat.logprobs.filter(|wanted| *wanted);
    if chat.top_logprobs.is_some_and(|n| n > 0) && response_logprobs.is_none() {
        return Err(refused("top_logprobs", "needs logprobs: true"));
    }
    Ok(GenerationConfig {
        max_output_tokens: head.output_limit.or(target.output_limit),
        temperature: chat.temperature,
        top_p: chat.top_p,
        top_k: chat.top_k,
        candidate_count: chat.n.filter(|n| *n != 1),
        stop_sequences: chat.stop.as_ref().map(OneOrMore::list).unwrap_or_default(),
        seed: seed(chat.seed)?,
        presence_penalty: chat.presence_penalty.filter(|p| *p != 0.0),
        frequency_penalty: chat.frequency_penalty.filter(|p| *p != 0.0),
        response_logprobs,
        logprobs: chat.top_logprobs.filter(|n| *n > 0),
        response_mime_type,
        response_json_schema,
        thinking_config: thinking(chat, target.model)?,
    })
}

fn seed(seed: Option<i64>) -> Result<Option<i32>, Inexpressible> {
    let narrow = seed.map(i32::try_from).transpose();
    narrow.map_err(|_| refused("seed", "must be between -2147483648 and 2147483647 for Gemini"))
}

type Format<'a> = (Option<&'static str>, Option<&'a RawValue>);

fn format<'a>(chat: &'a Chat<'_>) -> Result<Format<'a>, Inexpressible> {
    const JSON: Option<&str> = Some("application/json");
    let Some(format) = &chat.response_format else {
        return Ok((None, None));
    };
    match (format.kind.as_ref(), &format.json_schema) {
        ("text", None) => Ok((None, None)),
        ("json_object", None) => Ok((JSON, None)),
        ("json_schema", Some(schema)) if schema.description.is_some() => {
            let message = "is not offered by Gemini: put it into schema";
            Err(refused("response_format.json_schema.description", message))
        }
        ("json_schema", Some(schema)) => Ok((JSON, schema.schema)),
        ("json_schema", None) => Err(refused("response_format.json_schema", "is required")),
        ("text" | "json_object", Some(_)) => Err(refused("response_format.json_schema", "needs type json_schema")),
        _ => Err(refused(
            "response_format.type",
            "must be text, json_object or json_schema",
        )),
    }
}

/// Google's own table for its OpenAI endpoint.
fn thinking(chat: &Chat<'_>, model: &str) -> Result<Option<ThinkingConfig>, Inexpressible> {
    let Some(effort) = &chat.reasoning_effort else {
        return Ok(None);
    };
    let (budget, level) = match effort.0.as_ref() {
        "none" => (0, None),
        "minimal" => (1_024, Some("MINIMAL")),
        "low" => (1_024, Some("LOW")),
        "medium" => (8_192, Some("MEDIUM")),
        "high" => (24_576, Some("HIGH")),
        _ => {
            return Err(refused(
                "reasoning_effort",
                "must be none, minimal, low, medium or high",
            ));
        }
    };
    if before_gemini_3(model) {
        return Ok(Some(ThinkingConfig::ThinkingBudget(budget)));
    }
    let level = level.ok_or_else(|| {
        let message = "none is not offered by Gemini 3 and later, which always think: send minimal";
        refused("reasoning_effort", message)
    })?;
    Ok(Some(ThinkingConfig::ThinkingLevel(level)))
}

/// Refuses what Gemini has nothing like, unless the value says what happens anyhow.
pub(super) fn refuse_unoffered(chat: &Chat<'_>) -> Result<(), Inexpressible> {
    const OFF: &[&str] = &["{}", "[]", "false"];
    let fields = [
        ("audio", chat.audio, OFF),
        ("function_call", chat.function_call, &["\"none\"", "\"auto\""]),
        ("functions", chat.functions, OFF),
        ("logit_bias", chat.logit_bias, OFF),
        ("metadata", chat.metadata, OFF),
        ("modalities", chat.modalities, &["[]", "[\"text\"]"]),
        ("prediction", chat.prediction, OFF),
        (
            "prompt_cache_retention",
            chat.prompt_cache_retention,
            &["\"in_memory\"", "\"in-memory\""],
        ),
        ("service_tier", chat.service_tier, &["\"auto\"", "\"default\""]),
        ("store", chat.store, OFF),
        ("verbosity", chat.verbosity, &["\"medium\""]),
        // An empty object asks for a search.
        ("web_search_options", chat.web_search_options, &[]),
    ];
    for (name, value, neutral) in fields {
        if value.is_some_and(|value| !says(value, neutral)) {
            return Err(refused(name, NOT_OFFERED));
        }
    }
    Ok(())
}

fn says(value: &RawValue, neutral: &[&str]) -> bool {
    let bytes = value.get().bytes().filter(|b| !b.is_ascii_whitespace());
    neutral.iter().any(|n| bytes.clone().eq(n.bytes()))
}
