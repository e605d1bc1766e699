//! The error body, whatever its shape: machine words, texts and numbers, gathered from every layer that gateways wrap around an error.

use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use serde_json::Value;

use super::{
    scrub::shown_without,
    shape::{
        TEXT, any_filtered, as_word, delay, embedded, event, front, is_hollow, normal, page, plain, without_input,
    },
    tokens::{self, Counts},
};

/// Layers that are looked into: gateways put the provider's answer into a field, some of them as a string.
const LAYERS: usize = 10;
/// Entries of a list that are looked at.
const ENTRIES: usize = 8;
/// Machine words that are kept.
const WORDS: usize = 32;

/// What an error body says.
#[derive(Debug, Default)]
pub struct ErrorBody {
    /// Machine words (`error.code`, `innererror.code`, `details[].reason`, `status`, `type`, …), innermost first, as lower case
    /// letters and digits: `context_length_exceeded` and `ContextLengthExceeded` are one word.
    pub words: Vec<String>,
    /// Quota ids (`GenerateRequestsPerDayPerProject…`), spelled as words are.
    pub quotas: Vec<String>,
    /// What the server says, in lower case, white space made single; without the places in the request that FastAPI names.
    pub text: String,
    /// The wait that a field of the body asks for (`RetryInfo.retryDelay`, `retry_after`, …), as it was written.
    pub delay: Option<String>,
    /// The upstream's headers, which OpenRouter passes on in the body.
    pub headers: HeaderMap,
    /// JSON that is cut off: what the server quotes of the request cannot be told from what it says.
    pub cut: bool,
    /// Something was judged by the provider's content filter, and a field says so.
    pub filtered: bool,
    message: String,
    said: String,
    number: Option<u16>,
    counts: Counts,
}

