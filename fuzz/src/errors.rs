//! Failing answers: whatever a backend sends gets one kind, a wait within bounds, and a text without keys, and nobody's words open a
//! circuit that their status does not allow.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use inference_operator::{
    error::{CircuitRule, ErrorKind, InferenceError, Provider, RetryRule},
    policy::retry::RetryPolicy,
    runtime::remote::classify::{Classified, Source, classify, classify_event},
};

/// A wait beyond a year is a mistake of the server.
const YEAR: Duration = Duration::from_secs(366 * 86_400);
/// Headers with a code.
const WORDS: [&str; 2] = ["x-amzn-errortype", "x-ms-error-code"];
/// Time that a request has left.
const REMAINING: Duration = Duration::from_secs(600);

/// An answer as it is written: the status, a header a line, a blank line, the body.
struct Answer<'a> {
    status: u16,
    headers: HeaderMap,
    body: &'a [u8],
}

impl<'a> Answer<'a> {
    fn read(data: &'a [u8]) -> Self {
        let mut answer = Self {
            status: 500,
            headers: HeaderMap::new(),
            body: data,
        };
        let mut first = true;
        while let Some(end) = answer.body.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = answer.body.split_at(end);
            answer.body = &rest[1..];
            if first {
                answer.status = std::str::from_utf8(line)
                    .ok()
                    .and_then(|text| text.trim().parse().ok())
                    .unwrap_or(500);
            } else if line.is_empty() {
                break;
            } else {
                answer.header(line);
            }
            first = false;
        }
        answer
    }

    fn header(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            self.headers.append(name, value);
        }
    }
}

/// Classifies the bytes as a failing answer and as an error event of a stream, of each provider that is told apart.
pub fn check(data: &[u8]) {
    let answer = Answer::read(data);
    for provider in [Provider::LiteLlm, Provider::Gemini, Provider::Local] {
        let source = Source {
            provider: &provider,
            secret: None,
            deployment: "default/assistant",
            now_unix_ms: 1_767_225_600_000,
            elapsed_ms: 7,
        };
        let found = classify(source, answer.status, &answer.headers, answer.body);
        holds(&found, &provider);
        within_status(&found, &answer);
        holds(&classify_event(source, answer.body), &provider);
    }
}

/// What holds for every failure.
fn holds(found: &Classified, provider: &Provider) {
    let kind = found.error.kind();
    if let Some(wait) = found.wait {
        assert!(!wait.is_zero() && wait <= YEAR, "{wait:?}");
        let planned = RetryPolicy::default().next(0, Some(wait), REMAINING, 0.5);
        assert!(
            planned.is_none_or(|planned| planned == wait && planned < REMAINING),
            "never beyond the deadline"
        );
    }
    if let InferenceError::RateLimited { retry_after, .. } = &found.error {
        assert_eq!(retry_after.map(Duration::from_millis), found.wait);
    }
    if found.circuit == CircuitRule::EnginePoisoned {
        assert_eq!((kind, provider), (ErrorKind::CudaContextPoisoned, &Provider::Local));
    }
    if matches!(
        kind,
        ErrorKind::BadRequest | ErrorKind::ContentFiltered | ErrorKind::ContextLengthExceeded
    ) {
        assert_eq!(found.circuit, CircuitRule::Ignored, "the caller's fault");
        assert_ne!(found.retry, RetryRule::SameBackend, "the answer would be the same");
    }
    let text = serde_json::to_string(&found.error).expect("it has a wire form");
    let again: InferenceError = serde_json::from_str(&text).expect("it is read again");
    assert_eq!(again, found.error);
    assert!(text.len() < 8 * 1024, "{} bytes", text.len());
    no_key(&found.error.to_string());
}

/// What the status excludes, whatever the body says. Gateways answer 500 and 502 with the provider's own status in the body.
fn within_status(found: &Classified, answer: &Answer<'_>) {
    let kind = found.error.kind();
    // Headers have machine words too.
    let says_nothing = answer.body.is_empty() && WORDS.iter().all(|name| !answer.headers.contains_key(*name));
    match answer.status {
        400 | 404 | 405 | 413 | 415 | 422 => {
            assert_ne!(
                found.circuit,
                CircuitRule::EndpointFailure,
                "a refusal of the request: {found:?}"
            );
        }
        501 | 503..=599 => {
            assert_ne!(
                found.circuit,
                CircuitRule::CredentialRefused,
                "no fault of the key: {found:?}"
            );
            assert!(!matches!(
                kind,
                ErrorKind::Unauthorized | ErrorKind::Forbidden | ErrorKind::BudgetExceeded
            ));
        }
        401 | 402 | 407 if says_nothing => assert_eq!(found.circuit, CircuitRule::CredentialRefused),
        429 if says_nothing => assert_eq!(kind, ErrorKind::RateLimited),
        _ => {}
    }
}

/// Keys with a prefix that is nothing else are cut in whatever is shown.
fn no_key(text: &str) {
    for prefix in ["sk-", "AIza", "gsk_", "xai-"] {
        for (at, _) in text.match_indices(prefix) {
            // Beyond ASCII it is for the code to say what a word is.
            let before = text[..at].bytes().next_back();
            let starts_word = before.is_none_or(|c| c.is_ascii() && !c.is_ascii_alphanumeric() && c != b'_');
            let rest = &text[at + prefix.len()..];
            let key = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
            assert!(!starts_word || key < 6, "{text}");
        }
    }
}
