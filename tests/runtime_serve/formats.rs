//! The same requests to every provider's format, each played by a provider that takes nothing else.

use serde_json::{Value, json};

use super::{
    fake_provider::{Manner, Provider, words},
    process::{Answer, Runtime, start},
};

/// A provider, and what is its own.
pub struct Case {
    pub provider: &'static str,
    /// What follows the host in `endpoint`.
    path: &'static str,
    model: &'static str,
    /// The header of its key, and what comes before the key.
    key: (&'static str, &'static str),
    /// Whether it reports input written to a cache.
    cache_write: bool,
}

const AUTH_HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];
const BEARER: (&str, &str) = ("authorization", "Bearer ");

const fn case(
    provider: &'static str,
    path: &'static str,
    model: &'static str,
    key: (&'static str, &'static str),
) -> Case {
    Case {
        provider,
        path,
        model,
        key,
        cache_write: false,
    }
}

pub fn cases() -> Vec<Case> {
    vec![
        case("OpenAI", "/v1", "gpt-4o-mini", BEARER),
        case("OpenAICompatible", "/v1", "some/model", BEARER),
        Case {
            cache_write: true,
            ..case("LiteLLM", "/prefix/v1", "group", BEARER)
        },
        case("AzureOpenAI", "", "my-deployment", ("api-key", "")),
        case("AzureOpenAI", "/openai/v1", "my-deployment", ("api-key", "")),
        Case {
            cache_write: true,
            ..case("Anthropic", "", "claude-sonnet-4-5", ("x-api-key", ""))
        },
        case("Gemini", "", "gemini-2.5-flash", ("x-goog-api-key", "")),
        case(
            "Gemini",
            "/v1/projects/p/locations/l/publishers/google",
            "gemini-2.5-flash",
            ("x-goog-api-key", ""),
        ),
    ]
}

const TOKENS: u64 = 5;
const CACHED: u64 = 7;
const WRITTEN: u64 = 11;
const REASONING: u64 = 4;

impl Case {
    fn backend(&self, name: &str, provider: &Provider) -> String {
        self.backend_with(name, provider, "")
    }

    pub fn backend_with(&self, name: &str, provider: &Provider, further: &str) -> String {
        format!(
            "- name: {name}\n  remote: {{provider: {}, endpoint: \"http://{}{}\", model: {}, \
             credentials: {{secret: {{name: openai, key: api-key}}}}, retry: {{maxRetries: 0}}{further}}}\n",
            self.provider, provider.address, self.path, self.model
        )
    }

    async fn start(&self) -> (Provider, Runtime) {
        let provider = Provider::start(self.manner()).await;
        let runtime = start(&format!("backends:\n{}", self.backend("up", &provider))).await;
        (provider, runtime)
    }

    fn manner(&self) -> Manner {
        Manner {
            format: Some(self.provider.parse().unwrap()),
            key: Some("sk-right".into()),
            tokens: TOKENS,
            cached: CACHED,
            cache_write: WRITTEN,
            reasoning: REASONING,
            ..Manner::default()
        }
    }

    /// Input tokens of a prompt of so many words.
    fn input(&self, words: u64) -> u64 {
        words + CACHED + if self.cache_write { WRITTEN } else { 0 }
    }

    pub fn name(&self) -> String {
        format!("{}{}", self.provider, self.path)
    }
}

async fn chat(runtime: &Runtime, further: &Value) -> Answer {
    let mut body = json!({"model": "assistant", "messages": [
        {"role": "system", "content": "Be brief"}, {"role": "user", "content": "Say hello now"},
    ]});
    for (name, value) in further.as_object().unwrap() {
        body[name] = value.clone();
    }
    runtime.post("/v1/chat/completions", &body.to_string()).await
}

/// Words of [`chat`]'s messages.
const WORDS: u64 = 5;

/// The events of a good stream, without its end.
fn events(what: &str, answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status.as_u16(), 200, "{what}: {}", answer.text);
    let text = answer.text.strip_suffix("data: [DONE]\n\n");
    let text = text.unwrap_or_else(|| panic!("{what}: no [DONE]: {}", answer.text));
    let data = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// The deltas of a stream put together: the text, and a call's name and arguments.
fn together(events: &[Value]) -> (String, String, String) {
    let parts = |path: &str| {
        let found = events.iter().filter_map(|event| event.pointer(path)?.as_str());
        found.collect::<String>()
    };
    let call = "/choices/0/delta/tool_calls/0/function";
    (
        parts("/choices/0/delta/content"),
        parts(&format!("{call}/name")),
        parts(&format!("{call}/arguments")),
    )
}

