use RemoteProvider::{Anthropic, AzureOpenAI, Gemini, LiteLLM, OpenAI, OpenAICompatible};

use super::*;
use crate::runtime::request::head::read;

const ALL: [RemoteProvider; 6] = [OpenAI, Anthropic, Gemini, AzureOpenAI, LiteLLM, OpenAICompatible];

const TERMS: Terms = Terms {
    provider: OpenAI,
    context_length: None,
    cache_write: false,
    default_limit: 4_096,
};

const fn at(provider: RemoteProvider) -> Terms {
    Terms { provider, ..TERMS }
}

fn bounded(operation: Operation, body: &str, terms: &Terms) -> Result<Bound, Unbounded> {
    bound(&read(operation, body.as_bytes()).unwrap(), body.as_bytes(), terms)
}

fn chat(fields: &str, terms: &Terms) -> Result<Bound, Unbounded> {
    bounded(Operation::Chat, &format!(r#"{{"model":"m",{fields}}}"#), terms)
}

fn refused_field(fields: &str, terms: &Terms) -> String {
    chat(fields, terms).expect_err(fields).field
}

fn text(body: &str) -> u64 {
    body.len() as u64 + separators(body.as_bytes())
}

#[test]
fn bytes_bound_the_input_and_the_limit_bounds_the_output() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"Hi"}],"max_tokens":10,"n":2}"#;
    let bound = |terms| bounded(Operation::Chat, body, &terms).unwrap();
    let expected = Bound {
        input: text(body) + 1_024,
        output: 10,
        answers: 2,
    };
    assert_eq!(bound(TERMS), expected);
    assert_eq!(
        bound(at(OpenAICompatible)).input,
        text(body) + 2_048,
        "anybody's template"
    );
    let prices = Prices::flat(crate::api::PicoUsd(1_000), crate::api::PicoUsd(2_000));
    assert_eq!(
        expected.worst_case(&prices),
        Ok(NanoUsd((expected.input + 2 * 10) * 2)),
        "the prompt once an answer"
    );
}

