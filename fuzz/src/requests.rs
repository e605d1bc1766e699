//! Requests: what is not ours to change reaches the provider as it was written, what cannot be said to it is refused by name, and what
//! is reserved covers what is sent.

use std::convert::Infallible;

use bytes::Bytes;
use futures::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use inference_operator::{
    api::{OutputLimitField, RemoteProvider},
    runtime::{
        remote::wire::{Inexpressible, Target, anthropic, gemini},
        request::{
            body::{self, Bodies},
            bound::{Bound, Terms, bound},
            head::{self, Head, Operation},
            rewrite::{Wanted, rewrite},
        },
    },
};
use serde_json::Value;

use crate::{
    json::{Fields, beyond_value},
    pieces,
};

/// The provider's name of the model: no input has it by chance.
const MODEL: &str = "gemini-2.5 \"zz\"";
/// The output limit of requests that name none.
const LIMIT: u64 = 777;
/// A field that nobody knows.
const UNKNOWN: &str = "zz_unknown";
/// One that knows both fields of the limit, and one that may know either.
const OPENAIS: [RemoteProvider; 2] = [RemoteProvider::OpenAI, RemoteProvider::OpenAICompatible];
/// Objects that get it, of one request.
const MOST_OBJECTS: usize = 16;
/// Fields whose objects have fields of OpenAI's only, in a request that is taken.
const OPENAI: [&str; 13] = [
    "messages",
    "content",
    "image_url",
    "file",
    "input_audio",
    "tool_calls",
    "function",
    "tools",
    "tool_choice",
    "allowed_tools",
    "response_format",
    "json_schema",
    "stream_options",
];

/// Takes the bytes for the body of a request to every route and sends it to every provider.
pub fn check(data: &[u8]) {
    let received = received(data);
    assert_eq!(received, data, "the body is what was sent");
    for operation in [Operation::Chat, Operation::Completions, Operation::Embeddings] {
        match head::read(operation, &received) {
            Ok(head) => {
                passed_on(&head, &received);
                translated(&head, &received);
                reserved(&head, &received);
            }
            Err(error) => {
                assert!(!error.message.is_empty() && error.param.is_none_or(|param| error.message.starts_with(param)));
            }
        }
    }
}

/// Reads the body as it comes from a client, in pieces.
fn received(data: &[u8]) -> Bytes {
    let frames: Vec<_> = pieces(data)
        .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let body = StreamBody::new(stream::iter(frames));
    runtime
        .block_on(body::read(body, &Bodies::default()))
        .expect("it is small")
        .bytes
}

/// What is written for a provider of OpenAI's family, with a paid limit or without one, and whether it takes `stream_options`.
fn rewritten(head: &Head, body: &Bytes, provider: RemoteProvider, paid: bool, stream_options: bool) -> Bytes {
    let is_openai = provider == RemoteProvider::OpenAI;
    let wanted = Wanted {
        model: MODEL,
        output_limit: Some(LIMIT),
        limit_field: match head.operation {
            Operation::Chat if is_openai => OutputLimitField::MaxCompletionTokens,
            _ => OutputLimitField::MaxTokens,
        },
        sole: paid && !is_openai,
        stream_options,
    };
    rewrite(body, head, wanted)
}

/// OpenAI's family: only our own fields are written, every other byte of a value stays.
fn passed_on(head: &Head, body: &Bytes) {
    for provider in OPENAIS {
        for (paid, options) in [(false, true), (true, true), (false, false), (true, false)] {
            let sent = rewritten(head, body, provider, paid, options);
            unchanged(head, body, &sent, options);
            let again = head::read(head.operation, &sent).expect("it can be read again");
            assert_eq!(
                (again.model.as_str(), again.stream, again.n),
                (MODEL, head.stream, head.n)
            );
            assert!(!options || !head.stream || again.include_usage, "usage is always asked");
            assert!(
                options || again.spans.stream_options.is_none(),
                "not of who refuses that"
            );
            if head.operation != Operation::Embeddings {
                assert_eq!(again.output_limit, Some(head.output_limit.unwrap_or(LIMIT)));
            }
        }
    }
}

fn unchanged(head: &Head, body: &[u8], sent: &[u8], options: bool) {
    let ours = |name: &str| match name {
        "model" | "max_tokens" | "max_completion_tokens" => true,
        "stream_options" => head.stream || !options,
        _ => false,
    };
    let others = |body: &[u8]| -> Vec<_> { Fields::of(body).0.into_iter().filter(|(name, _)| !ours(name)).collect() };
    assert_eq!(others(sent), others(body));
    if !options {
        return;
    }
    let options = |body: &[u8]| {
        let fields = Fields::of(body);
        let mut options: Value = serde_json::from_str(fields.get("stream_options")?).ok()?;
        options.as_object_mut()?.remove("include_usage");
        Some(options)
    };
    if let Some(given) = options(body) {
        assert_eq!(options(sent), Some(given), "other stream options stay");
    }
}

fn encoded(head: &Head, body: &[u8], vertex: Option<bool>) -> Result<Bytes, Inexpressible> {
    let target = Target {
        model: MODEL,
        output_limit: Some(LIMIT),
    };
    match vertex {
        None => anthropic::encode(head, body, target),
        Some(vertex) => gemini::encode(head, body, target, vertex),
    }
}

