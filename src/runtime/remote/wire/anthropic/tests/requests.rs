use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// What messages become: `system` and `messages`.
fn messages(text: &str) -> Result<(Value, Value), Inexpressible> {
    encoded(&format!(r#"{{"model":"m","messages":{text}}}"#))
        .map(|body| (body["system"].clone(), body["messages"].clone()))
}

#[test]
fn a_whole_request_is_written_as_the_messages_api_has_it() {
    let body = include_str!("data/request.json");
    let expected: Value = serde_json::from_str(include_str!("data/request.messages.json")).unwrap();
    assert_eq!(encoded(body).unwrap(), expected);
}

#[test]
fn the_output_is_compact_and_borrows_what_it_can() {
    let head = head::read(Operation::Chat, chat("").as_bytes()).unwrap();
    let bytes = encode(
        &head,
        chat("").as_bytes(),
        Target {
            model: "m",
            output_limit: Some(7),
        },
    )
    .unwrap();
    assert_eq!(
        bytes,
        r#"{"model":"m","max_tokens":7,"messages":[{"role":"user","content":"Hi"}]}"#
    );
}

#[test]
fn only_chat_is_offered() {
    for (operation, route) in [
        (Operation::Embeddings, "/v1/embeddings"),
        (Operation::Completions, "/v1/completions"),
    ] {
        let head = head::read(operation, br#"{"model":"m"}"#).unwrap();
        let error = encode(
            &head,
            b"{}",
            Target {
                model: "m",
                output_limit: None,
            },
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{route} is not offered by Anthropic: use /v1/chat/completions")
        );
    }
}

#[test]
fn the_output_limit_is_the_clients_else_the_backends_else_ours() {
    let limit = |fields: &str, backend| encoded_for(&chat(fields), MODEL, backend).unwrap()["max_tokens"].clone();
    assert_eq!(limit("", None), 4096);
    assert_eq!(limit("", Some(100)), 100);
    assert_eq!(limit(r#""max_tokens":5,"max_completion_tokens":9"#, Some(100)), 9);
}

#[test]
fn system_messages_come_first_wherever_they_stand() {
    let (system, rest) = messages(
        r#"[{"role":"system","content":"A"},{"role":"user","content":"Hi"},
        {"role":"developer","content":[{"type":"text","text":"B","cache_control":{"type":"ephemeral"}}]}]"#,
    )
    .unwrap();
    assert_eq!(
        system,
        json!([{"type":"text","text":"A"},{"type":"text","text":"B","cache_control":{"type":"ephemeral"}}])
    );
    assert_eq!(rest, json!([{"role":"user","content":"Hi"}]));
    let (one, _) = messages(r#"[{"role":"system","content":"A"},{"role":"user","content":"Hi"}]"#).unwrap();
    assert_eq!(one, "A");
    let (none, _) = messages(r#"[{"role":"system","content":""},{"role":"user","content":"Hi"}]"#).unwrap();
    assert_eq!(none, Value::Null);
}

#[test]
fn an_answer_sent_back_whole_is_taken() {
    let (_, rest) = messages(
        r#"[{"role":"user","content":"Hi"},{"role":"assistant","content":"","refusal":null,"annotations":[],
        "audio":null,"function_call":null,"reasoning_content":"hm","tool_calls":[{"index":0,"id":"c1","type":"function",
        "function":{"name":"now","arguments":""}}]},{"role":"tool","tool_call_id":"c1","name":"now","content":""}]"#,
    )
    .unwrap();
    assert_eq!(
        rest,
        json!([{"role":"user","content":"Hi"},
        {"role":"assistant","content":[{"type":"tool_use","id":"c1","name":"now","input":{}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"c1"}]}])
    );
    let (_, rest) = messages(
        r#"[{"role":"user","content":"Hi"},{"role":"assistant","content":null},
        {"role":"assistant","content":null,"refusal":"No"}]"#,
    )
    .unwrap();
    assert_eq!(
        rest,
        json!([{"role":"user","content":"Hi"},{"role":"assistant","content":[{"type":"text","text":"No"}]}])
    );
}

#[test]
fn an_answer_of_another_server_is_taken() {
    let (_, messages) = messages(
        r#"[{"role":"user","content":"Hi"},
        {"role":"assistant","content":"a","refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null,
            "reasoning_details":[{"type":"reasoning.text","text":"hm"}],"images":[],"provider_specific_fields":{"a":1},
            "tool_calls":[{"id":"functions.f:0","type":"function","function":{"name":"f","arguments":"{}"},
                "extra_content":{"google":{"thought_signature":"s"}},"provider_specific_fields":null}]},
        {"role":"tool","tool_call_id":"functions.f:0","content":"x"}]"#,
    )
    .unwrap();
    assert_eq!(
        messages[1]["content"],
        json!([{"type":"text","text":"a"},{"type":"tool_use","id":"functions_f_0","name":"f","input":{}}])
    );
    assert_eq!(messages[2]["content"][0]["tool_use_id"], "functions_f_0");
    let drawn = r#"[{"role":"user","content":"Hi"},{"role":"assistant","content":"a",
        "images":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}]"#;
    assert_eq!(
        super::requests::messages(drawn).unwrap_err().field,
        "messages[1].images"
    );
    let elsewhere = r#"[{"role":"user","content":"Hi","reasoning":"hm"}]"#;
    assert_eq!(
        super::requests::messages(elsewhere).unwrap_err().field,
        "messages[0].reasoning"
    );
}

