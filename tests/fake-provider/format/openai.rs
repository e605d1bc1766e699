//! Chat completions, completions and embeddings as OpenAI and those who follow it have them.

use serde_json::{Value, json};

use super::{
    super::{
        generate::{Finish, Manner, Prompt, Said, count, embedding, event, say},
        play::Reply,
        seen::Seen,
    },
    Format, Refusal, answers, refuse, stream, texts, unknown,
};

#[rustfmt::skip]
const FIELDS: &[&str] = &[
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "temperature", "top_p", "stop",
    "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "user", "seed", "tools", "tool_choice",
    "parallel_tool_calls", "functions", "function_call", "response_format", "reasoning_effort", "verbosity", "metadata", "store",
    "safety_identifier", "prompt_cache_key", "service_tier", "modalities", "prediction", "audio", "web_search_options",
];

pub fn error(status: u16, message: &str) -> Value {
    let code = match status {
        401 => json!("invalid_api_key"),
        404 => json!("unknown_url"),
        _ => Value::Null,
    };
    json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": code}})
}

fn prompt(body: &Value, text: &Value) -> Prompt {
    let forced = match &body["tool_choice"] {
        Value::String(choice) if choice == "required" => Some(&body["tools"][0]["function"]),
        Value::Object(choice) => body["tools"].as_array().and_then(|tools| {
            let named = |tool: &&Value| tool["function"]["name"] == choice["function"]["name"];
            tools.iter().find(named).map(|tool| &tool["function"])
        }),
        _ => None,
    };
    let tool = forced.and_then(|f| Some((f["name"].as_str()?.to_owned(), f["parameters"].clone())));
    Prompt {
        model: body["model"].as_str().unwrap_or_default().to_owned(),
        stream: body["stream"] == true,
        include_usage: body["stream_options"]["include_usage"] == true,
        max: body["max_completion_tokens"]
            .as_u64()
            .or_else(|| body["max_tokens"].as_u64()),
        stop: texts(&body["stop"]),
        tool,
        schema: body["response_format"].pointer("/json_schema/schema").cloned(),
        answers: body["n"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
        input: count(text),
    }
}

fn check(format: Format, body: &Value) -> Result<(), Refusal> {
    if body["messages"].as_array().is_none_or(Vec::is_empty) {
        return Err(refuse("Missing required parameter: 'messages'."));
    }
    // Azure's older API has the model in its path.
    if format != Format::AzureOpenAI && !body["model"].is_string() {
        return Err(refuse("you must provide a model parameter"));
    }
    let strict = matches!(format, Format::OpenAI | Format::AzureOpenAI);
    match unknown(body, FIELDS).filter(|_| strict) {
        Some(field) => Err(refuse(format!("Unrecognized request argument supplied: {field}"))),
        None => Ok(()),
    }
}

pub fn chat(format: Format, seen: &Seen, manner: &Manner) -> Result<Reply, Refusal> {
    check(format, &seen.body)?;
    let prompt = prompt(&seen.body, &seen.body["messages"]);
    let said = say(&prompt, manner);
    let usage = usage(format, &prompt, &said, manner);
    if prompt.stream {
        return Ok(stream(events(&prompt, &said, &usage)));
    }
    let choice =
        |index| json!({"index": index, "message": message(&said), "logprobs": null, "finish_reason": finish(&said)});
    let choices: Vec<Value> = (0..answers(&prompt)).map(choice).collect();
    Ok(Reply::json(
        200,
        &json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": prompt.model, "choices": choices, "usage": usage,
        }),
    ))
}

fn message(said: &Said) -> Value {
    match &said.call {
        Some((name, arguments)) => {
            json!({"role": "assistant", "content": null, "tool_calls": [tool_call(name, &arguments.to_string())]})
        }
        None => json!({"role": "assistant", "content": said.text(), "refusal": null}),
    }
}

