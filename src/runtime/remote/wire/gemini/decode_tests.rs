//! Answers and streams, in the shapes that Gemini sends.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Stream, read};
use crate::{
    policy::pricing::Usage,
    runtime::{
        remote::{
            events::{Chunk, Finish},
            wire::{Asked, Blocked, Heard, Read},
        },
        request::head::Operation,
    },
};

fn asked() -> Asked {
    Asked {
        id: "chatcmpl-1".into(),
        created: 7,
        model: "m".into(),
        include_usage: true,
        n: 1,
        base64: false,
    }
}

fn heard(stream: &mut Stream, event: &Value) -> (Value, Chunk) {
    match stream.event(event.to_string().as_bytes()) {
        Heard::Chunk { bytes, chunk } if bytes.is_empty() => (Value::Null, chunk),
        Heard::Chunk { bytes, chunk } => (data(&bytes), chunk),
        other => panic!("{other:?}"),
    }
}

fn data(bytes: &[u8]) -> Value {
    let text = std::str::from_utf8(bytes).unwrap();
    let json = text.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
    assert!(!json.contains('\n'));
    serde_json::from_str(json).unwrap()
}

fn whole(body: &Value) -> (Value, Chunk) {
    match read(Operation::Chat, body.to_string().as_bytes(), &asked()) {
        Read::Answer { body, chunk } => (serde_json::from_slice(&body).unwrap(), chunk),
        other => panic!("{other:?}"),
    }
}