const LOOP: &str = r#""messages":[{"role":"user","content":"Hi"},
    {"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},
    {"role":"tool","tool_call_id":"a","content":"x"}]"#;
const TOOLS: &str = r#""tools":[{"type":"function","function":{"name":"f"}}]"#;

/// `thinking` of a conversation, or the field that it cannot go with.
fn thinking(model: &str, messages: &str, fields: &str) -> Result<Value, String> {
    let body = format!(r#"{{"model":"m","max_tokens":8000,{TOOLS},{messages},{fields}}}"#);
    encoded_for(&body, model, None)
        .map(|body| body["thinking"]["type"].clone())
        .map_err(|error| error.field)
}

#[test]
fn in_the_midst_of_calls_only_adaptive_models_think() {
    let (effort, own) = (
        r#""reasoning_effort":"medium""#,
        r#""thinking":{"type":"enabled","budget_tokens":2000}"#,
    );
    let after = LOOP.replace(r#""x"}]"#, r#""x"},{"role":"user","content":"so?"}]"#);
    for (model, messages, fields, expected) in [
        ("claude-sonnet-4-5", LOOP, effort, Ok(Value::Null)),
        ("claude-sonnet-4-5", after.as_str(), effort, Ok("enabled".into())),
        ("claude-sonnet-4-6", LOOP, effort, Ok("adaptive".into())),
        ("claude-sonnet-4-5", LOOP, own, Err("thinking".to_owned())),
        (
            "claude-sonnet-4-6",
            LOOP,
            r#""thinking":{"type":"adaptive"}"#,
            Ok("adaptive".into()),
        ),
        (
            "claude-sonnet-4-5",
            LOOP,
            r#""thinking":{"type":"disabled"}"#,
            Ok("disabled".into()),
        ),
    ] {
        assert_eq!(
            thinking(model, messages, fields),
            expected,
            "{model} {messages} {fields}"
        );
    }
}

#[test]
fn a_model_that_thinks_is_neither_forced_nor_cooled() {
    let first = r#""messages":[{"role":"user","content":"Hi"}]"#;
    for model in ["claude-sonnet-4-5", "claude-sonnet-4-6"] {
        for (fields, expected) in [
            (r#""reasoning_effort":"low","tool_choice":"required""#, Ok(Value::Null)),
            (
                r#""thinking":{"type":"enabled","budget_tokens":2000},"tool_choice":"required""#,
                Err("tool_choice".to_owned()),
            ),
            (
                r#""reasoning_effort":"low","temperature":0.2"#,
                Err("temperature".to_owned()),
            ),
            (r#""reasoning_effort":"low","top_k":5"#, Err("top_k".to_owned())),
            (
                r#""reasoning_effort":"none","temperature":0.2,"tool_choice":"required""#,
                Ok("disabled".into()),
            ),
        ] {
            assert_eq!(thinking(model, first, fields), expected, "{model} {fields}");
        }
    }
}

#[test]
fn results_of_tools_are_kept_together_and_apart_from_others() {
    let (_, rest) = messages(
        r#"[{"role":"tool","tool_call_id":"a","content":"1"},{"role":"tool","tool_call_id":"b",
        "content":[{"type":"image_url","image_url":{"url":"https://x/y.png"}}]},{"role":"user","content":"and"},
        {"role":"tool","tool_call_id":"c","content":"3"}]"#,
    )
    .unwrap();
    assert_eq!(
        rest,
        json!([
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"1"},{"type":"tool_result","tool_use_id":"b",
            "content":[{"type":"image","source":{"type":"url","url":"https://x/y.png"}}]}]},
        {"role":"user","content":"and"},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"c","content":"3"}]}])
    );
}

