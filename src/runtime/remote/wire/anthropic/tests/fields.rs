use serde_json::json;

use super::*;

/// Every field OpenAI documents for chat, with values and what becomes of each: fields of the Messages request, `{}` where
/// the value asks for nothing, or an error that names the field.
#[test]
fn every_documented_field_is_translated_or_neutral_or_named() {
    const NO: &str = "";
    for (field, value, becomes) in [
        ("audio", r#"{"voice":"alloy","format":"wav"}"#, NO),
        ("frequency_penalty", "0", "{}"),
        ("frequency_penalty", "-0.5", NO),
        ("function_call", r#""auto""#, "{}"),
        ("function_call", r#"{"name":"f"}"#, NO),
        ("functions", "[]", "{}"),
        ("functions", r#"[{"name":"f"}]"#, NO),
        ("logit_bias", "{}", "{}"),
        ("logit_bias", r#"{"50256":-100}"#, NO),
        ("logprobs", "false", "{}"),
        ("logprobs", "true", NO),
        ("max_completion_tokens", "5", "{}"),
        ("max_tokens", "5", "{}"),
        ("metadata", "{}", "{}"),
        ("metadata", r#"{"a":"b"}"#, NO),
        ("modalities", r#"["text"]"#, "{}"),
        ("modalities", r#"["text","audio"]"#, NO),
        ("n", "1", "{}"),
        ("n", "2", NO),
        ("parallel_tool_calls", "true", "{}"),
        ("parallel_tool_calls", "false", "{}"),
        ("prediction", r#"{"type":"content","content":"x"}"#, NO),
        ("presence_penalty", "0.0", "{}"),
        ("presence_penalty", "0.5", NO),
        ("prompt_cache_key", r#""k""#, "{}"),
        ("prompt_cache_retention", r#""24h""#, "{}"),
        ("reasoning_effort", r#""none""#, r#"{"thinking":{"type":"disabled"}}"#),
        (
            "reasoning_effort",
            r#""low""#,
            r#"{"thinking":{"type":"adaptive"},"output_config":{"effort":"low"}}"#,
        ),
        ("reasoning_effort", r#""huge""#, NO),
        ("response_format", r#"{"type":"text"}"#, "{}"),
        ("safety_identifier", r#""s""#, r#"{"metadata":{"user_id":"s"}}"#),
        ("seed", "7", NO),
        ("service_tier", r#""auto""#, r#"{"service_tier":"auto"}"#),
        ("service_tier", r#""default""#, r#"{"service_tier":"standard_only"}"#),
        ("service_tier", r#""flex""#, NO),
        ("stop", r#""\n--""#, r#"{"stop_sequences":["\n--"]}"#),
        ("stop", r#"["a","b"]"#, r#"{"stop_sequences":["a","b"]}"#),
        ("stop", "[]", "{}"),
        ("stop", r#"" ""#, NO),
        ("store", "false", "{}"),
        ("store", "true", NO),
        ("stream", "false", "{}"),
        ("stream", "true", r#"{"stream":true}"#),
        (
            "stream_options",
            r#"{"include_usage":true,"include_obfuscation":false}"#,
            "{}",
        ),
        ("temperature", "0.25", r#"{"temperature":0.25}"#),
        ("temperature", "1", "{}"),
        ("temperature", "1.5", NO),
        ("temperature", "-1", NO),
        ("tool_choice", r#""auto""#, "{}"),
        ("tool_choice", r#""required""#, NO),
        ("tools", "[]", "{}"),
        ("top_k", "40", r#"{"top_k":40}"#),
        ("top_logprobs", "0", "{}"),
        ("top_logprobs", "3", NO),
        ("top_p", "0.5", r#"{"top_p":0.5}"#),
        ("top_p", "1.0", "{}"),
        ("top_p", "2", NO),
        ("user", r#""u""#, r#"{"metadata":{"user_id":"u"}}"#),
        ("verbosity", r#""medium""#, "{}"),
        ("verbosity", r#""low""#, NO),
        ("web_search_options", "{}", NO),
        (
            "cache_control",
            r#"{"type":"ephemeral"}"#,
            r#"{"cache_control":{"type":"ephemeral"}}"#,
        ),
        ("moderation", "{}", NO),
        ("foo", "1", NO),
    ] {
        let got = fields(&format!("{field:?}:{value}"));
        if becomes == NO {
            let error = got.expect_err(&format!("{field}: {value}"));
            assert_eq!(error.field, field, "{error}");
        } else {
            assert_eq!(
                got.unwrap(),
                serde_json::from_str::<Value>(becomes).unwrap(),
                "{field}: {value}"
            );
        }
        if !matches!(field, "moderation" | "foo") {
            assert_eq!(fields(&format!("{field:?}:null")).unwrap(), json!({}), "{field}: null");
        }
    }
}

#[test]
fn a_field_that_is_not_offered_says_so() {
    let error = fields(r#""seed":7"#).unwrap_err();
    assert_eq!(error.to_string(), "seed is not offered by Anthropic: leave it out");
    let error = fields(r#""stream_options":{"foo":1}"#).unwrap_err();
    assert_eq!(
        error.to_string(),
        "stream_options.foo is not offered by Anthropic: leave it out"
    );
}

const TOOLS: &str = r#""tools":[{"type":"function","function":{"name":"f"}}]"#;

#[test]
fn tools_always_have_a_schema_of_an_object() {
    for (function, expected) in [
        (r#""name":"f""#, json!({"name":"f","input_schema":{"type":"object"}})),
        (
            r#""name":"f","parameters":{ }"#,
            json!({"name":"f","input_schema":{"type":"object"}}),
        ),
        (
            r#""name":"f","parameters":{"properties":{}},"strict":false"#,
            json!({"name":"f","input_schema":{"type":"object","properties":{}}}),
        ),
        (
            r#""name":"f","description":"d","parameters":{"type":"object","a":[1]},"strict":true"#,
            json!({"name":"f","description":"d","input_schema":{"type":"object","a":[1]},"strict":true}),
        ),
    ] {
        let got = fields(&format!(r#""tools":[{{"type":"function","function":{{{function}}}}}]"#)).unwrap();
        assert_eq!(got["tools"], json!([expected]), "{function}");
    }
}

#[test]
fn the_choice_of_tools_is_translated() {
    for (choice, expected) in [
        ("\"auto\"", json!({"type":"auto","disable_parallel_tool_use":true})),
        ("\"required\"", json!({"type":"any","disable_parallel_tool_use":true})),
        ("\"none\"", json!({"type":"none"})),
        ("null", json!({"type":"auto","disable_parallel_tool_use":true})),
        (
            r#"{"type":"function","function":{"name":"f"}}"#,
            json!({"type":"tool","name":"f","disable_parallel_tool_use":true}),
        ),
    ] {
        let got = fields(&format!(
            r#"{TOOLS},"parallel_tool_calls":false,"tool_choice":{choice}"#
        ))
        .unwrap();
        assert_eq!(got["tool_choice"], expected, "{choice}");
    }
}

#[test]
fn what_is_wrong_with_tools_and_formats_is_named() {
    for (text, field) in [
        (r#""tools":[{"type":"custom","custom":{"name":"f"}}]"#, "tools[0].type"),
        (r#""tools":[{"type":"function"}]"#, "tools[0].function"),
        (
            r#""tools":[{"type":"function","function":{"name":"f","foo":1}}]"#,
            "tools[0].function.foo",
        ),
        (
            r#""tools":[{"type":"function","function":{"name":"f","parameters":[]}}]"#,
            "tools[0].function.parameters",
        ),
        (
            r#""tool_choice":{"type":"allowed_tools","allowed_tools":{}}"#,
            "tool_choice.type",
        ),
        (
            r#""tool_choice":{"type":"function","function":{}}"#,
            "tool_choice.function.name",
        ),
        (r#""tool_choice":"maybe""#, "tool_choice"),
        (r#""response_format":{"type":"json_object"}"#, "response_format.type"),
        (
            r#""response_format":{"type":"json_schema"}"#,
            "response_format.json_schema",
        ),
        (
            r#""response_format":{"type":"json_schema","json_schema":{"name":"n"}}"#,
            "response_format.json_schema.schema",
        ),
        (r#""stop":["a"," "]"#, "stop[1]"),
        (r#""stop":[7]"#, "stop[0]"),
        (
            r#""thinking":{"type":"enabled","budget_tokens":1000}"#,
            "thinking.budget_tokens",
        ),
        (
            r#""thinking":{"type":"enabled","budget_tokens":4096}"#,
            "thinking.budget_tokens",
        ),
        (r#""thinking":7"#, "thinking"),
        (r#""temperature":"warm""#, "temperature"),
    ] {
        let error = fields(&format!("{text},{TOOLS}").replace(&format!("{TOOLS},{TOOLS}"), TOOLS));
        let error = if text.contains("\"tools\"") {
            fields(text)
        } else {
            error
        }
        .unwrap_err();
        assert_eq!(error.field, field, "{text}: {error}");
    }
}

#[test]
fn older_models_are_told_their_budget() {
    let thinking = |fields: &str, model| encoded_for(&chat(fields), model, None).map(|body| body["thinking"].clone());
    let high = r#""reasoning_effort":"high","max_completion_tokens":10000"#;
    assert_eq!(
        thinking(high, "claude-haiku-4-5").unwrap(),
        json!({"type":"enabled","budget_tokens":8000})
    );
    assert_eq!(thinking(high, "claude-opus-4-5").unwrap(), Value::Null);
    let little = r#""reasoning_effort":"low","max_completion_tokens":1024"#;
    assert_eq!(
        thinking(little, "claude-haiku-4-5").unwrap_err().field,
        "reasoning_effort"
    );
    let both = r#""reasoning_effort":"low","thinking":{"type":"enabled","budget_tokens":2000}"#;
    assert_eq!(
        thinking(both, "claude-haiku-4-5").unwrap_err().field,
        "reasoning_effort"
    );
    assert_eq!(
        thinking(both, MODEL).unwrap(),
        json!({"type":"enabled","budget_tokens":2000})
    );
}
