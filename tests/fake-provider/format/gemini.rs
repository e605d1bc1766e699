//! Gemini's generateContent, AI Studio and Vertex.

use serde_json::{Value, json};

use super::{
    super::{
        generate::{Finish, Manner, Prompt, Said, count, embedding, event, say},
        play::Reply,
        seen::Seen,
    },
    Refusal, answers, is_vertex, refuse, stream, texts, unknown,
};

#[rustfmt::skip]
const FIELDS: &[&str] = &[
    "contents", "systemInstruction", "generationConfig", "tools", "toolConfig", "safetySettings", "cachedContent", "labels", "model",
];
#[rustfmt::skip]
const CONFIG: &[&str] = &[
    "stopSequences", "responseMimeType", "responseSchema", "responseJsonSchema", "responseModalities", "candidateCount",
    "maxOutputTokens", "temperature", "topP", "topK", "seed", "presencePenalty", "frequencyPenalty", "responseLogprobs", "logprobs",
    "thinkingConfig", "mediaResolution", "speechConfig", "enableEnhancedCivicAnswers",
];

pub fn error(status: u16, message: &str) -> Value {
    let name = match status {
        401 => "UNAUTHENTICATED",
        404 => "NOT_FOUND",
        _ => "INVALID_ARGUMENT",
    };
    json!({"error": {"code": status, "message": message, "status": name}})
}

pub fn call(method: &str, seen: &Seen, manner: &Manner) -> Result<Reply, Refusal> {
    match method {
        "generateContent" => generate(false, seen, manner),
        "streamGenerateContent" if seen.query == "alt=sse" => generate(true, seen, manner),
        "streamGenerateContent" => Err(refuse("this provider streams with alt=sse only")),
        "batchEmbedContents" if !is_vertex(&seen.path) => embed(seen),
        "predict" if is_vertex(&seen.path) => predict(seen),
        _ => Err(Refusal {
            status: 404,
            message: format!("method {method} is not found for this model"),
        }),
    }
}

fn unknown_name(body: &Value, known: &[&str], place: &str) -> Result<(), Refusal> {
    match unknown(body, known) {
        Some(name) => Err(refuse(format!(
            "Invalid JSON payload received. Unknown name \"{name}\"{place}: Cannot find field."
        ))),
        None => Ok(()),
    }
}

fn check(body: &Value) -> Result<(), Refusal> {
    unknown_name(body, FIELDS, "")?;
    unknown_name(&body["generationConfig"], CONFIG, " at 'generation_config'")?;
    let contents = body["contents"].as_array().map(Vec::as_slice).unwrap_or_default();
    if contents.is_empty() {
        return Err(refuse("* GenerateContentRequest.contents: contents is not specified"));
    }
    for content in contents {
        if !matches!(content["role"].as_str(), Some("user" | "model")) {
            return Err(refuse("Please use a valid role: user, model."));
        }
        if content["parts"].as_array().is_none_or(Vec::is_empty) {
            return Err(refuse(
                "* GenerateContentRequest.contents.parts: must include at least one parts field",
            ));
        }
    }
    Ok(())
}

fn prompt(stream: bool, seen: &Seen) -> Prompt {
    let body = &seen.body;
    let config = &body["generationConfig"];
    let functions = body["tools"][0]["functionDeclarations"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mode = &body["toolConfig"]["functionCallingConfig"];
    let allowed = texts(&mode["allowedFunctionNames"]);
    let may =
        |f: &&Value| allowed.is_empty() || f["name"].as_str().is_some_and(|name| allowed.iter().any(|a| a == name));
    let forced = functions.iter().find(may).filter(|_| mode["mode"] == "ANY");
    let schema_of = |f: &Value| {
        f.get("parametersJsonSchema")
            .or_else(|| f.get("parameters"))
            .cloned()
            .unwrap_or_default()
    };
    let schema = config
        .get("responseJsonSchema")
        .or_else(|| config.get("responseSchema"));
    let model = seen
        .path
        .rsplit_once(':')
        .map_or("", |(before, _)| before)
        .rsplit('/')
        .next();
    Prompt {
        model: model.unwrap_or_default().to_owned(),
        stream,
        include_usage: true,
        max: config["maxOutputTokens"].as_u64(),
        stop: texts(&config["stopSequences"]),
        tool: forced.and_then(|f| Some((f["name"].as_str()?.to_owned(), schema_of(f)))),
        schema: schema.cloned(),
        answers: config["candidateCount"]
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(1),
        input: count(&body["contents"]) + count(&body["systemInstruction"]),
    }
}

fn generate(streams: bool, seen: &Seen, manner: &Manner) -> Result<Reply, Refusal> {
    check(&seen.body)?;
    let prompt = prompt(streams, seen);
    let said = say(&prompt, manner);
    if streams {
        return Ok(stream(events(&prompt, &said, manner)));
    }
    let parts = match &said.call {
        Some((name, args)) => json!([{"functionCall": {"name": name, "args": args}}]),
        None => json!([{"text": said.text()}]),
    };
    let candidates: Vec<Value> = (0..answers(&prompt))
        .map(|index| candidate(index, &parts, json!(reason(&said))))
        .collect();
    Ok(Reply::json(
        200,
        &answer(
            &prompt,
            &json!(candidates),
            manner,
            said.tokens() * answers(&prompt) as u64,
        ),
    ))
}

const fn reason(said: &Said) -> &'static str {
    match said.finish {
        Finish::End | Finish::Stop | Finish::Tool => "STOP",
        Finish::Length => "MAX_TOKENS",
    }
}

