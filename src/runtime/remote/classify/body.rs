//! The error body, whatever its shape.

use serde_json::Value;

use super::scrub::shown;

/// Machine fields and text of an error body, lower case where they are compared.
#[derive(Debug, Default)]
pub struct ErrorBody {
    /// `error.code` (or `error.innererror.code`) when it is a word.
    pub code: String,
    /// `error.type`.
    pub kind: String,
    /// `error.code` when it is a number.
    number: Option<u16>,
    /// The text as sent.
    pub message: String,
    /// The text in lower case.
    pub text: String,
    counts: (Option<u64>, Option<u64>),
}

impl ErrorBody {
    /// Reads JSON in the shapes that servers use, and anything else as text.
    pub fn read(bytes: &[u8]) -> Self {
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
            return Self::of_text(String::from_utf8_lossy(bytes).into_owned());
        };
        let error = value.get("error").unwrap_or(&value);
        let word = |field: &Value| field.as_str().map(str::to_ascii_lowercase);
        let code = error
            .pointer("/innererror/code")
            .and_then(word)
            .or_else(|| error.get("code").and_then(word));
        let (code, number) = match code {
            Some(code) => code.parse().map_or((code, None), |n| (String::new(), Some(n))),
            None => (
                String::new(),
                error
                    .get("code")
                    .and_then(Value::as_u64)
                    .and_then(|n| u16::try_from(n).ok()),
            ),
        };
        let count = |name| error.get(name).and_then(Value::as_u64);
        Self {
            code,
            number,
            kind: error.get("type").and_then(word).unwrap_or_default(),
            counts: (count("n_prompt_tokens"), count("n_ctx")),
            ..Self::of_text(message_of(error, &value))
        }
    }

    fn of_text(message: String) -> Self {
        Self {
            text: message.to_lowercase(),
            message,
            ..Self::default()
        }
    }

    /// The HTTP status that the body itself names, or that its type stands for.
    pub fn status(&self) -> Option<u16> {
        let by_type = match self.kind.as_str() {
            "invalid_request_error" => Some(400),
            "authentication_error" => Some(401),
            "permission_error" => Some(403),
            "rate_limit_error" | "rate_limit_exceeded" => Some(429),
            _ => None,
        };
        self.number.filter(|n| (400..600).contains(n)).or(by_type)
    }

    /// True when nothing was said.
    pub fn is_empty(&self) -> bool {
        self.message.trim().is_empty()
    }

    /// The text for people: truncated and scrubbed.
    pub fn shown(&self, status: u16) -> String {
        if self.is_empty() {
            format!("the backend answered {status} without a message")
        } else {
            shown(&self.message)
        }
    }

    /// Tokens asked for and tokens allowed, from fields or from "maximum context length is N tokens".
    pub fn token_counts(&self) -> (Option<u64>, Option<u64>) {
        let after = |marker: &str| {
            let (_, rest) = self.text.split_once(marker)?;
            let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        let (tokens, most) = self.counts;
        (
            tokens
                .or_else(|| after("for a total of at least"))
                .or_else(|| after("you requested")),
            most.or_else(|| after("maximum context length is")),
        )
    }
}

fn message_of(error: &Value, whole: &Value) -> String {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    text(error)
        .or_else(|| error.get("message").and_then(text))
        .or_else(|| whole.get("message").and_then(text))
        .or_else(|| {
            whole
                .get("detail")
                .map(|detail| text(detail).unwrap_or_else(|| detail.to_string()))
        })
        .unwrap_or_else(|| whole.to_string())
}