fn usage_is_exact(case: &Case, usage: &Value, words: u64) {
    let (input, output) = (case.input(words), TOKENS + REASONING);
    let counts = ["prompt_tokens", "completion_tokens", "total_tokens"].map(|name| usage[name].as_u64());
    assert_eq!(
        counts,
        [Some(input), Some(output), Some(input + output)],
        "{}",
        case.name()
    );
    assert_eq!(
        usage["prompt_tokens_details"]["cached_tokens"],
        CACHED,
        "{}",
        case.name()
    );
}

#[tokio::test]
async fn the_same_prompt_gives_the_same_answer_in_openais_shape() {
    for case in cases() {
        let (provider, runtime) = case.start().await;
        let answer = chat(&runtime, &json!({})).await;
        let body = answer.json();
        assert_eq!(
            body["choices"][0]["message"]["content"],
            words(TOKENS),
            "{}: {}",
            case.name(),
            answer.text
        );
        assert_eq!(
            (&body["object"], &body["choices"][0]["finish_reason"]),
            (&json!("chat.completion"), &json!("stop"))
        );
        usage_is_exact(&case, &body["usage"], WORDS);
        assert_eq!(answer.headers["x-inference-backend"], "up");
        assert!(!answer.headers["x-request-id"].is_empty());
        let seen = provider.seen().remove(0);
        for name in AUTH_HEADERS {
            let expected = if name == case.key.0 {
                format!("{}sk-right", case.key.1)
            } else {
                String::new()
            };
            assert_eq!(seen.header(name), expected, "{} {name}", case.name());
        }
        let metrics = runtime.metrics().await;
        let written = if case.cache_write { WRITTEN } else { 0 };
        for (kind, count) in [
            ("input", case.input(WORDS)),
            ("cached_input", CACHED),
            ("cache_write_input", written),
            ("output", TOKENS + REASONING),
        ] {
            // A kind that was never counted has no line.
            let line = format!(r#"inference_tokens_total{{backend="up",kind="{kind}"}} "#);
            let counted = metrics.lines().find_map(|l| l.strip_prefix(&line)).unwrap_or("0");
            assert_eq!(counted, count.to_string(), "{}: {line} in\n{metrics}", case.name());
        }
        println!("{}: one answer, usage {}", case.name(), body["usage"]);
    }
}

#[tokio::test]
async fn a_stream_says_the_same_and_tells_usage_when_asked() {
    for case in cases() {
        let (_provider, runtime) = case.start().await;
        let answer = chat(&runtime, &json!({"stream": true})).await;
        let plain = events(&case.name(), &answer);
        assert_eq!(together(&plain).0, words(TOKENS), "{}", case.name());
        let told = plain.iter().filter(|event| event["usage"].is_object()).count();
        assert_eq!(told, 0, "{}: nobody asked for usage", case.name());
        assert!(
            plain.iter().all(|event| event["object"] == "chat.completion.chunk"),
            "{}",
            case.name()
        );
        let asked = chat(
            &runtime,
            &json!({"stream": true, "stream_options": {"include_usage": true}}),
        )
        .await;
        let asked = events(&case.name(), &asked);
        assert_eq!(together(&asked).0, words(TOKENS), "{}", case.name());
        let last = asked.last().unwrap();
        assert_eq!(last["choices"], json!([]), "{}", case.name());
        usage_is_exact(&case, &last["usage"], WORDS);
        assert_eq!(
            asked.iter().filter(|event| event["usage"].is_object()).count(),
            1,
            "{}",
            case.name()
        );
        let finish: Vec<&Value> = asked
            .iter()
            .filter_map(|e| e.pointer("/choices/0/finish_reason"))
            .filter(|f| !f.is_null())
            .collect();
        assert_eq!(finish, [&json!("stop")], "{}", case.name());
    }
}

fn tool() -> Value {
    json!({"type": "function", "function": {"name": "weather", "description": "d", "parameters":
        {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city", "days"]}}})
}

#[tokio::test]
async fn tools_are_called_and_their_results_are_taken() {
    let arguments = json!({"city": "w1", "days": 1});
    for case in cases() {
        let (_provider, runtime) = case.start().await;
        let forced = json!({"tools": [tool()], "tool_choice": "required"});
        let answer = chat(&runtime, &forced).await;
        let body = answer.json();
        let message = body["choices"][0]["message"].clone();
        let call = &message["tool_calls"][0];
        assert_eq!(
            (&call["type"], &call["function"]["name"]),
            (&json!("function"), &json!("weather")),
            "{}: {}",
            case.name(),
            answer.text
        );
        let given: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
        assert_eq!(
            (&given, &body["choices"][0]["finish_reason"]),
            (&arguments, &json!("tool_calls")),
            "{}",
            case.name()
        );

        let streamed = json!({"tools": [tool()], "stream": true, "tool_choice": {"type": "function", "function": {"name": "weather"}}});
        let (_, name, text) = together(&events(&case.name(), &chat(&runtime, &streamed).await));
        assert_eq!(
            (name.as_str(), serde_json::from_str::<Value>(&text).unwrap()),
            ("weather", arguments.clone()),
            "{}",
            case.name()
        );

        let result = json!({"role": "tool", "tool_call_id": call["id"], "content": "rain all day"});
        let messages = json!([{"role": "user", "content": "Weather?"}, message, result]);
        let answer = chat(&runtime, &json!({"tools": [tool()], "messages": messages})).await;
        assert_eq!(
            answer.json()["choices"][0]["message"]["content"],
            words(TOKENS),
            "{}: {}",
            case.name(),
            answer.text
        );
    }
}

#[tokio::test]
async fn schema_stop_and_image_are_understood() {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "weather", "strict": true, "schema": schema}});
    let pixel = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    let image = json!([{"role": "user", "content": [{"type": "text", "text": "What is this"}, {"type": "image_url", "image_url": {"url": pixel}}]}]);
    for case in cases() {
        let (_provider, runtime) = case.start().await;
        let answer = chat(&runtime, &json!({"response_format": format})).await;
        let content = answer.json()["choices"][0]["message"]["content"]
            .as_str()
            .unwrap_or_else(|| panic!("{}: {}", case.name(), answer.text))
            .to_owned();
        assert_eq!(
            serde_json::from_str::<Value>(&content).unwrap(),
            json!({"city": "w1", "days": 1}),
            "{}",
            case.name()
        );

        let answer = chat(&runtime, &json!({"stop": ["w3"]})).await.json();
        let choice = &answer["choices"][0];
        assert_eq!(
            (&choice["message"]["content"], &choice["finish_reason"]),
            (&json!(words(2)), &json!("stop")),
            "{}",
            case.name()
        );

        let answer = chat(&runtime, &json!({"max_tokens": 2})).await.json();
        assert_eq!(answer["choices"][0]["finish_reason"], "length", "{}", case.name());

        let answer = chat(&runtime, &json!({"messages": image})).await;
        usage_is_exact(&case, &answer.json()["usage"], 3 + super::fake_provider::IMAGE);
    }
}

#[tokio::test]
async fn embeddings_come_from_those_who_have_them() {
    for case in cases() {
        let (provider, runtime) = case.start().await;
        let answer = runtime
            .post("/v1/embeddings", r#"{"model":"assistant","input":["a b","c"]}"#)
            .await;
        if case.provider == "Anthropic" {
            assert_eq!(
                (answer.status.as_u16(), answer.error().1.as_str()),
                (400, "bad_request"),
                "{}",
                answer.text
            );
            assert_eq!(provider.seen().len(), 0);
            continue;
        }
        let body = answer.json();
        assert_eq!(
            (&body["object"], &body["data"][1]["index"]),
            (&json!("list"), &json!(1)),
            "{}: {}",
            case.name(),
            answer.text
        );
        let vectors: Vec<usize> = body["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|d| d["embedding"].as_array().unwrap().len())
            .collect();
        assert_eq!(vectors, [4, 4], "{}", case.name());
    }
}

#[tokio::test]
async fn what_a_provider_cannot_say_is_refused_by_name_or_goes_to_the_next() {
    let field = json!({"logit_bias": {"50256": -100}});
    for case in cases()
        .into_iter()
        .filter(|case| ["Anthropic", "Gemini"].contains(&case.provider))
    {
        let (provider, runtime) = case.start().await;
        let answer = chat(&runtime, &field).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().1.as_str()),
            (400, "bad_request"),
            "{}: {}",
            case.name(),
            answer.text
        );
        assert!(answer.text.contains("logit_bias"), "{}: {}", case.name(), answer.text);
        assert_eq!(provider.seen().len(), 0, "{}", case.name());

        let openai = &cases()[0];
        let second = Provider::start(openai.manner()).await;
        let spec = format!(
            "backends:\n{}{}",
            case.backend("first", &provider),
            openai.backend("second", &second)
        );
        let runtime = start(&spec).await;
        let answer = chat(&runtime, &field).await;
        assert_eq!(
            (
                answer.status.as_u16(),
                answer.headers["x-inference-backend"].to_str().unwrap()
            ),
            (200, "second")
        );
        assert_eq!(second.seen()[0].body["logit_bias"], field["logit_bias"]);
    }
}

#[tokio::test]
async fn a_wrong_key_is_unauthorized_in_every_format() {
    for case in cases() {
        let manner = Manner {
            key: Some("sk-other".into()),
            ..case.manner()
        };
        let provider = Provider::start(manner).await;
        let runtime = start(&format!("backends:\n{}", case.backend("up", &provider))).await;
        let answer = chat(&runtime, &json!({})).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().1.as_str()),
            (502, "unauthorized"),
            "{}",
            case.name()
        );
        assert!(!answer.text.contains("sk-right"), "{}", answer.text);
        assert_eq!(
            provider.seen().len(),
            2,
            "{}: once more with a rebuilt session",
            case.name()
        );
    }
}