fn candidate(index: usize, parts: &Value, reason: Value) -> Value {
    let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": index});
    if !reason.is_null() {
        candidate["finishReason"] = reason;
    }
    candidate
}

/// Reasoning is counted beside the candidates, cached input inside of the prompt.
fn answer(prompt: &Prompt, candidates: &Value, manner: &Manner, output: u64) -> Value {
    let input = prompt.input + manner.cached;
    let thoughts = manner.reasoning * answers(prompt) as u64;
    json!({
        "candidates": candidates, "modelVersion": prompt.model, "responseId": "resp-1",
        "usageMetadata": {"promptTokenCount": input, "cachedContentTokenCount": manner.cached, "candidatesTokenCount": output,
            "thoughtsTokenCount": thoughts, "totalTokenCount": input + output + thoughts},
    })
}

/// Each event has the totals so far.
fn events(prompt: &Prompt, said: &Said, manner: &Manner) -> Vec<String> {
    let mut events = Vec::new();
    let mut output = 0;
    for index in 0..answers(prompt) {
        let mut parts: Vec<Value> = said.words.iter().map(|word| json!([{"text": word}])).collect();
        parts.extend(
            said.call
                .iter()
                .map(|(name, args)| json!([{"functionCall": {"name": name, "args": args}}])),
        );
        let last = parts.len().saturating_sub(1);
        if parts.is_empty() {
            parts.push(json!([{"text": ""}]));
        }
        for (at, part) in parts.iter().enumerate() {
            output += u64::from(said.tokens() > 0);
            let reason = if at == last { json!(reason(said)) } else { Value::Null };
            let candidates = json!([candidate(index, part, reason)]);
            events.push(event(None, &answer(prompt, &candidates, manner, output)));
        }
    }
    events
}

fn embed(seen: &Seen) -> Result<Reply, Refusal> {
    let requests = seen.body["requests"].as_array().filter(|list| !list.is_empty());
    let requests = requests.ok_or_else(|| refuse("* BatchEmbedContentsRequest.requests: requests is not specified"))?;
    let values = |request: &Value| {
        let dimensions = request["outputDimensionality"]
            .as_u64()
            .and_then(|d| usize::try_from(d).ok())
            .unwrap_or(4);
        let text = request["content"]["parts"][0]["text"].as_str().unwrap_or_default();
        json!({"values": embedding(text, dimensions)})
    };
    let embeddings: Vec<Value> = requests.iter().map(values).collect();
    Ok(Reply::json(200, &json!({"embeddings": embeddings})))
}

fn predict(seen: &Seen) -> Result<Reply, Refusal> {
    let instances = seen.body["instances"].as_array().filter(|list| !list.is_empty());
    let instances = instances.ok_or_else(|| refuse("instances is not specified"))?;
    let made = |instance: &Value| {
        let text = instance["content"].as_str().unwrap_or_default();
        let statistics = json!({"truncated": false, "token_count": text.split_whitespace().count()});
        json!({"embeddings": {"values": embedding(text, 4), "statistics": statistics}})
    };
    let predictions: Vec<Value> = instances.iter().map(made).collect();
    Ok(Reply::json(200, &json!({"predictions": predictions})))
}
