use proptest::prelude::*;
use serde_json::json;

use super::*;

fn provider() -> impl Strategy<Value = Provider> {
    prop_oneof![
        Just(Provider::OpenAi),
        Just(Provider::Anthropic),
        Just(Provider::Gemini),
        Just(Provider::LiteLlm),
        Just(Provider::AzureOpenAi),
        Just(Provider::Local),
        ".{0,40}".prop_map(Provider::Custom),
    ]
}

fn with_message() -> impl Strategy<Value = InferenceError> {
    (".{0,80}", 0..7_u8).prop_map(|(message, which)| match which {
        0 => InferenceError::BadRequest { message },
        1 => InferenceError::Unauthorized { message },
        2 => InferenceError::Forbidden { message },
        3 => InferenceError::Backpressure { message },
        4 => InferenceError::NetworkError { message },
        5 => InferenceError::CudaContextPoisoned { message },
        _ => InferenceError::Internal { message },
    })
}

fn any_error() -> impl Strategy<Value = InferenceError> {
    let numbers = || proptest::option::of(any::<u64>());
    prop_oneof![
        (provider(), numbers())
            .prop_map(|(provider, retry_after)| InferenceError::RateLimited { provider, retry_after }),
        (provider(), any::<i64>(), any::<i64>()).prop_map(|(provider, opened_at_unix_ms, retry_at_unix_ms)| {
            InferenceError::CircuitOpen {
                provider,
                opened_at_unix_ms,
                retry_at_unix_ms,
            }
        }),
        ".{0,80}".prop_map(|reason| InferenceError::ContentFiltered { reason }),
        (numbers(), numbers())
            .prop_map(|(tokens, max_tokens)| InferenceError::ContextLengthExceeded { tokens, max_tokens }),
        (".{0,80}", proptest::option::of(any::<i64>())).prop_map(|(deployment, window_end_unix_ms)| {
            InferenceError::BudgetExceeded {
                deployment,
                window_end_unix_ms,
            }
        }),
        (any::<u16>(), proptest::option::of(".{0,80}"))
            .prop_map(|(status, body)| InferenceError::ServerError { status, body }),
        any::<u64>().prop_map(|elapsed_ms| InferenceError::Timeout { elapsed_ms }),
        with_message(),
    ]
}

proptest! {
    #[test]
    fn every_error_round_trips(error in any_error()) {
        let text = serde_json::to_string(&error).unwrap();
        prop_assert_eq!(serde_json::from_str::<InferenceError>(&text).unwrap(), error);
    }

    #[test]
    fn a_failure_reads_as_its_bare_error(error in any_error(), status in proptest::option::of(100..600_u16)) {
        let failure = Failure { upstream_status: status, backend: Some("own".into()), ..error.clone().into() };
        let text = serde_json::to_string(&failure).unwrap();
        prop_assert_eq!(serde_json::from_str::<InferenceError>(&text).unwrap(), error, "old readers skip what they do not know");
        prop_assert_eq!(serde_json::from_str::<Failure>(&text).unwrap(), failure);
    }

    #[test]
    fn reading_never_panics(text in ".{0,200}") {
        let _ = serde_json::from_str::<Failure>(&text);
    }
}

#[test]
fn the_example_of_the_design_is_read_and_written_just_so() {
    let text = r#"{"kind":"rate_limited","provider":"open_ai","retry_after":1500}"#;
    let error: InferenceError = serde_json::from_str(text).unwrap();
    assert_eq!(
        error,
        InferenceError::RateLimited {
            provider: Provider::OpenAi,
            retry_after: Some(1500)
        }
    );
    assert_eq!(serde_json::to_string(&error).unwrap(), text);
    assert_eq!(
        serde_json::to_string(&Failure::from(error)).unwrap(),
        text,
        "without additions a failure is the bare error"
    );
}

/// What readers knew before the window's end was added.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Old {
    BudgetExceeded { deployment: String },
}

