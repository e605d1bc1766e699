//! Anthropic's Messages.

use serde_json::{Value, json};

use super::{
    super::{
        generate::{Finish, Manner, Prompt, Said, count, event, say},
        play::Reply,
        seen::Seen,
    },
    Refusal, refuse, stream, texts, unknown,
};

#[rustfmt::skip]
const FIELDS: &[&str] = &[
    "model", "messages", "max_tokens", "system", "stream", "stop_sequences", "temperature", "top_p", "top_k", "tools", "tool_choice",
    "metadata", "thinking", "service_tier", "container", "context_management", "mcp_servers", "output_config", "output_format",
    "cache_control", "inference_geo",
];

pub fn error(status: u16, message: &str) -> Value {
    let kind = match status {
        401 => "authentication_error",
        404 => "not_found_error",
        _ => "invalid_request_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})
}

fn check(seen: &Seen) -> Result<(), Refusal> {
    let body = &seen.body;
    if seen.header("anthropic-version") != "2023-06-01" {
        return Err(refuse("anthropic-version: header is required"));
    }
    for field in ["model", "max_tokens", "messages"] {
        if body[field].is_null() {
            return Err(refuse(format!("{field}: Field required")));
        }
    }
    if let Some(field) = unknown(body, FIELDS) {
        return Err(refuse(format!("{field}: Extra inputs are not permitted")));
    }
    if body["max_tokens"].as_u64().is_none_or(|limit| limit == 0) {
        return Err(refuse("max_tokens: Input should be greater than or equal to 1"));
    }
    if body["temperature"].as_f64().is_some_and(|t| !(0.0..=1.0).contains(&t)) {
        return Err(refuse("temperature: range: 0..1"));
    }
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    if messages.is_empty() {
        return Err(refuse("messages: at least one message is required"));
    }
    messages
        .iter()
        .enumerate()
        .try_for_each(|(at, message)| message_is_right(at, message))
}

fn message_is_right(at: usize, message: &Value) -> Result<(), Refusal> {
    if !matches!(message["role"].as_str(), Some("user" | "assistant")) {
        return Err(refuse(format!(
            "messages.{at}.role: Input should be 'user' or 'assistant'"
        )));
    }
    if message["content"].as_str() == Some("") {
        return Err(refuse(format!(
            "messages.{at}: user messages must have non-empty content"
        )));
    }
    for (part, block) in message["content"].as_array().into_iter().flatten().enumerate() {
        let fields: &[&str] = match block["type"].as_str() {
            Some("text") => &["text"],
            Some("image" | "document") => &["source"],
            Some("tool_use") => &["id", "name", "input"],
            Some("tool_result") => &["tool_use_id"],
            Some("thinking") => &["thinking", "signature"],
            Some("redacted_thinking") => &["data"],
            _ => {
                return Err(refuse(format!(
                    "messages.{at}.content.{part}: Input tag is not one of the expected tags"
                )));
            }
        };
        if let Some(field) = fields
            .iter()
            .find(|field| block[**field].is_null() || block[**field] == "")
        {
            return Err(refuse(format!("messages.{at}.content.{part}.{field}: Field required")));
        }
    }
    Ok(())
}

fn prompt(body: &Value) -> Prompt {
    let tools = body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let forced = match body["tool_choice"]["type"].as_str() {
        Some("any") => tools.first(),
        Some("tool") => tools.iter().find(|tool| tool["name"] == body["tool_choice"]["name"]),
        _ => None,
    };
    let schema = body
        .pointer("/output_config/format/schema")
        .or_else(|| body.pointer("/output_format/schema"));
    Prompt {
        model: body["model"].as_str().unwrap_or_default().to_owned(),
        stream: body["stream"] == true,
        include_usage: true,
        max: body["max_tokens"].as_u64(),
        stop: texts(&body["stop_sequences"]),
        tool: forced.and_then(|tool| Some((tool["name"].as_str()?.to_owned(), tool["input_schema"].clone()))),
        schema: schema.cloned(),
        answers: 1,
        input: count(&body["messages"]) + count(&body["system"]),
    }
}

pub fn messages(seen: &Seen, manner: &Manner) -> Result<Reply, Refusal> {
    check(seen)?;
    let prompt = prompt(&seen.body);
    let said = say(&prompt, manner);
    if prompt.stream {
        return Ok(stream(events(&prompt, &said, manner)));
    }
    let content = match &said.call {
        Some((name, input)) => json!([{"type": "tool_use", "id": "toolu_1", "name": name, "input": input}]),
        None => json!([{"type": "text", "text": said.text()}]),
    };
    let mut message = start(&prompt, manner, said.tokens() + manner.reasoning);
    message["content"] = content;
    message["stop_reason"] = json!(reason(&said));
    message["stop_sequence"] = json!(said.stopped_by);
    Ok(Reply::json(200, &message))
}

const fn reason(said: &Said) -> &'static str {
    match said.finish {
        Finish::End => "end_turn",
        Finish::Stop => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::Tool => "tool_use",
    }
}

/// The message without its content. Cached input is counted beside `input_tokens`.
fn start(prompt: &Prompt, manner: &Manner, output: u64) -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": prompt.model, "content": [], "stop_reason": null,
        "stop_sequence": null,
        "usage": {"input_tokens": prompt.input, "cache_creation_input_tokens": manner.cache_write,
            "cache_read_input_tokens": manner.cached, "output_tokens": output},
    })
}

/// The counts of `message_delta` are cumulative; `message_start` already has one token of output.
fn events(prompt: &Prompt, said: &Said, manner: &Manner) -> Vec<String> {
    let typed = |data: Value| event(data["type"].as_str(), &data);
    let block = match &said.call {
        Some((name, _)) => json!({"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}),
        None => json!({"type": "text", "text": ""}),
    };
    let mut events = vec![
        typed(json!({"type": "message_start", "message": start(prompt, manner, 1)})),
        typed(json!({"type": "content_block_start", "index": 0, "content_block": block})),
        typed(json!({"type": "ping"})),
    ];
    let delta = |delta: Value| typed(json!({"type": "content_block_delta", "index": 0, "delta": delta}));
    if let Some((_, input)) = &said.call {
        let text = input.to_string();
        let (first, rest) = text.split_at(text.len() / 2);
        events.extend([first, rest].map(|part| delta(json!({"type": "input_json_delta", "partial_json": part}))));
    }
    events.extend(
        said.words
            .iter()
            .map(|word| delta(json!({"type": "text_delta", "text": word}))),
    );
    events.extend([
        typed(json!({"type": "content_block_stop", "index": 0})),
        typed(json!({
            "type": "message_delta", "delta": {"stop_reason": reason(said), "stop_sequence": said.stopped_by},
            "usage": {"output_tokens": said.tokens() + manner.reasoning},
        })),
        typed(json!({"type": "message_stop"})),
    ]);
    events
}
