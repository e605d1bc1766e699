//! Requests as Gemini gets them, and what it cannot be asked.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{encode, method, wants_base64};
use crate::runtime::{
    remote::wire::{Inexpressible, Target},
    request::head::{self, Operation},
};

fn translated(operation: Operation, body: &Value, model: &str, vertex: bool) -> Result<Value, Inexpressible> {
    let bytes = body.to_string().into_bytes();
    let head = head::read(operation, &bytes).unwrap();
    let target = Target {
        model,
        output_limit: Some(64),
    };
    encode(&head, &bytes, target, vertex).map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

fn chat(fields: &Value) -> Result<Value, Inexpressible> {
    let mut body = json!({"model":"m","messages":[{"role":"user","content":"Hi"}]});
    body.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    translated(Operation::Chat, &body, "gemini-3-pro", false)
}

fn messages(messages: &Value) -> Result<Value, Inexpressible> {
    chat(&json!({"messages": messages}))
}

fn tool() -> Value {
    json!([{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","additionalProperties":false}}}])
}

#[test]
fn messages_become_contents() {
    let conversation = json!([
        {"role":"system","content":"S"}, {"role":"developer","content":[{"type":"text","text":"D"}]},
        {"role":"user","content":[{"type":"text","text":"look"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AA==","detail":"auto"}},
            {"type":"image_url","image_url":{"url":"https://e.example/a.JPG?x=1"}},
            {"type":"image_url","image_url":{"url":"gs://b/a.webp"}},
            {"type":"input_audio","input_audio":{"data":"QQ==","format":"mp3"}},
            {"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,QQ=="}}]},
        {"role":"user","content":"again"},
        {"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[
            {"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\": 1}"},"extra_content":{"google":{"thought_signature":"sig"}}},
            {"id":"c2","type":"function","function":{"name":"g","arguments":""}}]},
        {"role":"tool","tool_call_id":"c1","content":"{\"b\":2}"},
        {"role":"tool","tool_call_id":"c2","content":"sunny"},
        {"role":"user","content":"so?"}]);
    let body = messages(&conversation).unwrap();
    assert_eq!(body["systemInstruction"], json!({"parts":[{"text":"S"},{"text":"D"}]}));
    assert_eq!(
        body["contents"],
        json!([
        {"role":"user","parts":[{"text":"look"},{"inlineData":{"mimeType":"image/png","data":"AA=="}},
            {"fileData":{"mimeType":"image/jpeg","fileUri":"https://e.example/a.JPG?x=1"}},
            {"fileData":{"mimeType":"image/webp","fileUri":"gs://b/a.webp"}},
            {"inlineData":{"mimeType":"audio/mp3","data":"QQ=="}},
            {"inlineData":{"mimeType":"application/pdf","data":"QQ=="}},{"text":"again"}]},
        {"role":"model","parts":[{"functionCall":{"id":"c1","name":"f","args":{"a":1}},"thoughtSignature":"sig"},
            {"functionCall":{"id":"c2","name":"g","args":{}}}]},
        {"role":"user","parts":[{"functionResponse":{"id":"c1","name":"f","response":{"b":2}}},
            {"functionResponse":{"id":"c2","name":"g","response":{"output":"sunny"}}}]},
        {"role":"user","parts":[{"text":"so?"}]}])
    );
}

#[test]
fn foreign_calls_are_signed_and_vertex_gets_no_ids() {
    let body = json!({"model":"m","messages":[{"role":"user","content":"Hi"},
        {"role":"assistant","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]},
        {"role":"tool","tool_call_id":"c1","content":[{"type":"text","text":"[1]"}]}]});
    let three = translated(Operation::Chat, &body, "gemini-3-pro", true).unwrap();
    assert_eq!(
        three["contents"][1]["parts"][0],
        json!({"functionCall":{"name":"f","args":{}},"thoughtSignature":"skip_thought_signature_validator"})
    );
    assert_eq!(
        three["contents"][2]["parts"][0],
        json!({"functionResponse":{"name":"f","response":{"output":"[1]"}}})
    );
    let two = translated(Operation::Chat, &body, "gemini-2.5-flash", true).unwrap();
    assert_eq!(
        two["contents"][1]["parts"][0],
        json!({"functionCall":{"name":"f","args":{}}})
    );
}

#[test]
fn an_answer_of_any_server_is_taken_back() {
    let image = json!({"type":"image_url","index":0,"image_url":{"url":"data:image/png;base64,AA=="}});
    let mut signed = image.clone();
    signed["extra_content"] = json!({"google":{"thought_signature":"s"}});
    let body = json!({"model":"m","messages":[{"role":"user","content":"Hi"},
        {"role":"assistant","content":"a","reasoning":null,"reasoning_details":[],"thinking_blocks":[],"provider_specific_fields":{},
            "images":[image, signed]}]});
    let parts = |model: &str| translated(Operation::Chat, &body, model, false).unwrap()["contents"][1]["parts"].clone();
    let blob = json!({"mimeType":"image/png","data":"AA=="});
    assert_eq!(
        parts("gemini-3-pro-image"),
        json!([{"text":"a"},{"inlineData":blob,"thoughtSignature":"skip_thought_signature_validator"},
            {"inlineData":blob,"thoughtSignature":"s"}])
    );
    assert_eq!(parts("gemini-2.5-flash-image")[1], json!({"inlineData":blob}));
    let elsewhere = json!([{"role":"user","content":"Hi","images":[image]}]);
    assert_eq!(messages(&elsewhere).unwrap_err().field, "messages[0].images");
}

/// A long name that every answer repeats would make gigabytes of a small request.
#[test]
fn the_answers_of_functions_grow_with_the_request_only() {
    let call = |name: &str| json!({"id":"a","type":"function","function":{"name":name,"arguments":""}});
    let conversation = |name: &str, answers: usize| {
        let mut all = vec![
            json!({"role":"user","content":"Hi"}),
            json!({"role":"assistant","tool_calls":[call(name)]}),
        ];
        all.extend((0..answers).map(|_| json!({"role":"tool","tool_call_id":"a","content":""})));
        json!(all)
    };
    let error = messages(&conversation(&"n".repeat(129), 1)).unwrap_err();
    assert_eq!(error.field, "messages[1].tool_calls[0].function.name");
    let longest = messages(&conversation(&"n".repeat(128), 1_000)).unwrap().to_string();
    assert!(longest.len() < 300 * 1_000, "{} bytes", longest.len());
}

#[test]
fn options_become_the_configuration() {
    for (fields, expected) in [
        (json!({}), json!({"maxOutputTokens":64})),
        (
            json!({"max_tokens":5,"max_completion_tokens":9}),
            json!({"maxOutputTokens":9}),
        ),
        (
            json!({"temperature":0.2,"top_p":0.9,"top_k":4,"n":2,"stop":"x","seed":7}),
            json!({"maxOutputTokens":64,"temperature":0.2,"topP":0.9,"topK":4,"candidateCount":2,"stopSequences":["x"],"seed":7}),
        ),
        (
            json!({"presence_penalty":0.5,"frequency_penalty":-1.0,"logprobs":true,"top_logprobs":3,"stop":["a","b"]}),
            json!({"maxOutputTokens":64,"presencePenalty":0.5,"frequencyPenalty":-1.0,"responseLogprobs":true,"logprobs":3,"stopSequences":["a","b"]}),
        ),
        (
            json!({"response_format":{"type":"json_object"}}),
            json!({"maxOutputTokens":64,"responseMimeType":"application/json"}),
        ),
        (
            json!({"response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"type":"object"}}}}),
            json!({"maxOutputTokens":64,"responseMimeType":"application/json","responseJsonSchema":{"type":"object"}}),
        ),
        (
            json!({"reasoning_effort":"low"}),
            json!({"maxOutputTokens":64,"thinkingConfig":{"thinkingLevel":"LOW"}}),
        ),
    ] {
        assert_eq!(chat(&fields).unwrap()["generationConfig"], expected, "{fields}");
    }
    let body = json!({"model":"m","messages":[{"role":"user","content":"Hi"}],"reasoning_effort":"none"});
    let two = translated(Operation::Chat, &body, "models/gemini-2.5-flash", false).unwrap();
    assert_eq!(two["generationConfig"]["thinkingConfig"], json!({"thinkingBudget":0}));
}

#[test]
fn tools_and_their_choice() {
    let body = chat(&json!({"tools": tool()})).unwrap();
    assert_eq!(
        body["tools"],
        json!([{"functionDeclarations":[{"name":"f","description":"d",
        "parametersJsonSchema":{"type":"object","additionalProperties":false}}]}])
    );
    assert_eq!(body.get("toolConfig"), None);
    for (choice, expected) in [
        (json!("none"), json!({"mode":"NONE"})),
        (json!("auto"), json!({"mode":"AUTO"})),
        (json!("required"), json!({"mode":"ANY"})),
        (
            json!({"type":"function","function":{"name":"f"}}),
            json!({"mode":"ANY","allowedFunctionNames":["f"]}),
        ),
        (
            json!({"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"f"}}]}}),
            json!({"mode":"VALIDATED","allowedFunctionNames":["f"]}),
        ),
    ] {
        let body = chat(&json!({"tools": tool(), "tool_choice": choice})).unwrap();
        assert_eq!(body["toolConfig"]["functionCallingConfig"], expected);
    }
}

/// Every field of OpenAI's chat request that has no place in Gemini's: the values that change nothing, and one that would.
#[test]
fn what_gemini_has_nothing_like_is_refused_by_name() {
    for (field, neutral, telling) in [
        ("audio", json!([null]), json!({"voice":"alloy","format":"wav"})),
        ("function_call", json!([null, "auto"]), json!({"name":"f"})),
        ("functions", json!([null, []]), json!([{"name":"f"}])),
        ("logit_bias", json!([null, {}]), json!({"50256":-100})),
        ("metadata", json!([null, {}]), json!({"a":"b"})),
        ("modalities", json!([null, ["text"]]), json!(["text", "audio"])),
        ("prediction", json!([null]), json!({"type":"content","content":"x"})),
        ("prompt_cache_retention", json!([null, "in_memory"]), json!("24h")),
        ("service_tier", json!([null, "auto", "default"]), json!("priority")),
        ("store", json!([null, false]), json!(true)),
        ("verbosity", json!([null, "medium"]), json!("low")),
        ("web_search_options", json!([null]), json!({})),
        ("foo", json!([]), json!(1)),
    ] {
        for value in neutral.as_array().unwrap() {
            assert_eq!(chat(&json!({field: value})), chat(&json!({})), "{field}: {value}");
        }
        let error = chat(&json!({field: telling})).unwrap_err();
        assert_eq!(
            (error.field.as_str(), error.message.as_str()),
            (field, "is not offered by Gemini: leave it out")
        );
    }
    for neutral in [
        json!({"user":"u","safety_identifier":"s","prompt_cache_key":"k"}),
        json!({"n":1,"presence_penalty":0,"frequency_penalty":0}),
        json!({"logprobs":false,"top_logprobs":0,"parallel_tool_calls":false}),
        json!({"stream":true,"stream_options":{"include_usage":true}}),
        json!({"tools":[],"tool_choice":"auto","stop":null,"seed":null,"response_format":{"type":"text"}}),
    ] {
        assert_eq!(chat(&neutral), chat(&json!({})), "{neutral}");
    }
}

#[test]
fn what_is_wrong_is_named_by_its_path() {
    let user = |part: Value| json!({"messages":[{"role":"user","content":[part]}]});
    let call = |arguments: &str| {
        json!({"messages":[{"role":"user","content":"a"},
        {"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":arguments}}]}]})
    };
    for (fields, field) in [
        (
            user(json!({"type":"image_url","image_url":{"url":"http://e.example/a.png"}})),
            "messages[0].content[0].image_url.url",
        ),
        (
            user(json!({"type":"image_url","image_url":{"url":"https://e.example/a"}})),
            "messages[0].content[0].image_url.url",
        ),
        (
            user(json!({"type":"image_url","image_url":{"url":"data:image/png,AA"}})),
            "messages[0].content[0].image_url.url",
        ),
        (
            user(json!({"type":"image_url","image_url":{"url":"data:audio/wav;base64,AA"}})),
            "messages[0].content[0].image_url.url",
        ),
        (
            user(json!({"type":"image_url","image_url":{"url":"data:image/png;base64,AA","detail":"low"}})),
            "messages[0].content[0].image_url.detail",
        ),
        (
            user(json!({"type":"image_url","image_url":{"url":"data:image/png;base64,AA","x":1}})),
            "messages[0].content[0].image_url.x",
        ),
        (
            user(json!({"type":"file","file":{"file_id":"f"}})),
            "messages[0].content[0].file.file_id",
        ),
        (user(json!({"type":"video"})), "messages[0].content[0].type"),
        (
            user(json!({"type":"image_url","image_url":{"url":"gs://a.png"},"text":"x"})),
            "messages[0].content[0].text",
        ),
        (
            user(json!({"type":"text","text":"x","file":{"file_data":"data:a/b;base64,"}})),
            "messages[0].content[0].file",
        ),
        (call("[1]"), "messages[1].tool_calls[0].function.arguments"),
        (call("{"), "messages[1].tool_calls[0].function.arguments"),
        (
            json!({"messages":[{"role":"tool","tool_call_id":"c","content":"x"}]}),
            "messages[0].tool_call_id",
        ),
        (
            json!({"messages":[{"role":"user","content":"x","name":"bob"}]}),
            "messages[0].name",
        ),
        (json!({"messages":[{"role":"judge","content":"x"}]}), "messages[0].role"),
        (json!({"messages":[{"role":"system","content":"x"}]}), "messages"),
        (
            json!({"tools":tool(),"parallel_tool_calls":false}),
            "parallel_tool_calls",
        ),
        (
            json!({"tools":[{"type":"custom","custom":{"name":"c"}}]}),
            "tools[0].type",
        ),
        (
            json!({"tools":[{"type":"function","function":{"name":"f","x":1}}]}),
            "tools[0].function.x",
        ),
        (json!({"tool_choice":"required"}), "tool_choice"),
        (json!({"stop":[1]}), "stop[0]"),
        (json!({"seed":5_000_000_000_i64}), "seed"),
        (json!({"top_logprobs":2}), "top_logprobs"),
        (json!({"reasoning_effort":"none"}), "reasoning_effort"),
        (json!({"stream_options":{"x":1}}), "stream_options.x"),
        (
            json!({"response_format":{"type":"json_schema"}}),
            "response_format.json_schema",
        ),
    ] {
        assert_eq!(chat(&fields).unwrap_err().field, field, "{fields}");
    }
}

#[test]
fn embeddings_are_asked_for() {
    let body = json!({"model":"m","input":["a","b"],"dimensions":3,"encoding_format":"base64","user":"u"});
    assert_eq!(
        translated(Operation::Embeddings, &body, "gemini-embedding-001", false).unwrap()["requests"][1],
        json!({"model":"models/gemini-embedding-001","content":{"parts":[{"text":"b"}]},"outputDimensionality":3})
    );
    assert_eq!(
        translated(Operation::Embeddings, &body, "e", true).unwrap(),
        json!({"instances":[{"content":"a"},{"content":"b"}],"parameters":{"outputDimensionality":3}})
    );
    assert!(wants_base64(body.to_string().as_bytes()) && !wants_base64(b"{\"input\":\"a\"}"));
    let tokens = translated(Operation::Embeddings, &json!({"model":"m","input":[1,2]}), "e", false);
    assert_eq!(tokens.unwrap_err().field, "input[0]");
}

#[test]
fn each_operation_has_its_method() {
    assert_eq!(
        method(Operation::Chat, true, true),
        Ok(":streamGenerateContent?alt=sse")
    );
    assert_eq!(method(Operation::Chat, false, false), Ok(":generateContent"));
    assert_eq!(method(Operation::Embeddings, false, false), Ok(":batchEmbedContents"));
    assert_eq!(method(Operation::Embeddings, false, true), Ok(":predict"));
    assert!(
        method(Operation::Completions, false, false)
            .unwrap_err()
            .message
            .contains("/v1/chat/completions")
    );
}

proptest! {
    #[test]
    fn no_request_panics(text in ".*", url in "(data:|https://)?[a-z/;,]*(base64,)?.{0,8}", arguments in ".{0,12}") {
        let _ = messages(&json!([{"role":"user","content":[{"type":"text","text":text},{"type":"image_url","image_url":{"url":url}}]}]));
        let _ = messages(&json!([{"role":"user","content":text},{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":arguments}}]}]));
    }
}