#[test]
fn the_end_of_a_budgets_window_is_an_addition_that_old_readers_skip() {
    let error = |window_end_unix_ms| InferenceError::BudgetExceeded {
        deployment: "prod/assistant".into(),
        window_end_unix_ms,
    };
    let bare = r#"{"kind":"budget_exceeded","deployment":"prod/assistant"}"#;
    assert_eq!(serde_json::to_string(&error(None)).unwrap(), bare);
    assert_eq!(serde_json::from_str::<InferenceError>(bare).unwrap(), error(None));
    let text = serde_json::to_string(&error(Some(1_796_083_200_000))).unwrap();
    let old: Old = serde_json::from_str(&text).unwrap();
    assert_eq!(
        old,
        Old::BudgetExceeded {
            deployment: "prod/assistant".into()
        }
    );
    assert_eq!(
        error(Some(1_796_083_200_000)).to_string(),
        "the budget of prod/assistant has no money left for this request until 2026-12-01T00:00:00Z"
    );
    assert!(!error(Some(i64::MAX)).to_string().contains("until"), "no such time");
}

#[test]
fn unknown_counts_are_null() {
    let error = InferenceError::ContextLengthExceeded {
        tokens: None,
        max_tokens: Some(8192),
    };
    assert_eq!(
        serde_json::to_value(error).unwrap(),
        json!({"kind": "context_length_exceeded", "tokens": null, "max_tokens": 8192})
    );
}

#[test]
fn providers_are_read_in_the_spellings_of_the_crd() {
    for (text, provider) in [
        (json!("open_ai"), Provider::OpenAi),
        (json!("OpenAI"), Provider::OpenAi),
        (json!("AzureOpenAI"), Provider::AzureOpenAi),
        (json!("azure_open_ai"), Provider::AzureOpenAi),
        (json!("LiteLLM"), Provider::LiteLlm),
        (json!("OpenAICompatible"), Provider::Custom("OpenAICompatible".into())),
        (json!({"custom": "mine"}), Provider::Custom("mine".into())),
    ] {
        assert_eq!(serde_json::from_value::<Provider>(text).unwrap(), provider);
    }
}

#[test]
fn the_kind_is_spelled_as_the_wire_tag() {
    let tags = [
        "rate_limited",
        "circuit_open",
        "content_filtered",
        "context_length_exceeded",
        "bad_request",
        "unauthorized",
        "forbidden",
    ];
    for (kind, tag) in ErrorKind::ALL.iter().zip(tags) {
        assert_eq!(kind.as_str(), tag);
    }
    proptest!(|(error in any_error())| {
        let value = serde_json::to_value(&error).unwrap();
        prop_assert_eq!(value["kind"].as_str(), Some(error.kind().as_str()));
    });
}

/// Status, Retry-After, retryable and counts-for-circuit of every row of design section 5.
#[test]
fn the_table_is_the_designs() {
    use ErrorKind as K;
    let rows = [
        (K::RateLimited, 429, true),
        (K::CircuitOpen, 503, true),
        (K::ContentFiltered, 400, false),
        (K::ContextLengthExceeded, 400, false),
        (K::BadRequest, 400, false),
        (K::Unauthorized, 502, false),
        (K::Forbidden, 502, false),
        (K::Backpressure, 503, true),
        (K::BudgetExceeded, 429, false),
        (K::NetworkError, 502, false),
        (K::ServerError, 502, false),
        (K::Timeout, 504, false),
        (K::CudaContextPoisoned, 503, false),
        (K::Internal, 500, false),
    ];
    assert_eq!(rows.map(|(kind, ..)| kind), K::ALL);
    for (kind, status, retry_after) in rows {
        assert_eq!(
            (kind.contract().http_status, kind.contract().retry_after),
            (status, retry_after),
            "{}",
            kind.as_str()
        );
    }
}

#[test]
fn the_callers_faults_never_change_a_condition_or_a_circuit() {
    for kind in [
        ErrorKind::BadRequest,
        ErrorKind::ContextLengthExceeded,
        ErrorKind::ContentFiltered,
    ] {
        assert_eq!(
            (kind.contract().condition, kind.contract().circuit),
            (None, CircuitRule::Ignored)
        );
    }
}

#[test]
fn circuit_failures_are_the_three_of_the_design() {
    proptest!(|(error in any_error())| {
        prop_assert_eq!(error.counts_as_circuit_failure(), error.contract().circuit == CircuitRule::EndpointFailure);
    });
}
