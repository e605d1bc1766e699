//! The requests and answers that everybody is measured with: of the size and shape that chat has.

use std::fmt::Write;

/// Events of a stream: the role, 29 of content, the end, usage, `[DONE]`.
pub const EVENTS: usize = 33;
/// Bytes of the one long message of a request.
const PROMPT: usize = 900;

/// A chat request as a client writes it to `authority`. A stream's events are paced by so many microseconds.
pub fn request(authority: &str, stream: Option<u64>) -> Vec<u8> {
    let prompt = "What do you make of this, and why? ".repeat(PROMPT / 35);
    let extra = stream.map_or(String::new(), |pace| {
        format!(r#","stream":true,"stream_options":{{"include_usage":true}},"seed":{pace}"#)
    });
    let body = format!(
        concat!(
            r#"{{"model":"assistant","messages":[{{"role":"system","content":"You are a helpful assistant."}},"#,
            r#"{{"role":"user","content":"{}"}}],"temperature":0.7,"max_tokens":256{}}}"#
        ),
        prompt, extra
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {authority}\r\nuser-agent: bench\r\naccept: */*\r\n\
         authorization: Bearer sk-bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nserver: bench\r\nx-request-id: req_0123456789abcdef\r\n\
                    openai-processing-ms: 12\r\nx-ratelimit-remaining-requests: 9999\r\n";
const USAGE: &str = concat!(
    r#"{"prompt_tokens":220,"completion_tokens":29,"total_tokens":249,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"#,
    r#""completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#
);

/// A whole answer.
pub fn answer() -> Vec<u8> {
    let text = "It is a fair question, and the answer has parts. ".repeat(8);
    let body = format!(
        concat!(
            r#"{{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1741569952,"#,
            r#""model":"gpt-4o-mini-2024-07-18","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}","refusal":null,"#,
            r#""annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{},"service_tier":"default"}}"#
        ),
        text, USAGE
    );
    format!(
        "{HEAD}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The head of a stream, and its events as HTTP chunks.
pub fn stream() -> (Vec<u8>, Vec<Vec<u8>>) {
    let head = format!("{HEAD}content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n");
    let contents = EVENTS - 4;
    let mut events = vec![event(r#"{"role":"assistant","content":"","refusal":null}"#, "null")];
    events.extend((0..contents).map(|_| event(r#"{"content":" question"}"#, "null")));
    events.push(event("{}", r#""stop""#));
    events.push(chunk(&format!(r#"{{{COMMON},"choices":[],"usage":{USAGE}}}"#)));
    events.push(chunk("[DONE]"));
    (head.into_bytes(), events)
}

const COMMON: &str = concat!(
    r#""id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1741569952,"#,
    r#""model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_44709d6fcb""#
);

fn event(delta: &str, finish: &str) -> Vec<u8> {
    let choice = format!(r#"{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}"#);
    chunk(&format!(r#"{{{COMMON},"choices":[{choice}],"usage":null}}"#))
}

fn chunk(data: &str) -> Vec<u8> {
    let event = format!("data: {data}\n\n");
    let mut out = String::new();
    let _ = write!(out, "{:x}\r\n{event}\r\n", event.len());
    out.into_bytes()
}