#[test]
fn what_is_wrong_in_a_message_is_named() {
    for (message, field, text) in [
        (r#"{"role":"user","content":""}"#, "messages[0].content", "leave it out"),
        (r#"{"role":"user","content":[]}"#, "messages[0].content", "leave it out"),
        (r#"{"role":"user"}"#, "messages[0].content", "required"),
        (r#"{"content":"x"}"#, "messages[0].role", "required"),
        (
            r#"{"role":"user","content":7}"#,
            "messages[0].content",
            "a string or a list of parts",
        ),
        (r#"["user","x"]"#, "messages[0]", "an object"),
        (
            r#"{"role":"user","content":"x","foo":1}"#,
            "messages[0].foo",
            "not offered",
        ),
        (
            r#"{"role":"user","content":"x","content":"y"}"#,
            "messages[0].content",
            "twice",
        ),
        (
            r#"{"role":"user","content":"x","name":"Bo"}"#,
            "messages[0].name",
            "not offered",
        ),
        (
            r#"{"role":"user","content":"x","tool_calls":[]}"#,
            "messages[0].tool_calls",
            "this role",
        ),
        (
            r#"{"role":"function","name":"f","content":"x"}"#,
            "messages[0].name",
            "not offered",
        ),
        (r#"{"role":"function","content":"x"}"#, "messages[0].role", "old form"),
        (r#"{"role":"robot","content":"x"}"#, "messages[0].role", "assistant"),
        (
            r#"{"role":"tool","content":"x"}"#,
            "messages[0].tool_call_id",
            "required",
        ),
        (
            r#"{"role":"assistant","function_call":{"name":"f","arguments":"{}"}}"#,
            "messages[0].function_call",
            "tool_calls",
        ),
        (
            r#"{"role":"assistant","audio":{"id":"a"}}"#,
            "messages[0].audio",
            "not offered",
        ),
        (
            r#"{"role":"assistant","content":"x","annotations":[{}]}"#,
            "messages[0].annotations",
            "not offered",
        ),
        (r#"{"role":"system","content":"x"}"#, "messages", "not of the system"),
        (
            r#"{"role":"system","content":[{"type":"image_url","image_url":{"url":"https://x"}}]}"#,
            "messages[0].content[0].type",
            "image_url",
        ),
    ] {
        let error = messages(&format!("[{message}]")).unwrap_err();
        assert_eq!(error.field, field, "{message}: {error}");
        assert!(error.message.contains(text), "{message}: {error}");
    }
}

#[test]
fn what_is_wrong_in_a_part_is_named() {
    for (part, field, text) in [
        (
            r#"{"type":"input_audio","input_audio":{"data":"","format":"wav"}}"#,
            ".input_audio",
            "not offered",
        ),
        (r#"{"type":"video"}"#, ".type", "video"),
        (r#"{"type":"text"}"#, ".text", "required"),
        (r#"{"text":"x"}"#, ".type", "required"),
        (
            r#"{"type":"text","text":"x","image_url":{"url":"https://x"}}"#,
            ".image_url",
            "type \"text\"",
        ),
        (r#"{"type":"text","text":"x","foo":1}"#, ".foo", "not offered"),
        (
            r#"{"type":"image_url","image_url":{"url":"https://x","foo":1}}"#,
            ".image_url.foo",
            "not offered",
        ),
        (
            r#"{"type":"image_url","image_url":"https://x"}"#,
            ".image_url",
            "an object",
        ),
        (
            r#"{"type":"image_url","image_url":{"url":"https://x","detail":"low"}}"#,
            ".image_url.detail",
            "auto or high",
        ),
        (
            r#"{"type":"image_url","image_url":{"url":"ftp://x"}}"#,
            ".image_url.url",
            "http",
        ),
        (
            r#"{"type":"image_url","image_url":{"url":"data:image/tiff;base64,AA"}}"#,
            ".image_url.url",
            "PNG",
        ),
        (
            r#"{"type":"image_url","image_url":{"url":"data:image/png,AA"}}"#,
            ".image_url.url",
            "base64",
        ),
        (
            r#"{"type":"file","file":{"file_id":"f"}}"#,
            ".file.file_id",
            "file_data",
        ),
        (
            r#"{"type":"file","file":{"filename":"f"}}"#,
            ".file.file_data",
            "required",
        ),
        (
            r#"{"type":"file","file":{"file_data":"data:text/csv;base64,AA"}}"#,
            ".file.file_data",
            "PDF",
        ),
    ] {
        let error = messages(&format!(r#"[{{"role":"user","content":[{part}]}}]"#)).unwrap_err();
        assert_eq!(error.field, format!("messages[0].content[0]{field}"), "{part}: {error}");
        assert!(error.message.contains(text), "{part}: {error}");
    }
}

#[test]
fn arguments_that_are_no_object_are_named() {
    for arguments in ["7", "[]", "{", "null", "{} {}"] {
        let body = json!([{"role":"user","content":"x"},{"role":"assistant","tool_calls":[
            {"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},
            {"id":"b","type":"function","function":{"name":"f","arguments":arguments}}]}]);
        let error = messages(&body.to_string()).unwrap_err();
        assert_eq!(
            error.field, "messages[1].tool_calls[1].function.arguments",
            "{arguments}"
        );
    }
}

proptest! {
    #[test]
    fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let head = head::read(Operation::Chat, chat("").as_bytes()).unwrap();
        let _ = encode(&head, &body, Target { model: MODEL, output_limit: None });
    }

    #[test]
    fn no_chat_panics_and_text_is_never_changed(
        text in ".{1,40}", role in "(user|assistant|system|tool|developer|[a-z]{3})", url in ".{0,20}|data:[a-z/;,0-9]{0,30}",
        arguments in ".{0,20}",
    ) {
        let body = json!({"model":"m","messages":[{"role":"user","content":text},{"role":role,"tool_call_id":"c","content":[
            {"type":"text","text":text},{"type":"image_url","image_url":{"url":url}}],
            "tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":arguments}}]}]});
        let _ = encoded(&body.to_string());
        let plain = json!({"model":"m","messages":[{"role":"user","content":text}]});
        let written = encoded(&plain.to_string()).unwrap();
        prop_assert_eq!(written["messages"][0]["content"].as_str(), Some(text.as_str()));
    }
}
