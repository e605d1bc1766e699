use proptest::prelude::*;
use serde_json::json;

use super::super::{Stream, read};
use super::*;
use crate::policy::pricing::Usage;
use crate::runtime::remote::events::{Chunk, Finish};
use crate::runtime::remote::sse::Parser;
use crate::runtime::remote::wire::{Heard, Read};

/// Data of the events in a stream of bytes.
fn data(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut parser = Parser::default();
    parser.feed(bytes);
    std::iter::from_fn(|| parser.take().unwrap())
        .filter_map(|event| event.data)
        .map(|data| data.to_vec())
        .collect()
}

/// What a client gets of a stream, and what the events meant.
fn heard(stream: &mut Stream, events: &[u8]) -> (Vec<Value>, Vec<Chunk>, bool) {
    let (mut sent, mut chunks, mut done) = (Vec::new(), Vec::new(), false);
    for event in data(events) {
        match stream.event(&event) {
            Heard::Chunk { bytes, chunk } => {
                sent.extend_from_slice(&bytes);
                chunks.push(chunk);
            }
            Heard::Done(bytes) => {
                sent.extend_from_slice(&bytes);
                done = true;
            }
            other => panic!("{other:?}: {}", String::from_utf8_lossy(&event)),
        }
    }
    let mut sent = data(&sent);
    if done {
        assert_eq!(sent.pop().unwrap(), b"[DONE]");
    }
    (
        sent.iter().map(|data| serde_json::from_slice(data).unwrap()).collect(),
        chunks,
        done,
    )
}

/// Text of a field of all deltas.
fn text(events: &[Value], field: &str) -> String {
    events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"][field].as_str())
        .collect()
}

/// Arguments of a call, put together.
fn arguments(events: &[Value], call: u64) -> String {
    let calls = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["tool_calls"].as_array())
        .flatten();
    calls
        .filter(|c| c["index"] == call)
        .filter_map(|c| c["function"]["arguments"].as_str())
        .collect()
}

