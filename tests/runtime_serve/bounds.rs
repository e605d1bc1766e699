//! What is reserved is what is sent: the output limit in every format, and what a budget refuses by name.

use serde_json::{Value, json};

use super::{
    fake_provider::{Act, Ending, Manner, Provider, Seen},
    formats::{Case, cases},
    hangup::call,
    money::usd,
    process::{Runtime, start, until},
    requests::{CHAT, named},
    upstream::{self, Upstream},
};

/// Output at 1,000 nano-USD a token, and input for nothing: what is reserved is the output limit.
const OUTPUT_ONLY: &str = ", price: {inputPerMillionTokens: \"0\", outputPerMillionTokens: \"1\"}";
const BUDGET: &str = "budget: {limit: \"1.00\", period: Total}\nserving: {defaultMaxTokens: 321}\nbackends:\n";

async fn hanging(case: &Case, further: &str) -> (Provider, Runtime) {
    let provider = Provider::start(Manner::default()).await;
    provider.repeat([Act::silent(Ending::Hang)]);
    let backend = case.backend_with("up", &provider, &format!("{OUTPUT_ONLY}{further}"));
    let runtime = start(&format!("{BUDGET}{backend}")).await;
    (provider, runtime)
}

/// The limits that the provider was sent, whatever their fields are called.
fn limits(seen: &Seen) -> Vec<(&'static str, u64)> {
    let fields = [
        ("max_tokens", &seen.body["max_tokens"]),
        ("max_completion_tokens", &seen.body["max_completion_tokens"]),
        ("maxOutputTokens", &seen.body["generationConfig"]["maxOutputTokens"]),
    ];
    let numbers = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_u64()?)));
    numbers.collect()
}

/// Sends a request, and gives what reached the provider while the money is reserved.
async fn sent(provider: &Provider, runtime: &Runtime, fields: &str, reserved: u64) -> Seen {
    let before = provider.seen().len();
    let client = call(runtime, "", fields).await;
    until("the request", || async { provider.seen().len() > before }).await;
    let budget = runtime.status().await["budget"].clone();
    assert_eq!(
        super::money::in_flight(&budget),
        &json!(usd(reserved * 1_000)),
        "{fields}"
    );
    drop(client);
    until("its end", || async {
        super::money::in_flight(&runtime.status().await["budget"]) == &json!("0.00")
    })
    .await;
    provider.seen().pop().unwrap()
}