fn tool_call(name: &str, arguments: &str) -> Value {
    json!({"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}})
}

const fn finish(said: &Said) -> &'static str {
    match said.finish {
        Finish::End | Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Tool => "tool_calls",
    }
}

fn usage(format: Format, prompt: &Prompt, said: &Said, manner: &Manner) -> Value {
    let written = if format == Format::LiteLLM {
        manner.cache_write
    } else {
        0
    };
    let input = prompt.input + manner.cached + written;
    let output = (said.tokens() + manner.reasoning) * answers(prompt) as u64;
    let mut usage = json!({
        "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
        "prompt_tokens_details": {"cached_tokens": manner.cached},
        "completion_tokens_details": {"reasoning_tokens": manner.reasoning * answers(prompt) as u64},
    });
    if written > 0 {
        usage["cache_creation_input_tokens"] = json!(written);
    }
    usage
}

fn events(prompt: &Prompt, said: &Said, usage: &Value) -> Vec<String> {
    let chunk = |choices: Value, usage: &Value| {
        event(
            None,
            &json!({
                "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": prompt.model, "choices": choices, "usage": usage,
            }),
        )
    };
    let delta = |index: usize, delta: Value, reason: Value| {
        chunk(
            json!([{"index": index, "delta": delta, "finish_reason": reason}]),
            &Value::Null,
        )
    };
    let mut events = Vec::new();
    for index in 0..answers(prompt) {
        events.push(delta(index, json!({"role": "assistant", "content": ""}), Value::Null));
        if let Some((name, arguments)) = &said.call {
            let first = json!({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}]});
            events.push(delta(index, first, Value::Null));
            let rest = json!({"tool_calls": [{"index": 0, "function": {"arguments": arguments.to_string()}}]});
            events.push(delta(index, rest, Value::Null));
        }
        events.extend(
            said.words
                .iter()
                .map(|word| delta(index, json!({"content": word}), Value::Null)),
        );
        events.push(delta(index, json!({}), json!(finish(said))));
    }
    if prompt.include_usage {
        events.push(chunk(json!([]), usage));
    }
    events.push("data: [DONE]\n\n".into());
    events
}

pub fn completion(seen: &Seen, manner: &Manner) -> Result<Reply, Refusal> {
    if seen.body["prompt"].is_null() {
        return Err(refuse("Missing required parameter: 'prompt'."));
    }
    let prompt = prompt(&seen.body, &seen.body["prompt"]);
    let said = say(&prompt, manner);
    let usage = usage(Format::OpenAI, &prompt, &said, manner);
    let part = |text: &str, reason: Value, usage: &Value| {
        json!({"id": "cmpl-1", "object": "text_completion", "created": 1, "model": prompt.model,
            "choices": [{"index": 0, "text": text, "logprobs": null, "finish_reason": reason}], "usage": usage})
    };
    if !prompt.stream {
        return Ok(Reply::json(200, &part(&said.text(), json!(finish(&said)), &usage)));
    }
    let mut events: Vec<String> = said
        .words
        .iter()
        .map(|w| event(None, &part(w, Value::Null, &Value::Null)))
        .collect();
    events.push(event(None, &part("", json!(finish(&said)), &Value::Null)));
    if prompt.include_usage {
        let mut last = part("", Value::Null, &usage);
        last["choices"] = json!([]);
        events.push(event(None, &last));
    }
    events.push("data: [DONE]\n\n".into());
    Ok(stream(events))
}

pub fn embeddings(seen: &Seen) -> Result<Reply, Refusal> {
    let inputs = texts(&seen.body["input"]);
    if inputs.is_empty() {
        return Err(refuse("Missing required parameter: 'input'."));
    }
    let dimensions = seen.body["dimensions"]
        .as_u64()
        .and_then(|d| usize::try_from(d).ok())
        .unwrap_or(4);
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, text)| json!({"object": "embedding", "index": index, "embedding": embedding(text, dimensions)}))
        .collect();
    let input = count(&seen.body["input"]);
    Ok(Reply::json(
        200,
        &json!({
            "object": "list", "model": seen.body["model"], "data": data, "usage": {"prompt_tokens": input, "total_tokens": input},
        }),
    ))
}