#[test]
fn without_a_limit_of_the_client_the_default_is_the_bound() {
    for fields in [r#""messages":[]"#, r#""messages":[],"max_tokens":null"#] {
        assert_eq!(chat(fields, &TERMS).unwrap().output, 4_096, "{fields}");
    }
    let both = chat(r#""max_tokens":3,"max_completion_tokens":7"#, &TERMS).unwrap();
    assert_eq!(both.output, 7, "the larger of both");
}

#[test]
fn every_prompt_has_an_answer_of_its_own() {
    for (prompt, prompts) in [
        (r#""a""#, 1),
        ("null", 1),
        ("[]", 1),
        (r#"["a","b","c"]"#, 3),
        ("[1,2,3]", 1),
        ("[[1],[2]]", 2),
        (r#"["a",[2]]"#, 2),
    ] {
        let body = format!(r#"{{"model":"m","prompt":{prompt},"max_tokens":10,"best_of":4}}"#);
        let bound = bounded(Operation::Completions, &body, &TERMS).unwrap();
        assert_eq!((bound.output, bound.answers), (10 * prompts, 4), "{prompt}");
    }
}

#[test]
fn embeddings_are_input_only() {
    let body = r#"{"model":"m","input":["a","b"],"encoding_format":"base64","dimensions":4}"#;
    let bound = bounded(Operation::Embeddings, body, &TERMS).unwrap();
    assert_eq!(
        bound,
        Bound {
            input: text(body) + 1_024,
            output: 0,
            answers: 1
        }
    );
    for (body, field) in [
        (r#"{"model":"m","input":[{"image":"https://x"}]}"#, "input"),
        (r#"{"model":"m","input":{"text":"x"}}"#, "input"),
        (r#"{"model":"m","input":[["a"]]}"#, "input"),
        (r#"{"model":"m","input":"a","n":2}"#, "n"),
    ] {
        assert_eq!(
            bounded(Operation::Embeddings, body, &TERMS).unwrap_err().field,
            field,
            "{body}"
        );
    }
}

#[test]
fn what_is_written_again_may_grow() {
    let tool = r#"[{"type":"function","function":{"name":"f","parameters":{"a":[1,[2]]}}}]"#;
    let function = r#"[{"name":"f","parameters":{"a":[1,[2,[3]]]}}]"#;
    let without = chat(r#""messages":[]"#, &TERMS).unwrap().input;
    for (field, tool) in [("tools", tool), ("functions", function), ("response_format", tool)] {
        let with = chat(&format!(r#""messages":[],"{field}":{tool}"#), &TERMS)
            .unwrap()
            .input;
        let plain = format!(r#","{field}":{tool}"#);
        assert_eq!(with - without, text(&plain) + growth(tool.as_bytes()), "{field}");
        assert!(growth(tool.as_bytes()) > tool.len() as u64);
    }
}

#[test]
fn what_is_not_text_counts_as_the_context_length() {
    let data = "A".repeat(10_000);
    let body = format!(
        r#"{{"model":"m","messages":[{{"content":"a"}},{{"content":[{{"type":"text","text":"b"}},{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}]}}]}}"#
    );
    let with = |context_length| {
        let terms = Terms {
            context_length,
            ..TERMS
        };
        bounded(Operation::Chat, &body, &terms)
    };
    assert_eq!(with(Some(8_000)).unwrap().input, 8_000, "the data is no text");
    let small = with(Some(16)).unwrap().input;
    assert!(
        (1_024..2_000).contains(&small),
        "the text is proved all the same: {small}"
    );
    let refused = with(None).unwrap_err();
    assert_eq!(refused.field, "messages[1].content[1]");
    assert!(refused.message.contains("contextLength"), "{refused}");
    let file = r#""messages":[{"content":[{"type":"file","file":{"file_id":"file-1"}}]}]"#;
    assert_eq!(
        refused_field(file, &TERMS),
        "messages[0].content[0]",
        "a stored reference"
    );
}

/// LiteLLM shows Gemini the pictures of earlier answers again.
#[test]
fn pictures_of_an_answer_that_comes_back_count_as_any_other() {
    let images = |url: &str| {
        format!(
            r#""messages":[{{"content":"a"}},{{"role":"assistant","content":null,"images":[{{"index":0,"type":"image_url","image_url":{{"url":"{url}"}},"extra_content":{{"google":{{"thought_signature":"s"}}}}}}]}}]"#
        )
    };
    let with = |url: &str, context_length| {
        let terms = Terms {
            context_length,
            ..at(LiteLLM)
        };
        chat(&images(url), &terms)
    };
    let data = format!("data:image/png;base64,{}", "A".repeat(10_000));
    for url in [data.as_str(), "https://x/a.png"] {
        assert_eq!(with(url, Some(8_000)).unwrap().input, 8_000, "{url}");
        assert_eq!(with(url, None).unwrap_err().field, "messages[1].images[0]");
    }
    let sound = with("data:audio/wav;base64,AA==", Some(8_000)).unwrap_err();
    assert_eq!(sound.field, "messages[1].images[0].image_url");
}

/// Gemini, and LiteLLM in front of it, read sound from the parts for files and pictures.
#[test]
fn sound_and_video_are_refused_whatever_part_they_are_in() {
    let part =
        |name: &str, value: &str| format!(r#""messages":[{{"content":[{{"type":"{name}","{name}":{value}}}]}}]"#);
    for (name, value, allowed) in [
        ("file", r#"{"file_data":"data:audio/wav;base64,AA=="}"#, false),
        ("file", r#"{"file_data":"DATA:Audio/WAV;base64,AA=="}"#, false),
        ("file", r#"{"file_data":"d\u0061ta:audio\/wav;base64,AA=="}"#, false),
        ("file", r#"{"file_data":"data:video/mp4;base64,AA=="}"#, false),
        ("file", r#"{"file_id":"gs://b/x","format":"audio/mp3"}"#, false),
        ("file", r#"{"file_id":"gs://b/x.MP3"}"#, false),
        ("file", r#"{"file_data":"AA==","filename":"a.wav"}"#, false),
        ("image_url", r#"{"url":"data:audio/wav;base64,AA=="}"#, false),
        ("image_url", r#"{"url":" data: audio/wav;base64,AA=="}"#, false),
        ("image_url", r#""data:audio/wav;base64,AA==""#, false),
        ("image_url", r#"{"url":"https://x/a.mp4?b=1"}"#, false),
        ("image_url", r#"{"url":"https://x/audio/a.png"}"#, true),
        ("image_url", r#"{"url":"data:image/png;base64,AA.mp3"}"#, true),
        (
            "file",
            r#"{"file_data":"data:application/pdf;base64,AA==","filename":"a.pdf"}"#,
            true,
        ),
    ] {
        for provider in ALL {
            let terms = Terms {
                context_length: Some(1_000),
                ..at(provider)
            };
            let refused = chat(&part(name, value), &terms).err().map(|refused| refused.field);
            let expected = (!allowed).then(|| format!("messages[0].content[0].{name}"));
            assert_eq!(refused, expected, "{provider:?}: {value}");
        }
    }
}

#[test]
fn fields_of_unknown_cost_are_refused_by_name() {
    for (fields, named) in [
        (r#""web_search_options":{}"#, "web_search_options"),
        (r#""previous_response_id":"r""#, "previous_response_id"),
        (r#""prompt":{"id":"stored"}"#, "prompt"),
        (r#""prediction":{"type":"content","content":"x"}"#, "prediction"),
        (r#""audio":{"voice":"a"}"#, "audio"),
        (r#""modalities":["text","audio"]"#, "modalities"),
        (r#""service_tier":"priority""#, "service_tier"),
        (r#""service_tier":"auto""#, "service_tier"),
        (r#""store":true"#, "store"),
        (r#""prompt_cache_retention":"24h""#, "prompt_cache_retention"),
        (r#""N":2"#, "N"),
        (r#""messages":{}"#, "messages"),
        (r#""messages":[[]]"#, "messages[0]"),
        (
            r#""messages":[{"content":{"type":"image_url"}}]"#,
            "messages[0].content",
        ),
        (r#""messages":[{"content":"a","content":[]}]"#, "messages[0].content"),
        (r#""messages":[{"Content":[]}]"#, "messages[0].Content"),
        (r#""messages":[{"tool_calls":{}}]"#, "messages[0].tool_calls"),
        (
            r#""messages":[{"tool_calls":[{"x":[]}]}]"#,
            "messages[0].tool_calls[0].x",
        ),
        (r#""messages":[{"images":["AA=="]}]"#, "messages[0].images[0]"),
        (
            r#""messages":[{"images":[{"video_url":"https://x/a"}]}]"#,
            "messages[0].images[0].video_url",
        ),
        (r#""messages":[{},{"audio":{"id":"x"}}]"#, "messages[1].audio"),
        (
            r#""messages":[{"content":[{"type":"input_audio"}]}]"#,
            "messages[0].content[0]",
        ),
        (r#""messages":[{"content":[{"text":"x"}]}]"#, "messages[0].content[0]"),
        (
            r#""messages":[{"content":[{"type":"text","text":"x","image_url":{}}]}]"#,
            "messages[0].content[0].image_url",
        ),
        (
            r#""messages":[{"content":[{"type":"text","type":"image_url"}]}]"#,
            "messages[0].content[0].type",
        ),
        (r#""tools":{}"#, "tools"),
        (
            r#""tools":[{"type":"function"},{"type":"web_search"}]"#,
            "tools[1].type",
        ),
        (r#""tools":[{"function":{}}]"#, "tools[0].type"),
        (
            r#""tools":[{"type":"function","web_search":{}}]"#,
            "tools[0].web_search",
        ),
        (
            r#""tools":[{"type":"function","function":{"name":"f","googleSearch":{}}}]"#,
            "tools[0].function.googleSearch",
        ),
        (r#""tools":[{"function":[],"type":"function"}]"#, "tools[0].function"),
        (r#""functions":{}"#, "functions"),
        (r#""functions":["f"]"#, "functions[0]"),
        (r#""functions":[{"googleSearch":{}}]"#, "functions[0].googleSearch"),
        (
            r#""functions":[{"name":"f"},{"urlContext":{}}]"#,
            "functions[1].urlContext",
        ),
        (r#""functions":[{"name":"f","type":"web_search"}]"#, "functions[0].type"),
        (
            r#""functions":[{"name":"f","cache_control":{"type":"ephemeral"}}]"#,
            "functions[0].cache_control",
        ),
        (r#""functions":[{"name":null}]"#, "functions[0].name"),
        (r#""functions":[{"description":"x"}]"#, "functions[0].name"),
        (r#""max_tokens":0"#, "max_tokens"),
        (r#""max_tokens":5,"max_completion_tokens":0"#, "max_completion_tokens"),
        (r#""seed":1,"seed":2"#, "seed"),
        (r#""se\u0065d":1"#, "se\\u0065d"),
    ] {
        for provider in ALL {
            let terms = Terms {
                context_length: Some(1_000),
                ..at(provider)
            };
            assert_eq!(refused_field(fields, &terms), named, "{provider:?}: {fields}");
        }
    }
    let completion = r#"{"model":"m","prompt":"x","echo":true}"#;
    assert_eq!(
        bounded(Operation::Completions, completion, &TERMS).unwrap_err().field,
        "echo"
    );
}

#[test]
fn values_of_known_cost_pass_however_they_are_spaced() {
    for fields in [
        r#""service_tier":"default","store":false,"modalities":[ "text" ]"#,
        r#""service_tier":null,"store":null,"modalities":null,"tools":null"#,
        r#""messages":[{"role":"assistant","content":null,"audio":null,"refusal":"no","tool_calls":null,"images":null,"annotations":[]}]"#,
        r#""messages":[{"role":"assistant","reasoning_details":[{"type":"reasoning.text","text":"hm"}],"images":[],"thinking_blocks":[{"type":"thinking","thinking":"hm","signature":"s"}],"provider_specific_fields":{"citations":null},"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{}"},"extra_content":{"google":{"thought_signature":"c"}},"provider_specific_fields":{"thought_signature":"c"},"cache_control":null}]}]"#,
        r#""functions":[{"name":"f","description":"x","parameters":{"type":"object"},"strict":true}],"function_call":"auto""#,
        r#""functions":null"#,
        r#""messages":[{"role":"user","content":[{"type":"text","text":"x"},{"type":"refusal","refusal":"x"}]}]"#,
        r#""tools":[{"type":"function","function":{"name":"f"}}],"parallel_tool_calls":true,"tool_choice":"auto""#,
        r#""reasoning_effort":"high","stream":true,"stream_options":{"include_usage":true}"#,
    ] {
        for provider in ALL {
            assert!(chat(fields, &at(provider)).is_ok(), "{provider:?}: {fields}");
        }
    }
}

#[test]
fn each_provider_has_fields_of_its_own() {
    for (fields, named, allowed) in [
        (
            r#""thinking":{"type":"enabled","budget_tokens":1024}"#,
            "thinking",
            &[Anthropic, LiteLLM][..],
        ),
        (r#""ignore_eos":true"#, "ignore_eos", &[LiteLLM, OpenAICompatible]),
    ] {
        for provider in ALL {
            match chat(fields, &at(provider)) {
                Ok(_) => assert!(allowed.contains(&provider), "{provider:?}: {fields}"),
                Err(refused) => assert_eq!((refused.field.as_str(), allowed.contains(&provider)), (named, false)),
            }
        }
    }
}

#[test]
fn a_cache_is_written_only_where_that_has_a_price() {
    let priced = Terms {
        cache_write: true,
        ..at(Anthropic)
    };
    for (fields, named) in [
        (r#""cache_control":{"type":"ephemeral""#, "cache_control"),
        (
            r#""messages":[{"content":[{"type":"text","text":"x","cache_control":{"type":"ephemeral""#,
            "messages[0].content[0].cache_control",
        ),
        (
            r#""tools":[{"type":"function","cache_control":{"type":"ephemeral""#,
            "tools[0].cache_control",
        ),
        (
            r#""tools":[{"type":"function","function":{"name":"f","cache_control":{"type":"ephemeral""#,
            "tools[0].function.cache_control",
        ),
        (
            r#""messages":[{"tool_calls":[{"id":"c","cache_control":{"type":"ephemeral""#,
            "messages[0].tool_calls[0].cache_control",
        ),
        (
            r#""messages":[{"cache_control":{"type":"ephemeral""#,
            "messages[0].cache_control",
        ),
    ] {
        let closed = |open: &str| {
            let brackets: Vec<char> = open.chars().filter(|c| "{}[]".contains(*c)).collect();
            let mut closing = Vec::new();
            for c in brackets {
                match c {
                    '{' => closing.push('}'),
                    '[' => closing.push(']'),
                    _ => drop(closing.pop()),
                }
            }
            open.to_owned() + &closing.into_iter().rev().collect::<String>()
        };
        let plain = closed(fields);
        assert_eq!(refused_field(&plain, &at(Anthropic)), named, "no price");
        assert!(chat(&plain, &priced).is_ok(), "{plain}");
        assert!(chat(&closed(&format!(r#"{fields},"ttl":"5m""#)), &priced).is_ok());
        let longer = closed(&format!(r#"{fields},"ttl":"1h""#));
        assert_eq!(refused_field(&longer, &priced), format!("{named}.ttl"));
    }
}

#[test]
fn more_than_can_be_counted_is_refused() {
    let refused = |fields: &str| {
        let prices = Prices::flat(crate::api::PicoUsd(1_000_000), crate::api::PicoUsd(1_000_000));
        let bound = chat(fields, &TERMS).and_then(|bound| bound.worst_case(&prices));
        bound.expect_err(fields).field
    };
    assert_eq!(refused(r#""max_tokens":18446744073709551615"#), "max_tokens");
    assert_eq!(refused(r#""n":18446744073709551615"#), "max_tokens");
}