impl ErrorBody {
    /// Reads JSON in the shapes that servers use, server-sent events, HTML pages, and anything else as text. Total and linear.
    pub fn read(bytes: &[u8]) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut body = Self::default();
        match serde_json::from_slice::<Value>(bytes) {
            Ok(value) => {
                body.layer(&value, 0);
                if body.message.is_empty() && !is_hollow(&value) {
                    body.say(&value.to_string());
                }
            }
            Err(_) => body.unstructured(&String::from_utf8_lossy(bytes)),
        }
        body.text = normal(&body.said);
        body
    }

    /// The machine words that AWS and Azure put into headers.
    pub fn with_headers(mut self, headers: &HeaderMap) -> Self {
        for name in ["x-amzn-errortype", "x-ms-error-code"] {
            if let Some(text) = headers.get(name).and_then(|value| value.to_str().ok()) {
                self.word(text);
            }
        }
        self
    }

    fn unstructured(&mut self, text: &str) {
        let trimmed = text.trim_start();
        if trimmed.starts_with('<') {
            self.say(&page(trimmed));
        } else if let Some(value) = event(trimmed) {
            self.layer(&value, 0);
        } else {
            self.cut = trimmed.starts_with(['{', '[']);
            self.string(text, 0);
        }
    }

    /// One layer, the inner ones first: what is innermost is most specific.
    fn layer(&mut self, value: &Value, depth: usize) {
        if depth > LAYERS {
            return;
        }
        match value {
            Value::String(text) => self.string(text, depth),
            Value::Array(entries) => entries
                .iter()
                .take(ENTRIES)
                .for_each(|entry| self.layer(entry, depth + 1)),
            Value::Object(_) => self.object(value, depth),
            _ => {}
        }
    }

    fn object(&mut self, value: &Value, depth: usize) {
        // The Responses API repeats the request beside its error, the caller's metadata with it.
        if value.get("object").and_then(Value::as_str) == Some("response") {
            return self.layer(value.get("error").unwrap_or(&Value::Null), depth + 1);
        }
        for field in ["message", "error_message", "msg"] {
            match value.get(field) {
                Some(Value::String(text)) => self.string(text, depth + 1),
                Some(inner @ Value::Object(_)) => self.layer(inner, depth + 1),
                _ => {}
            }
        }
        for field in [
            "error",
            "response",
            "innererror",
            "inner_error",
            "metadata",
            "raw",
            "details",
            "errors",
        ] {
            if let Some(inner) = value.get(field) {
                self.layer(inner, depth + 1);
            }
        }
        if let Some(detail) = value.get("detail") {
            self.detail(detail, depth);
        }
        self.fields(value);
        self.google(value);
    }

    /// FastAPI's `detail`: a text, an object, or one entry a field, whose `input` (the caller's words) is never read. Its place
    /// holds names that the caller gave: it is for people only.
    fn detail(&mut self, detail: &Value, depth: usize) {
        let Value::Array(entries) = detail else {
            return self.layer(detail, depth + 1);
        };
        for entry in entries.iter().take(ENTRIES) {
            let place: Vec<_> = entry
                .get("loc")
                .and_then(Value::as_array)
                .map(|loc| loc.iter().take(ENTRIES).map(plain).collect())
                .unwrap_or_default();
            match entry.get("msg").and_then(Value::as_str) {
                Some(text) => self.say_of(&place.join("."), text),
                None => self.layer(entry, depth + 1),
            }
        }
    }

    fn fields(&mut self, value: &Value) {
        for field in ["code", "error_code", "reason", "error_type", "__type", "type", "status"] {
            match value.get(field) {
                Some(Value::String(text)) => self.word(text),
                Some(Value::Number(number)) => self.status_number(number.as_u64()),
                _ => {}
            }
        }
        for field in ["status_code", "raw_status_code", "http_status"] {
            self.status_number(value.get(field).and_then(Value::as_u64));
        }
        for field in [
            "retryDelay",
            "retry_after",
            "retryAfter",
            "retry_after_seconds",
            "resets_in_seconds",
            "estimated_time",
        ] {
            if let Some(delay) = value.get(field).and_then(delay) {
                self.delay.get_or_insert(delay);
            }
        }
        self.counts = self.counts.or(Counts::of_fields(value));
        self.filtered |= ["flagged_input", "contentFilter"]
            .iter()
            .any(|field| value.get(field).is_some_and(|found| !is_hollow(found)));
        for field in ["content_filter_result", "content_filter_results"] {
            self.filtered |= value.get(field).is_some_and(any_filtered);
        }
        if let Some(Value::Object(headers)) = value.get("headers") {
            for (name, value) in headers.iter().take(4 * ENTRIES) {
                if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), plain(value).parse::<HeaderValue>()) {
                    self.headers.insert(name, value);
                }
            }
        }
    }

    /// `QuotaFailure` of google.rpc, and the metadata of its `ErrorInfo`.
    fn google(&mut self, value: &Value) {
        let violations = value.get("violations").and_then(Value::as_array);
        for violation in violations.into_iter().flatten().take(ENTRIES) {
            self.quota(violation, "quotaId", "quotaValue");
        }
        self.quota(value, "quota_limit", "quota_limit_value");
    }

    fn quota(&mut self, value: &Value, id: &str, limit: &str) {
        if let Some(id) = value.get(id).and_then(Value::as_str) {
            self.quotas.push(as_word(id));
        }
        if value.get(limit).is_some_and(|v| plain(v) == "0") {
            self.quotas.push("limit0".to_owned());
        }
    }

    /// A text, which may hold JSON: `litellm.BadRequestError: AnthropicException - {"type":"error",…}`.
    fn string(&mut self, text: &str, depth: usize) {
        let text = without_input(text);
        let inner = (depth < LAYERS).then(|| embedded(text)).flatten();
        match inner {
            Some((before, value)) => {
                self.say(before.trim_end_matches(['b', '\'', '"', ' ', '-']));
                self.layer(&value, depth + 1);
            }
            None => self.say(text),
        }
    }

    fn say(&mut self, text: &str) {
        self.say_of("", text);
    }

    fn say_of(&mut self, place: &str, text: &str) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        add(&mut self.said, text);
        if place.is_empty() {
            add(&mut self.message, text);
        } else {
            add(&mut self.message, &format!("{place}: {text}"));
        }
    }

    fn word(&mut self, text: &str) {
        if let Ok(number) = text.trim().parse::<u64>() {
            return self.status_number(Some(number));
        }
        // xAI's `code` is a sentence.
        if text.contains(' ') {
            return self.say(text);
        }
        let word = as_word(text);
        if !word.is_empty() && self.words.len() < WORDS {
            self.words.push(word);
        }
    }

    fn status_number(&mut self, number: Option<u64>) {
        let status = number
            .and_then(|n| u16::try_from(n).ok())
            .filter(|n| (400..600).contains(n));
        self.number = self.number.or(status);
    }

    /// The HTTP status that the body itself names as a number.
    pub const fn number(&self) -> Option<u16> {
        self.number
    }

    /// The text for people: truncated and scrubbed.
    pub fn shown(&self, status: u16, secret: Option<&SecretString>) -> String {
        if self.is_empty() {
            format!("the backend answered {status} without a message")
        } else {
            shown_without(&self.message, secret)
        }
    }

    /// True when nothing was said.
    pub const fn is_empty(&self) -> bool {
        self.message.is_empty()
    }

    /// Tokens asked for and tokens allowed, from fields or from the text.
    pub fn token_counts(&self) -> (Option<u64>, Option<u64>) {
        let counts = self.counts.or(tokens::in_text(&self.text));
        (counts.tokens, counts.most)
    }

    /// Whether one of the texts stands in the body.
    pub fn says(&self, texts: &[&str]) -> bool {
        texts.iter().any(|text| self.text.contains(text))
    }

    /// Whether a machine word has one of the parts.
    pub fn has(&self, parts: &[&str]) -> bool {
        self.words
            .iter()
            .any(|word| parts.iter().any(|part| word.contains(part)))
    }

    /// Whether a machine word is one of these.
    pub fn is(&self, words: &[&str]) -> bool {
        self.words.iter().any(|word| words.contains(&word.as_str()))
    }
}

/// Adds a text that was not said yet, as far as there is room.
fn add(message: &mut String, text: &str) {
    if message.len() >= TEXT || message.contains(text) {
        return;
    }
    if !message.is_empty() {
        message.push_str(": ");
    }
    let room = TEXT.saturating_sub(message.len());
    message.push_str(front(text, room));
}
