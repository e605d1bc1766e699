use proptest::prelude::*;
use serde_json::json;

use super::super::read;
use super::*;
use crate::policy::pricing::Usage;
use crate::runtime::remote::events::{Chunk, Finish};
use crate::runtime::remote::wire::Read;

fn answer(body: &Value) -> (Value, Chunk) {
    match read(body.to_string().as_bytes(), &asked(false)) {
        Read::Answer { body, chunk } => (serde_json::from_slice(&body).unwrap(), chunk),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_answer_is_a_chat_completion() {
    let (body, chunk) = answer(
        &json!({"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[
        {"type":"thinking","thinking":"hm","signature":"s"},{"type":"redacted_thinking","data":"d"},
        {"type":"text","text":"a\n"},{"type":"text","text":"b","citations":[]},
        {"type":"server_tool_use","id":"srv","name":"web_search","input":{}},
        {"type":"tool_use","id":"toolu_1","name":"f","input":{"x":1}}],
        "stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":3,
        "cache_read_input_tokens":4,"output_tokens":9,"output_tokens_details":{"thinking_tokens":2},"service_tier":"standard"}}),
    );
    assert_eq!(
        body,
        json!({"id":"msg_1","object":"chat.completion","created":1_700_000_000,"model":"claude-x","choices":[{"index":0,
        "message":{"role":"assistant","content":"a\nb","refusal":null,"reasoning_content":"hm","tool_calls":[
            {"id":"toolu_1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},
        "logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":17,"completion_tokens":9,"total_tokens":26,
        "prompt_tokens_details":{"cached_tokens":4,"cache_creation_tokens":3},"completion_tokens_details":{"reasoning_tokens":2}}})
    );
    let usage = Usage {
        input_tokens: 17,
        cached_input_tokens: 4,
        cache_write_input_tokens: 3,
        output_tokens: 9,
        reasoning_output_tokens: 2,
    };
    assert_eq!(
        chunk,
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
}

#[test]
fn every_reason_to_stop_has_its_word() {
    for (reason, word, finish) in [
        ("end_turn", "stop", Finish::Regular),
        ("stop_sequence", "stop", Finish::Regular),
        ("pause_turn", "stop", Finish::Regular),
        ("new_reason", "stop", Finish::Regular),
        ("max_tokens", "length", Finish::Regular),
        ("model_context_window_exceeded", "length", Finish::Regular),
        ("tool_use", "tool_calls", Finish::Regular),
        ("refusal", "content_filter", Finish::ContentFilter),
    ] {
        let (body, chunk) = answer(&json!({"type":"message","content":[],"stop_reason":reason}));
        assert_eq!(body["choices"][0]["finish_reason"], word);
        assert_eq!(body["choices"][0]["message"]["content"], "", "an empty answer is one");
        assert_eq!(
            (body["id"].as_str(), body["model"].as_str()),
            (Some("chatcmpl-1"), Some("assistant"))
        );
        assert_eq!(
            (chunk.finish, chunk.usage),
            (Some(finish), None),
            "unknown usage is no usage"
        );
    }
}

#[test]
fn only_calls_leave_the_content_null() {
    let (body, _) = answer(&json!({"content":[{"type":"tool_use","id":"t","name":"f"}],"stop_reason":"tool_use"}));
    let message = &body["choices"][0]["message"];
    assert_eq!(message["content"], Value::Null);
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{}");
}

#[test]
fn errors_and_rubbish_are_told_apart() {
    for (body, expected) in [
        (
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            Read::Error,
        ),
        (r#"{"error":{"message":"x"}}"#, Read::Error),
        (r#"{"type":"error"}"#, Read::Error),
        ("{}", Read::Malformed),
        ("<html>", Read::Malformed),
        (r#"{"type":"message","content":[]}"#, Read::Malformed),
        (
            r#"{"type":"message","content":[{"type":"text"}],"stop_reason":"end_turn"}"#,
            Read::Malformed,
        ),
        (r#"{"choices":[]}"#, Read::Malformed),
    ] {
        assert_eq!(read(body.as_bytes(), &asked(false)), expected, "{body}");
    }
}

proptest! {
    #[test]
    fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&body, &asked(true));
    }
}
