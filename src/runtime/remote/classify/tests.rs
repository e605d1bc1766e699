use http::HeaderName;
use proptest::prelude::*;

use super::*;
use crate::{
    error::ErrorKind,
    runtime::request::{outcome::Progress, settle::releases},
};

/// Recorded and documented answers, and what is expected of them; the header names the columns. `billed` is ours: whether the
/// provider may charge for the attempt.
const ROWS: [&str; 2] = [
    include_str!("../../../../tests/data/provider-errors.tsv"),
    include_str!("../../../../tests/data/more-provider-errors.tsv"),
];
/// A request's deadline in the column `retryable`.
const DEADLINE: Duration = Duration::from_secs(600);

struct Row<'a> {
    name: String,
    provider: Provider,
    status: Option<u16>,
    headers: HeaderMap,
    body: &'a str,
    kind: &'a str,
    retryable: bool,
    circuit: &'a str,
    wait: Option<Duration>,
    billed: &'a str,
}

fn rows() -> impl Iterator<Item = Row<'static>> {
    ROWS.iter().flat_map(|file| file.lines().skip(1)).map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        assert_eq!(columns.len(), 12, "{line}");
        Row {
            name: format!("{} {}", columns[0], columns[1]),
            provider: provider(columns[0]),
            status: columns[2].parse().ok(),
            headers: headers(columns[3]),
            body: columns[4],
            kind: columns[5],
            retryable: columns[6] == "yes",
            circuit: columns[7],
            wait: columns[9].parse().ok().map(Duration::from_millis),
            billed: columns[11],
        }
    })
}

fn provider(name: &str) -> Provider {
    match name {
        "openai" => Provider::OpenAi,
        "anthropic" => Provider::Anthropic,
        "gemini" => Provider::Gemini,
        "azure_openai" => Provider::AzureOpenAi,
        "litellm_proxy" => Provider::LiteLlm,
        "llama_cpp" | "vllm" => Provider::Local,
        other => Provider::Custom(other.into()),
    }
}

fn headers(column: &str) -> HeaderMap {
    column
        .split(" | ")
        .filter_map(|pair| pair.split_once(": "))
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
        .collect()
}

fn circuit(rule: CircuitRule) -> &'static str {
    match rule {
        CircuitRule::EndpointFailure | CircuitRule::EnginePoisoned => "yes",
        CircuitRule::CredentialRefused => "credential",
        CircuitRule::Ignored => "no",
    }
}

fn retryable(found: &Classified) -> bool {
    found.retry == RetryRule::SameBackend && found.wait.is_none_or(|wait| wait < DEADLINE)
}

fn billed(found: &Classified) -> &'static str {
    let free = releases(found.error.contract().budget, Progress::Answered);
    if free { "no" } else { "maybe" }
}

fn kind(variant: &str) -> ErrorKind {
    let snake: String = variant.chars().enumerate().fold(String::new(), |mut text, (at, c)| {
        if at > 0 && c.is_uppercase() {
            text.push('_');
        }
        text.extend(c.to_lowercase());
        text
    });
    ErrorKind::ALL
        .into_iter()
        .find(|k| k.as_str() == snake)
        .unwrap_or_else(|| panic!("{variant}"))
}

fn by(provider: &Provider) -> Source<'_> {
    Source {
        provider,
        secret: None,
        deployment: "default/assistant",
        now_unix_ms: 1_767_225_600_000, // 2026-01-01T00:00:00Z
        elapsed_ms: 7,
    }
}