#[test]
fn text_and_thoughts_stream_and_only_the_last_total_counts() {
    let mut stream = Stream::new(asked());
    let first = json!({"candidates":[{"content":{"parts":[{"text":"hm","thought":true}],"role":"model"},"index":0}],
        "usageMetadata":{"promptTokenCount":9,"totalTokenCount":9},"modelVersion":"gemini-2.5-flash","responseId":"r1"});
    let (event, chunk) = heard(&mut stream, &first);
    assert_eq!(
        event["choices"][0]["delta"],
        json!({"role":"assistant","reasoning_content":"hm"})
    );
    assert_eq!(
        (&event["id"], &event["model"], &event["created"]),
        (&json!("r1"), &json!("gemini-2.5-flash"), &json!(7))
    );
    assert_eq!((chunk.content, chunk.usage, chunk.finish), (true, None, None));
    assert_eq!(stream.end(), None, "cut");
    let (event, _) = heard(
        &mut stream,
        &json!({"candidates":[{"content":{"parts":[{"text":"a\"\n"},{"text":"é"}]}}]}),
    );
    assert_eq!(event["choices"][0]["delta"], json!({"content":"a\"\né"}));
    let last = json!({"candidates":[{"content":{"role":"model"},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":9,
        "cachedContentTokenCount":4,"candidatesTokenCount":3,"thoughtsTokenCount":5,"totalTokenCount":17}});
    let (event, chunk) = heard(&mut stream, &last);
    assert_eq!(
        event["choices"][0],
        json!({"index":0,"delta":{},"finish_reason":"stop"})
    );
    let usage = Usage {
        input_tokens: 9,
        cached_input_tokens: 4,
        output_tokens: 8,
        reasoning_output_tokens: 5,
        ..Usage::default()
    };
    assert_eq!((chunk.finish, chunk.usage), (Some(Finish::Regular), Some(usage)));
    let end = stream.end().unwrap();
    let (event, done) = std::str::from_utf8(&end).unwrap().split_once("\n\n").unwrap();
    let event = data(format!("{event}\n\n").as_bytes());
    assert_eq!(
        (&event["choices"], &event["usage"]["total_tokens"]),
        (&json!([]), &json!(17))
    );
    assert_eq!(done, "data: [DONE]\n\n");
    assert_eq!(stream.end(), None, "once");
}

#[test]
fn calls_stream_whole_with_their_signature() {
    let mut stream = Stream::new(asked());
    let call = json!({"candidates":[{"content":{"parts":[
        {"functionCall":{"name":"f","args":{"city":"Zürich\n"}},"thoughtSignature":"c2ln"},
        {"functionCall":{"id":"g1","name":"g"},"thoughtSignature":7}]}}]});
    let (event, chunk) = heard(&mut stream, &call);
    assert!(chunk.content);
    let calls = &event["choices"][0]["delta"]["tool_calls"];
    assert_eq!(
        calls[0]["function"],
        json!({"name":"f","arguments":"{\"city\":\"Zürich\\n\"}"})
    );
    assert_eq!(calls[0]["id"], "call_chatcmpl-1_1");
    assert_eq!(
        calls[0]["extra_content"],
        json!({"google":{"thought_signature":"c2ln"}})
    );
    assert_eq!(
        calls[1],
        json!({"index":1,"id":"g1","type":"function","function":{"name":"g","arguments":"{}"}})
    );
    let (event, _) = heard(&mut stream, &json!({"candidates":[{"finishReason":"STOP"}]}));
    assert_eq!(event["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn a_stream_of_several_ends_with_the_last() {
    let mut stream = Stream::new(asked());
    let usage = json!({"promptTokenCount":1,"candidatesTokenCount":1});
    let both = json!({"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"SAFETY"},{"index":1,"content":{"parts":[{"text":"b"}]}}],
        "usageMetadata":usage});
    let (event, chunk) = heard(&mut stream, &both);
    assert_eq!(
        (&event["choices"][0]["finish_reason"], &event["choices"][1]["index"]),
        (&json!("content_filter"), &json!(1))
    );
    assert_eq!((chunk.finish, chunk.usage), (None, None));
    assert_eq!(stream.end(), None);
    let (_, chunk) = heard(
        &mut stream,
        &json!({"candidates":[{"index":1,"finishReason":"MAX_TOKENS"}],"usageMetadata":usage}),
    );
    assert_eq!(chunk.finish, Some(Finish::Regular));
    assert!(chunk.usage.is_some() && stream.end().is_some());
}

#[test]
fn a_stream_that_ends_before_the_second_of_two_begins_is_cut() {
    let mut stream = Stream::new(Asked { n: 2, ..asked() });
    let usage = json!({"promptTokenCount":1,"candidatesTokenCount":1});
    let first =
        json!({"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}],"usageMetadata":usage});
    let (_, chunk) = heard(&mut stream, &first);
    assert_eq!((chunk.finish, chunk.usage, stream.end()), (None, None, None));
    let second = json!({"candidates":[{"index":1,"content":{"parts":[{"text":"b"}]},"finishReason":"STOP"}],"usageMetadata":usage});
    let (_, chunk) = heard(&mut stream, &second);
    assert_eq!(chunk.finish, Some(Finish::Regular));
    assert!(chunk.usage.is_some() && stream.end().is_some());
}

#[test]
fn every_finish_has_a_word() {
    for (reason, word, finish) in [
        ("STOP", "stop", Finish::Regular),
        ("MAX_TOKENS", "length", Finish::Regular),
        ("SAFETY", "content_filter", Finish::ContentFilter),
        ("IMAGE_PROHIBITED_CONTENT", "content_filter", Finish::ContentFilter),
        ("SPII", "content_filter", Finish::ContentFilter),
        ("BLOCKLIST", "content_filter", Finish::ContentFilter),
        ("RECITATION", "content_filter", Finish::ContentFilter),
        ("MALFORMED_FUNCTION_CALL", "content_filter", Finish::Regular),
        ("SOMETHING_NEW", "content_filter", Finish::Regular),
    ] {
        let (body, chunk) = whole(&json!({"candidates":[{"finishReason":reason}]}));
        assert_eq!(body["choices"][0]["finish_reason"], word);
        assert_eq!(chunk.finish, Some(finish), "{reason}");
    }
}

#[test]
fn a_whole_answer_is_read() {
    let (body, chunk) = whole(
        &json!({"candidates":[{"content":{"parts":[{"text":"why","thought":true},{"text":"Hi"},
        {"inlineData":{"mimeType":"image/png","data":"AA=="}},{"functionCall":{"name":"f","args":{}}}]},"finishReason":"STOP",
        "logprobsResult":{"chosenCandidates":[{"token":"Hi","logProbability":-0.5}],"topCandidates":[{"candidates":[{"token":"Ho","logProbability":-1.5}]}]}}],
        "usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"totalTokenCount":5},"responseId":"r"}),
    );
    let choice = &body["choices"][0];
    assert_eq!(
        (&body["object"], &body["id"], &choice["finish_reason"]),
        (&json!("chat.completion"), &json!("r"), &json!("tool_calls"))
    );
    let message = &choice["message"];
    assert_eq!(
        (&message["content"], &message["reasoning_content"], &message["refusal"]),
        (&json!("Hi"), &json!("why"), &Value::Null)
    );
    assert_eq!(message["images"][0]["image_url"]["url"], "data:image/png;base64,AA==");
    assert_eq!(message["tool_calls"][0]["index"], Value::Null);
    assert_eq!(
        choice["logprobs"]["content"][0],
        json!({"token":"Hi","logprob":-0.5,"bytes":[72,105],
        "top_logprobs":[{"token":"Ho","logprob":-1.5,"bytes":[72,111]}]})
    );
    assert_eq!(body["usage"]["prompt_tokens"], 3);
    assert_eq!(chunk.usage.unwrap().output_tokens, 2);
}

#[test]
fn blocks_errors_and_rubbish_are_told_apart() {
    let blocked = br#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":4,"totalTokenCount":4}}"#;
    let usage = Some(Usage {
        input_tokens: 4,
        ..Usage::default()
    });
    let expected = Blocked {
        reason: "PROHIBITED_CONTENT".into(),
        usage,
    };
    assert_eq!(Stream::new(asked()).event(blocked), Heard::Blocked(expected.clone()));
    assert_eq!(read(Operation::Chat, blocked, &asked()), Read::Blocked(expected));
    for error in [&br#"{"error":{"code":503}}"#[..], br#"[{"error":{"code":503}}]"#] {
        assert_eq!(Stream::new(asked()).event(error), Heard::Error);
        assert_eq!(read(Operation::Chat, error, &asked()), Read::Error);
        assert_eq!(read(Operation::Embeddings, error, &asked()), Read::Error);
    }
    for rubbish in [
        &b"{}"[..],
        b"[]",
        b"",
        b"{\"candidates\":[{",
        br#"{"candidates":[{"index":9999}]}"#,
    ] {
        assert_eq!(Stream::new(asked()).event(rubbish), Heard::Malformed);
        assert_eq!(read(Operation::Chat, rubbish, &asked()), Read::Malformed);
    }
}

#[test]
fn a_block_in_the_midst_ends_the_answer() {
    let mut stream = Stream::new(asked());
    heard(
        &mut stream,
        &json!({"candidates":[{"content":{"parts":[{"text":"a"}]}}]}),
    );
    let (event, chunk) = heard(&mut stream, &json!({"promptFeedback":{"blockReason":"SAFETY"}}));
    assert_eq!(event["choices"][0]["finish_reason"], "content_filter");
    assert_eq!(chunk.finish, Some(Finish::ContentFilter));
    assert!(stream.end().is_some());
}

#[test]
fn embeddings_are_read_from_both() {
    let studio = br#"{"embeddings":[{"values":[0.5,-1]},{"values":[2]}]}"#;
    let Read::Answer { body, chunk } = read(Operation::Embeddings, studio, &asked()) else {
        panic!()
    };
    let list: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(list["data"][0]["embedding"], json!([0.5, -1]));
    assert_eq!((list.get("usage"), chunk.usage, chunk.answers), (None, None, true));
    let vertex =
        br#"{"predictions":[{"embeddings":{"values":[1.0],"statistics":{"token_count":5.0,"truncated":false}}}]}"#;
    let base64 = Asked {
        base64: true,
        ..asked()
    };
    let Read::Answer { body, chunk } = read(Operation::Embeddings, vertex, &base64) else {
        panic!()
    };
    let list: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(list["data"][0]["embedding"], "AACAPw==");
    assert_eq!(
        (
            list["usage"]["prompt_tokens"].as_u64(),
            chunk.usage.unwrap().input_tokens
        ),
        (Some(5), 5)
    );
}

#[test]
fn an_embedding_tells_all_that_is_booked() {
    let thought = br#"{"embeddings":[{"values":[1]}],"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":3,"thoughtsTokenCount":2}}"#;
    let Read::Answer { body, chunk } = read(Operation::Embeddings, thought, &asked()) else {
        panic!()
    };
    let list: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(list["usage"], json!({"prompt_tokens": 4, "total_tokens": 9}));
    assert_eq!(chunk.usage.unwrap().output_tokens, 5);
}

proptest! {
    #[test]
    fn no_data_panics(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Stream::new(asked()).event(&data);
        let _ = read(Operation::Chat, &data, &asked());
        let _ = read(Operation::Embeddings, &data, &asked());
    }

    #[test]
    fn pieces_of_text_make_the_text(pieces in proptest::collection::vec(proptest::collection::vec(".*", 0..3), 0..6)) {
        let mut stream = Stream::new(asked());
        let mut text = String::new();
        for parts in &pieces {
            let parts: Vec<_> = parts.iter().map(|text| json!({"text": text})).collect();
            let (event, _) = heard(&mut stream, &json!({"candidates":[{"content":{"parts":parts}}]}));
            text.push_str(event["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
        }
        prop_assert_eq!(text, pieces.concat().concat());
    }
}