/// The field that holds a limit of the client's own, when it wrote it to `given`.
fn field(provider: &str, given: Option<&'static str>) -> &'static str {
    match (provider, given) {
        ("Anthropic" | "LiteLLM" | "OpenAICompatible", _) => "max_tokens",
        ("Gemini", _) => "maxOutputTokens",
        (_, given) => given.unwrap_or("max_completion_tokens"),
    }
}

#[tokio::test]
async fn the_limit_that_is_sent_is_the_one_that_was_reserved() {
    let forms = [
        ("", None, 321),
        (r#","max_tokens":null"#, None, 321),
        (r#","max_tokens":7"#, Some("max_tokens"), 7),
        (r#","max_completion_tokens":7"#, Some("max_completion_tokens"), 7),
        (
            r#","max_tokens":null,"max_completion_tokens":7"#,
            Some("max_completion_tokens"),
            7,
        ),
        (
            r#","max_completion_tokens":7,"stream":true"#,
            Some("max_completion_tokens"),
            7,
        ),
        (
            r#","reasoning_effort":"high","max_tokens":2000"#,
            Some("max_tokens"),
            2_000,
        ),
    ];
    let mut compared = 0;
    for case in cases() {
        let (provider, runtime) = hanging(&case, "").await;
        for (fields, given, limit) in forms {
            let seen = sent(&provider, &runtime, fields, limit).await;
            let expected = vec![(field(case.provider, given), limit)];
            assert_eq!(limits(&seen), expected, "{} {fields}: {}", case.name(), seen.body);
            compared += 1;
        }
        let uncertain = forms.iter().map(|(_, _, limit)| limit * 1_000).sum();
        assert_eq!(
            runtime.status().await["budget"]["uncertain"],
            usd(uncertain),
            "{}",
            case.name()
        );
    }
    println!("FIGURE limits sent that were the ones reserved: {compared} of {compared}");
}

#[tokio::test]
async fn thinking_is_inside_the_limit() {
    for case in cases().iter().filter(|case| case.provider == "Anthropic") {
        let (provider, runtime) = hanging(case, "").await;
        let seen = sent(
            &provider,
            &runtime,
            r#","reasoning_effort":"high","max_tokens":2000"#,
            2_000,
        )
        .await;
        let budget = seen.body["thinking"]["budget_tokens"].as_u64().unwrap();
        assert!(budget < 2_000, "{}", seen.body);
        let given = r#","thinking":{"type":"enabled","budget_tokens":1500},"max_tokens":2000"#;
        let seen = sent(&provider, &runtime, given, 2_000).await;
        assert_eq!(seen.body["thinking"]["budget_tokens"], 1_500);
        let beyond = r#","thinking":{"type":"enabled","budget_tokens":2000},"max_tokens":2000"#;
        let answer = runtime.chat(beyond).await;
        assert_eq!(
            answer.json()["error"]["param"],
            "thinking.budget_tokens",
            "{}",
            answer.text
        );
    }
}

#[tokio::test]
async fn a_server_is_told_the_limit_in_the_field_that_the_spec_names() {
    let case = cases()
        .into_iter()
        .find(|case| case.provider == "OpenAICompatible")
        .unwrap();
    let (provider, runtime) = hanging(&case, ", outputLimitField: MaxCompletionTokens").await;
    for (fields, limit) in [("", 321), (r#","max_tokens":7"#, 7)] {
        let seen = sent(&provider, &runtime, fields, limit).await;
        assert_eq!(limits(&seen), [("max_completion_tokens", limit)], "{}", seen.body);
    }
}

#[tokio::test]
async fn answers_are_reserved_for_as_many_as_are_asked() {
    let case = &cases()[0];
    let (provider, runtime) = hanging(case, "").await;
    let seen = sent(&provider, &runtime, r#","n":3,"max_tokens":7"#, 3 * 7).await;
    assert_eq!(seen.body["n"], 3);
}

#[tokio::test]
async fn embeddings_reserve_their_input_only() {
    let provider = Provider::start(Manner::default()).await;
    let case = &cases()[0];
    let price = ", price: {inputPerMillionTokens: \"1\", outputPerMillionTokens: \"1000\"}";
    let runtime = start(&format!("{BUDGET}{}", case.backend_with("up", &provider, price))).await;
    let body = r#"{"model":"assistant","input":["a b","c"]}"#;
    let answer = runtime.post("/v1/embeddings", body).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    let budget = runtime.status().await["budget"].clone();
    assert_eq!(
        (&budget["settled"], &budget["uncertain"]),
        (&json!(usd(3 * 1_000)), &json!("0.00"))
    );
    assert_eq!(limits(&provider.seen()[0]), []);
}

/// `error.param` of an answer that nobody was asked for.
async fn refused(runtime: &Runtime, path: &str, body: &str) -> Value {
    let answer = runtime.post(path, body).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().1.as_str()),
        (400, "bad_request"),
        "{}",
        answer.text
    );
    answer.json()["error"]["param"].clone()
}

#[tokio::test]
async fn what_has_no_known_cost_is_refused_by_name_and_reaches_nobody() {
    let chat = "/v1/chat/completions";
    let part = |part: &str| format!(r#"{{"model":"assistant","messages":[{{"role":"user","content":[{part}]}}]}}"#);
    let with = |fields: &str| format!(r#"{{"model":"assistant","messages":[],{fields}}}"#);
    let upstream = Upstream::play([upstream::Act::Hang]).await;
    let runtime = start(&format!("{BUDGET}{}", named("up", &upstream, OUTPUT_ONLY))).await;
    for (path, body, field) in [
        (chat, with(r#""web_search_options":{}"#), "web_search_options"),
        (chat, with(r#""previous_response_id":"r""#), "previous_response_id"),
        (chat, with(r#""service_tier":"flex""#), "service_tier"),
        (chat, with(r#""tools":[{"type":"web_search"}]"#), "tools[0].type"),
        (chat, with(r#""max_tokens":0"#), "max_tokens"),
        (
            chat,
            part(r#"{"type":"image_url","image_url":{"url":"https://x/y.png"}}"#),
            "messages[0].content[0]",
        ),
        (
            chat,
            part(r#"{"type":"input_audio","input_audio":{}}"#),
            "messages[0].content[0].input_audio",
        ),
        (
            "/v1/completions",
            r#"{"model":"assistant","prompt":{"id":"stored"}}"#.to_owned(),
            "prompt",
        ),
        (
            "/v1/embeddings",
            r#"{"model":"assistant","input":[{"image":"https://x"}]}"#.to_owned(),
            "input",
        ),
    ] {
        assert_eq!(refused(&runtime, path, &body).await, field, "{body}");
    }
    assert_eq!(upstream.seen().len(), 0);
    let metrics = runtime.metrics().await;
    let line = r#"inference_budget_refusals_total{backend="up",reason="unbounded"} 9"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn a_backend_that_can_bound_it_takes_what_another_cannot() {
    let image = r#"{"model":"assistant","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/y.png"}}]}]}"#;
    let [first, second] = [
        Upstream::play([upstream::Act::Hang]).await,
        Upstream::play([upstream::Act::Answer(200, &[], CHAT.into())]).await,
    ];
    let spec = format!(
        "{BUDGET}{}{}",
        named("first", &first, OUTPUT_ONLY),
        named("second", &second, &format!("{OUTPUT_ONLY}, contextLength: 8192"))
    );
    let runtime = start(&spec).await;
    let answer = runtime.post("/v1/chat/completions", image).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["x-inference-backend"]),
        (200, &"second".parse().unwrap()),
        "{}",
        answer.text
    );
    assert_eq!(first.seen().len(), 0);
}