/// Every answer with a failing status: kind, retry, circuit, wait and bill. All misses are told at once.
#[test]
fn every_failing_answer_is_judged_as_its_row_says() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for row in rows() {
        let Some(status) = row.status.filter(|status| *status >= 400) else {
            continue;
        };
        seen += 1;
        let found = classify(by(&row.provider), status, &row.headers, row.body.as_bytes());
        let got = (
            found.error.kind(),
            retryable(&found),
            circuit(found.circuit),
            found.wait,
            billed(&found),
        );
        let expected = (kind(row.kind), row.retryable, row.circuit, row.wait, row.billed);
        if got != expected {
            wrong.push(format!("{}: {got:?}, not {expected:?}: {:?}", row.name, found.error));
        }
        if let InferenceError::RateLimited { retry_after, .. } = found.error
            && retry_after.map(Duration::from_millis) != found.wait
        {
            wrong.push(format!("{}: the error says {retry_after:?}", row.name));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {seen} rows:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(seen >= 64 + 60, "{seen} rows");
}

/// Rows of streams that end in an error event: the event is judged; what came before it is the request path's matter.
#[test]
fn every_error_event_is_judged_as_its_row_says() {
    let mut seen = 0;
    for row in rows().filter(|row| row.status == Some(200)) {
        let text = row.body.replace("\\n", "\n");
        let mut events = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let is_error = |event: &&str| event.contains("\"error\":") && !event.contains("\"choices\"");
        let Some(event) = events.rfind(is_error) else {
            continue;
        };
        seen += 1;
        let found = classify_event(by(&row.provider), event.as_bytes());
        let got = (found.error.kind(), circuit(found.circuit));
        assert_eq!(got, (kind(row.kind), row.circuit), "{}: {found:?}", row.name);
    }
    assert!(seen >= 3, "{seen} rows");
}

#[test]
fn an_error_event_is_classified_by_its_own_code() {
    let provider = Provider::LiteLlm;
    for (data, expected) in [
        (
            r#"{"error": {"message": "litellm.APIConnectionError: The server had an error", "code": "500"}}"#,
            ErrorKind::ServerError,
        ),
        (
            r#"{"error":{"type":"invalid_request_error","code":"context_length_exceeded","message":"x"}}"#,
            ErrorKind::ContextLengthExceeded,
        ),
        (
            r#"{"error":{"type":"rate_limit_error","message":"x"}}"#,
            ErrorKind::RateLimited,
        ),
        (
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            ErrorKind::Backpressure,
        ),
        (
            r#"{"type":"error","error":{"type":"api_error","message":"Internal server error"}}"#,
            ErrorKind::ServerError,
        ),
        (
            r#"{"type":"error","error":{"type":"timeout_error","message":"x"}}"#,
            ErrorKind::Timeout,
        ),
        (
            r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#,
            ErrorKind::Backpressure,
        ),
        (r#"{"error":{"status":"RESOURCE_EXHAUSTED"}}"#, ErrorKind::RateLimited),
        (
            r#"{"error":{"status":"INVALID_ARGUMENT","message":"x"}}"#,
            ErrorKind::BadRequest,
        ),
        (
            r#"{"type":"error","code":"rate_limit_exceeded","message":"x","param":null,"sequence_number":1}"#,
            ErrorKind::RateLimited,
        ),
        (
            r#"{"type":"response.failed","response":{"id":"r","status":"failed","error":{"code":"server_error","message":"x"}}}"#,
            ErrorKind::ServerError,
        ),
        (
            r#"{"type":"response.failed","response":{"error":{"code":"image_content_policy_violation","message":"x"}}}"#,
            ErrorKind::ContentFiltered,
        ),
        (
            r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota","message":"x"}}"#,
            ErrorKind::BudgetExceeded,
        ),
        (
            r#"{"error":{"code":429,"message":"Provider returned error"}}"#,
            ErrorKind::RateLimited,
        ),
        (r#"{"error":"overheated"}"#, ErrorKind::ServerError),
    ] {
        assert_eq!(
            classify_event(by(&provider), data.as_bytes()).error.kind(),
            expected,
            "{data}"
        );
    }
}

#[test]
fn what_a_provider_says_of_an_unpaid_bill_is_kept_though_our_error_has_no_place_for_it() {
    let body = br#"{"error":{"code":"insufficient_quota","message":"You exceeded your current quota"}}"#;
    let found = classify(by(&Provider::OpenAi), 429, &HeaderMap::new(), body);
    assert_eq!(found.error.kind(), ErrorKind::BudgetExceeded);
    assert_eq!(found.said(), "You exceeded your current quota");
    let ours = Classified::from(InferenceError::Timeout { elapsed_ms: 7 });
    assert_eq!(ours.said(), "no answer within 7 ms");
}

#[test]
fn token_counts_are_taken_over() {
    let body = br#"{"error":{"message":"This model's maximum context length is 16384 tokens. However, you requested 20000 tokens","code":400}}"#;
    let found = classify(by(&Provider::Local), 400, &HeaderMap::new(), body);
    let expected = InferenceError::ContextLengthExceeded {
        tokens: Some(20_000),
        max_tokens: Some(16_384),
    };
    assert_eq!(found.error, expected);
}

/// Servers repeat the request in their errors, and only the front of a long one is read.
#[test]
fn the_front_of_a_long_error_is_judged_and_what_it_quotes_convicts_nobody() {
    let echo = |message: &str| format!(r#"{{"error":{{"message":"{message}: {}"#, "x".repeat(64 * 1024));
    let told = |provider: &Provider, status, message: &str| {
        classify(by(provider), status, &HeaderMap::new(), echo(message).as_bytes())
    };
    let long = "This model's maximum context length is 16384 tokens. However, you requested 20000 tokens";
    let found = told(&Provider::Local, 400, long);
    assert_eq!(found.error.kind(), ErrorKind::ContextLengthExceeded, "{found:?}");
    for (status, quoted, expected) in [
        (422, "invalid api key", ErrorKind::BadRequest),
        (429, "your credit balance is too low", ErrorKind::RateLimited),
        (500, "CUDA error: an illegal memory access", ErrorKind::ServerError),
    ] {
        let found = told(&Provider::Local, status, quoted);
        assert_eq!(found.error.kind(), expected, "{quoted}: {found:?}");
    }
}

#[test]
fn poison_is_a_matter_of_the_own_engine() {
    let body = br#"{"error":{"message":"CUDA error: an illegal memory access was encountered"}}"#;
    let own = classify(by(&Provider::Local), 500, &HeaderMap::new(), body);
    assert_eq!(own.circuit, CircuitRule::EnginePoisoned);
    let theirs = classify(by(&Provider::OpenAi), 500, &HeaderMap::new(), body);
    assert_eq!(theirs.error.kind(), ErrorKind::ServerError);
}

/// Bodies made to hurt: nested without end, JSON within JSON, nothing but braces, cut in two, no UTF-8.
#[test]
fn hostile_bodies_are_judged_in_bounded_time() {
    let size = 64 * 1024;
    let mut within = "x".to_owned();
    while within.len() < size / 2 {
        within = serde_json::json!({"error": {"message": within, "metadata": {"raw": "{"}}}).to_string();
    }
    let bodies = [
        "[".repeat(size),
        r#"{"error":"#.repeat(size / 9),
        r#"{"message":"{"#.repeat(size / 13),
        format!("[{}]", r#"{"error":{"message":"a b","code":"x"}},"#.repeat(size / 40)),
        "context window input tokens exceed 1 + 2 ".repeat(size / 41),
        "try again in 1h2m".repeat(size / 17),
        "<title>".repeat(size / 7),
        "data: {\n".repeat(size / 8),
        "sk-".repeat(size / 3),
        "\u{130}".repeat(size / 2),
        within,
    ];
    let began = std::time::Instant::now();
    for body in &bodies {
        for status in [400, 429, 500] {
            for provider in [Provider::Local, Provider::LiteLlm] {
                let found = classify(by(&provider), status, &HeaderMap::new(), body.as_bytes());
                assert!(format!("{:?}", found.error).len() < 8192);
            }
        }
        let _ = classify_event(by(&Provider::OpenAi), body.as_bytes());
    }
    // Generous for a debug build on a busy machine; quadratic work on 64 KiB would take minutes.
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

proptest! {
    #[test]
    fn every_bytes_get_a_kind(status in 0..1000_u16, body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = classify(by(&Provider::Local), status, &HeaderMap::new(), &body);
        let _ = classify_event(by(&Provider::Gemini), &body);
    }

    #[test]
    fn every_json_gets_a_kind(
        status in 400..600_u16,
        fields in proptest::collection::vec((
            "(error|message|code|type|status|details|reason|raw|metadata|detail|headers|violations|retryDelay|n_ctx)",
            prop_oneof!["\"[ -!#-\\[\\]-~]{0,20}\"", "-?[0-9]{1,19}", "(\\[\\]|\\{\\}|null|true)"],
        ), 0..12),
    ) {
        // Each field holds the next: every shape in every place.
        let body = fields.iter().rev().fold("1".to_owned(), |inner, (name, value)| {
            format!(r#"{{"{name}":[{value},{inner}],"error":{inner},"{name}":{value}}}"#)
        });
        let body = body.get(..64 * 1024).unwrap_or(&body);
        let _ = classify(by(&Provider::LiteLlm), status, &HeaderMap::new(), body.as_bytes());
    }

    #[test]
    fn every_answer_gets_a_kind(status in 300..1000_u16, body in ".{0,300}", header in "[ -~]{0,40}") {
        let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, header.parse().unwrap())]);
        let provider = Provider::OpenAi;
        let _ = classify(by(&provider), status, &headers, body.as_bytes());
        let _ = classify_event(by(&provider), body.as_bytes());
    }
}