/// Anthropic, and Gemini at both addresses: all of it is said, or a field is named.
fn translated(head: &Head, body: &[u8]) {
    for vertex in [None, Some(false), Some(true)] {
        match encoded(head, body, vertex) {
            Err(Inexpressible { field, message }) => {
                assert!(!message.is_empty() && (!field.is_empty() || body.windows(2).any(|two| two == b"\"\"")));
            }
            Ok(sent) => {
                match serde_json::from_slice(&sent) {
                    Ok(sent) => said(head, body, &sent),
                    Err(error) => assert!(beyond_value(&sent), "it is JSON: {error}"),
                }
                unknown_is_named(head, body, vertex);
            }
        }
    }
}

/// Every text of the conversation is in what is sent.
fn said(head: &Head, body: &[u8], sent: &Value) {
    let Ok(request) = serde_json::from_slice::<Value>(body) else {
        return;
    };
    let mut strings = Vec::new();
    collect(sent, &mut strings);
    let sent = strings.concat();
    let texts: Vec<&str> = match head.operation {
        Operation::Embeddings => texts(&request["input"]).collect(),
        _ => request["messages"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|m| texts(&m["content"]))
            .collect(),
    };
    for text in texts {
        // The result of a tool that is an object goes as that object to Gemini.
        assert!(
            sent.contains(text) || text.trim_start().starts_with('{'),
            "{text:?} was dropped"
        );
    }
}

fn texts(content: &Value) -> impl Iterator<Item = &str> {
    let parts = content.as_array().into_iter().flatten();
    parts
        .filter_map(|part| part.as_str().or(part["text"].as_str()))
        .chain(content.as_str())
}

fn collect<'a>(value: &'a Value, strings: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => strings.push(text),
        Value::Array(items) => items.iter().for_each(|item| collect(item, strings)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, strings)),
        _ => {}
    }
}

/// The same request with one more field anywhere is refused for it.
fn unknown_is_named(head: &Head, body: &[u8], vertex: Option<bool>) {
    let Ok(mut request) = serde_json::from_slice::<Value>(body) else {
        return;
    };
    let mut objects = Vec::new();
    pointers(&request, String::new(), &mut objects);
    for pointer in objects.into_iter().take(MOST_OBJECTS) {
        let object = request
            .pointer_mut(&pointer)
            .and_then(Value::as_object_mut)
            .expect("it was there");
        object.insert(UNKNOWN.into(), true.into());
        let more = request.to_string();
        let error = encoded(head, more.as_bytes(), vertex).expect_err("it would be dropped");
        assert!(error.field.ends_with(UNKNOWN), "{error}");
        let object = request
            .pointer_mut(&pointer)
            .and_then(Value::as_object_mut)
            .expect("it is there");
        object.remove(UNKNOWN);
    }
}

/// Objects whose fields are OpenAI's, and not the client's own or the provider's.
fn pointers(value: &Value, at: String, objects: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            (items.iter().enumerate()).for_each(|(n, item)| pointers(item, format!("{at}/{n}"), objects));
        }
        Value::Object(fields) => {
            for (name, field) in fields.iter().filter(|(name, _)| OPENAI.contains(&name.as_str())) {
                pointers(field, format!("{at}/{name}"), objects);
            }
            objects.push(at);
        }
        _ => {}
    }
}

/// What a budget reserves covers every text and every limit that is sent.
fn reserved(head: &Head, body: &Bytes) {
    for provider in OPENAIS
        .into_iter()
        .chain([RemoteProvider::Anthropic, RemoteProvider::Gemini])
    {
        let terms = Terms {
            provider,
            context_length: Some(1),
            cache_write: true,
            default_limit: LIMIT,
        };
        let sent = match provider {
            RemoteProvider::Anthropic => encoded(head, body, None),
            RemoteProvider::Gemini => encoded(head, body, Some(false)),
            _ => Ok(rewritten(head, body, provider, true, true)),
        };
        if let (Ok(bound), Ok(sent)) = (bound(head, body, &terms), sent)
            && let Ok(sent) = serde_json::from_slice(&sent)
        {
            covers(&bound, head, provider, &sent);
        }
    }
}

fn covers(bound: &Bound, head: &Head, provider: RemoteProvider, sent: &Value) {
    let mut strings = Vec::new();
    collect(sent, &mut strings);
    // Images and files are counted as the context length.
    let is_text = |text: &&&str| !text.starts_with("data:") && !text.starts_with("http") && !text.starts_with("gs:");
    let bytes: usize = strings.iter().filter(is_text).map(|text| text.len()).sum();
    let media = sent.to_string().contains("inlineData") || sent.to_string().contains("base64");
    assert!(
        media || bound.input >= bytes as u64,
        "{} for {bytes} bytes: {sent}",
        bound.input
    );
    if head.operation == Operation::Embeddings {
        return;
    }
    let whole = |value: &Value| value.as_u64();
    let config = &sent["generationConfig"];
    let limits = [
        &sent["max_tokens"],
        &sent["max_completion_tokens"],
        &config["maxOutputTokens"],
    ]
    .map(whole);
    if provider == RemoteProvider::OpenAICompatible {
        assert!(
            limits[0].is_some() && sent["max_completion_tokens"].is_null(),
            "the one field that every server knows"
        );
    }
    let limit = limits.into_iter().flatten().max().expect("a limit is always sent");
    let answers = [&sent["n"], &sent["best_of"], &config["candidateCount"]]
        .map(whole)
        .into_iter()
        .flatten()
        .max();
    let prompts = sent["prompt"].as_array().map_or(1, |list| match list.first() {
        Some(Value::Number(_)) | None => 1,
        _ => list.len() as u64,
    });
    let most = limit.saturating_mul(answers.unwrap_or(1)).saturating_mul(prompts);
    assert!(
        bound.output.saturating_mul(bound.answers) >= most,
        "{bound:?} for {most}: {sent}"
    );
}
