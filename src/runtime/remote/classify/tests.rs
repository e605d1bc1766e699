use http::HeaderName;
use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;

const ROWS: &str = include_str!("../../../../tests/data/provider-errors.tsv");

fn provider(name: &str) -> Provider {
    match name {
        "openai" => Provider::OpenAi,
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
        deployment: "default/assistant",
        now_unix_ms: 1_000,
        elapsed_ms: 7,
    }
}

/// Every recorded answer with a failing status: kind, wait, and where the contract table is silent the circuit.
#[test]
fn recorded_answers_get_their_kind() {
    let mut seen = 0;
    for row in ROWS.lines().skip(1) {
        let columns: Vec<&str> = row.split('\t').collect();
        let (name, condition, status) = (columns[0], columns[1], columns[2].parse::<u16>().unwrap_or(0));
        if status < 400 {
            continue;
        }
        seen += 1;
        let provider = provider(name);
        let found = classify(by(&provider), status, &headers(columns[3]), columns[4].as_bytes());
        assert_eq!(found.error.kind(), kind(columns[5]), "{name} {condition}: {found:?}");
        let wait = columns[9].parse().ok().map(Duration::from_millis);
        assert_eq!(found.wait, wait, "{name} {condition}");
        let credential = columns[7] == "credential";
        assert_eq!(
            found.circuit == CircuitRule::CredentialRefused,
            credential,
            "{name} {condition}"
        );
        if columns[7] == "no" {
            assert_ne!(
                found.circuit,
                CircuitRule::EndpointFailure,
                "{name} {condition}: must not count"
            );
        }
    }
    assert!(seen > 35, "{seen} rows");
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
fn token_counts_are_taken_over() {
    let body = br#"{"error":{"message":"This model's maximum context length is 16384 tokens. However, you requested 20000 tokens","code":400}}"#;
    let found = classify(by(&Provider::Local), 400, &HeaderMap::new(), body);
    let expected = InferenceError::ContextLengthExceeded {
        tokens: Some(20_000),
        max_tokens: Some(16_384),
    };
    assert_eq!(found.error, expected);
}

#[test]
fn poison_is_a_matter_of_the_own_engine() {
    let body = br#"{"error":{"message":"CUDA error: an illegal memory access was encountered"}}"#;
    let own = classify(by(&Provider::Local), 500, &HeaderMap::new(), body);
    assert_eq!(own.circuit, CircuitRule::EnginePoisoned);
    let theirs = classify(by(&Provider::OpenAi), 500, &HeaderMap::new(), body);
    assert_eq!(theirs.error.kind(), ErrorKind::ServerError);
}

proptest! {
    #[test]
    fn every_answer_gets_a_kind(status in 300..1000_u16, body in ".{0,300}", header in "[ -~]{0,40}") {
        let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, header.parse().unwrap())]);
        let provider = Provider::OpenAi;
        let _ = classify(by(&provider), status, &headers, body.as_bytes());
        let _ = classify_event(by(&provider), body.as_bytes());
    }
}