#[test]
fn a_stream_of_text_thinking_and_tools_is_openais() {
    let mut stream = Stream::new(asked(true));
    let (sent, chunks, done) = heard(&mut stream, include_bytes!("data/stream.sse"));
    assert!(done);
    assert_eq!(
        sent[0],
        json!({"id":"msg_014p7","object":"chat.completion.chunk","created":1_700_000_000,"model":"claude-sonnet-4-6",
        "choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null})
    );
    assert_eq!(text(&sent, "reasoning_content"), "Which city?\nParis");
    assert_eq!(text(&sent, "content"), "Okay, let's \"check\" é 😀");
    let calls: Vec<_> = sent
        .iter()
        .filter_map(|e| e["choices"][0]["delta"]["tool_calls"][0]["id"].as_str())
        .collect();
    assert_eq!(calls, ["toolu_01", "toolu_02"]);
    assert_eq!(
        (arguments(&sent, 0).as_str(), arguments(&sent, 1).as_str()),
        (r#"{"location": "Paris"}"#, "{}")
    );
    let end = &sent[sent.len() - 2]["choices"][0];
    assert_eq!(*end, json!({"index":0,"delta":{},"finish_reason":"tool_calls"}));
    let usage = json!({"prompt_tokens":482,"completion_tokens":89,"total_tokens":571,
        "prompt_tokens_details":{"cached_tokens":8,"cache_creation_tokens":2},"completion_tokens_details":{"reasoning_tokens":20}});
    assert_eq!(
        (&sent.last().unwrap()["usage"], &sent.last().unwrap()["choices"]),
        (&usage, &json!([]))
    );
    assert!(!chunks[0].content && chunks[0].answers, "a role is no content");
    assert!(
        chunks.iter().filter(|c| c.usage.is_some()).count() == 1
            && chunks.iter().filter(|c| c.finish.is_some()).count() == 1
    );
    let last = chunks.last().unwrap();
    assert_eq!(last.usage.unwrap().input_tokens, 482);
    assert_eq!(stream.end(), None, "it has ended");
}

const START: &str = r#"{"type":"message_start","message":{"id":"m","usage":{"input_tokens":5,"output_tokens":1}}}"#;
const STOP: &str = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}"#;

fn chunk(stream: &mut Stream, event: &str) -> (String, Chunk) {
    match stream.event(event.as_bytes()) {
        Heard::Chunk { bytes, chunk } => (String::from_utf8(bytes.to_vec()).unwrap(), chunk),
        other => panic!("{other:?}: {event}"),
    }
}

#[test]
fn usage_is_reported_when_it_is_final() {
    let mut stream = Stream::new(asked(false));
    assert_eq!(chunk(&mut stream, START).1.usage, None);
    let early = r#"{"type":"message_delta","delta":{},"usage":{"output_tokens":3}}"#;
    assert_eq!(chunk(&mut stream, early), (String::new(), Chunk::default()));
    let usage = Usage {
        input_tokens: 5,
        output_tokens: 7,
        ..Usage::default()
    };
    let (bytes, last) = chunk(&mut stream, STOP);
    assert_eq!(
        last,
        Chunk {
            content: true,
            finish: Some(Finish::Regular),
            finished: 1,
            usage: Some(usage),
            usage_only: false,
            answers: true,
            unfiltered: false,
        }
    );
    assert!(
        bytes.ends_with("\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"),
        "{bytes}"
    );
    assert_eq!(
        stream.event(br#"{"type":"message_stop"}"#),
        Heard::Done("data: [DONE]\n\n".into())
    );
}

/// Found by fuzzing: the client was told the count that the stream began with.
#[test]
fn a_client_is_told_no_other_usage_than_is_booked() {
    let mut stream = Stream::new(asked(true));
    chunk(&mut stream, START);
    let without = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#;
    assert_eq!(chunk(&mut stream, without).1.usage, None);
    assert_eq!(
        stream.event(br#"{"type":"message_stop"}"#),
        Heard::Done("data: [DONE]\n\n".into())
    );
}

/// Found by fuzzing: a last report without its output was filled up with the count that the stream began with; thinking that it counted
/// was more than all of the output.
#[test]
fn a_last_report_without_output_is_none_and_thinking_is_output() {
    let last =
        |usage: &str| format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{usage}}}"#);
    let usage = |report: &str| {
        let mut stream = Stream::new(asked(true));
        chunk(&mut stream, START);
        chunk(&mut stream, &last(report)).1.usage
    };
    assert_eq!(usage(r#"{"output_tokens_details":{"thinking_tokens":2}}"#), None);
    let thought = usage(r#"{"output_tokens":1,"output_tokens_details":{"thinking_tokens":2}}"#).unwrap();
    assert_eq!((thought.output_tokens, thought.reasoning_output_tokens), (2, 2));
}

#[test]
fn calls_that_never_end_take_no_memory() {
    let long = "x".repeat(10_000);
    for (input, taken) in [("", 128), (long.as_str(), 104)] {
        let mut stream = Stream::new(asked(false));
        let block = json!({"type": "tool_use", "id": "t", "name": "f", "input": {"a": input}});
        let begins =
            |index: u64| json!({"type": "content_block_start", "index": index, "content_block": block}).to_string();
        let heard = (0..200).filter(|index| stream.event(begins(*index).as_bytes()) != Heard::Malformed);
        assert_eq!(heard.count(), taken);
    }
}

#[test]
fn later_input_counts_replace_earlier_ones() {
    for (later, expected) in [
        (r#"{"input_tokens":2,"cache_read_input_tokens":3,"output_tokens":7}"#, 5),
        (r#"{"input_tokens":900,"output_tokens":7}"#, 900),
        (r#"{"input_tokens":0,"output_tokens":7}"#, 5),
        (r#"{"input_tokens":0,"cache_read_input_tokens":5,"output_tokens":7}"#, 5),
    ] {
        let mut stream = Stream::new(asked(false));
        chunk(&mut stream, START);
        let event = format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{later}}}"#);
        assert_eq!(
            chunk(&mut stream, &event).1.usage.unwrap().input_tokens,
            expected,
            "{later}"
        );
    }
    let mut stream = Stream::new(asked(false));
    assert_eq!(chunk(&mut stream, STOP).1.usage, None, "unknown is never 0");
}

#[test]
fn a_stream_cut_after_its_answer_can_be_ended() {
    let mut stream = Stream::new(asked(true));
    assert_eq!(stream.end(), None);
    chunk(&mut stream, START);
    assert_eq!(stream.end(), None);
    chunk(&mut stream, STOP);
    let end = stream.end().unwrap();
    assert!(end.ends_with(b"data: [DONE]\n\n"));
    assert_eq!(
        serde_json::from_slice::<Value>(&data(&end)[0]).unwrap()["usage"]["total_tokens"],
        12
    );
    assert_eq!(stream.end(), None);
}

#[test]
fn a_refusal_is_a_content_filter() {
    let mut stream = Stream::new(asked(false));
    let refusal = r#"{"type":"message_delta","delta":{"stop_reason":"refusal"},"usage":{"output_tokens":0}}"#;
    let (bytes, chunk) = chunk(&mut stream, refusal);
    assert!(bytes.contains("\"finish_reason\":\"content_filter\""));
    assert_eq!(chunk.finish, Some(Finish::ContentFilter));
}

#[test]
fn arguments_in_the_start_are_sent_once() {
    let start = r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"t","name":"f","input":{"a":1}}}"#;
    let delta =
        r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"a\":2}"}}"#;
    let stop = r#"{"type":"content_block_stop","index":3}"#;
    for (events, expected) in [
        (vec![start, stop], r#"{"a":1}"#),
        (vec![start, delta, stop], r#"{"a":2}"#),
    ] {
        let text: String = format!("data: {}\n\n", events.join("\n\ndata: "));
        let (sent, _, _) = heard(&mut Stream::new(asked(false)), text.as_bytes());
        assert_eq!(arguments(&sent, 0), expected);
    }
}

#[test]
fn events_of_no_interest_are_passed_over_and_others_told_apart() {
    let mut stream = Stream::new(asked(false));
    for event in [
        r#"{"type":"ping"}"#,
        r#"{"type":"new_event","message":"text","index":"x"}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"x"}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"x"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":{}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
    ] {
        assert_eq!(chunk(&mut stream, event), (String::new(), Chunk::default()), "{event}");
    }
    for event in [
        "",
        "[DONE]",
        "{}",
        "7",
        "{\"type\":",
        r#"{"type":"message_start"}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":7}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":7}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use"}}"#,
    ] {
        assert_eq!(stream.event(event.as_bytes()), Heard::Malformed, "{event}");
    }
    for event in [
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
        r#"{"error":{"message":"x"}}"#,
    ] {
        assert_eq!(stream.event(event.as_bytes()), Heard::Error, "{event}");
    }
}

proptest! {
    #[test]
    fn no_event_panics(
        noise in proptest::collection::vec(any::<u8>(), 0..100),
        kind in "(message_start|content_block_start|content_block_delta|content_block_stop|message_delta|message_stop)",
        delta in "(text_delta|thinking_delta|input_json_delta)", index in any::<u64>(), text in any::<Option<String>>(),
    ) {
        let mut stream = Stream::new(asked(true));
        stream.event(&noise);
        let event = json!({"type":kind,"index":index,"message":{"id":text},"usage":{"output_tokens":index,"input_tokens":index,
            "cache_read_input_tokens":index},"delta":{"type":delta,"text":text,"thinking":text,"partial_json":text,"stop_reason":text},
            "content_block":{"type":"tool_use","id":text,"name":text}});
        stream.event(event.to_string().as_bytes());
        stream.end();
    }

    #[test]
    fn however_text_is_cut_it_is_the_whole_answers(
        text in ".{0,30}", thinking in "[a-zé\n\"]{0,20}", value in ".{0,20}", cuts in proptest::collection::vec(1..5_usize, 0..30),
    ) {
        let input = json!({"v": value});
        let whole = json!({"content":[{"type":"thinking","thinking":thinking},{"type":"text","text":text},
            {"type":"tool_use","id":"t","name":"f","input":input}],"stop_reason":"tool_use"});
        let Read::Answer { body, .. } = read(whole.to_string().as_bytes(), &asked(false)) else { panic!() };
        let message = serde_json::from_slice::<Value>(&body).unwrap()["choices"][0]["message"].clone();
        let mut events = String::new();
        let mut add = |event: Value| events.extend(["data: ", &event.to_string(), "\n\n"]);
        let blocks = [("thinking", "thinking_delta", "thinking", thinking), ("text", "text_delta", "text", text),
            ("tool_use", "input_json_delta", "partial_json", input.to_string())];
        for (index, (block, delta, field, text)) in blocks.iter().enumerate() {
            add(json!({"type":"content_block_start","index":index,"content_block":{"type":block,"id":"t","name":"f"}}));
            let mut rest: Vec<char> = text.chars().collect();
            for cut in cuts.iter().copied().chain([usize::MAX]) {
                let part: String = rest.drain(..cut.min(rest.len())).collect();
                add(json!({"type":"content_block_delta","index":index,"delta":{"type":delta,*field:part}}));
            }
            add(json!({"type":"content_block_stop","index":index}));
        }
        let (sent, _, _) = heard(&mut Stream::new(asked(false)), events.as_bytes());
        prop_assert_eq!(super::streams::text(&sent, "content"), message["content"].as_str().unwrap_or_default());
        prop_assert_eq!(super::streams::text(&sent, "reasoning_content"), message["reasoning_content"].as_str().unwrap_or_default());
        let whole = message["tool_calls"][0]["function"]["arguments"].as_str().unwrap_or_default();
        prop_assert_eq!(arguments(&sent, 0), whole);
    }
}
