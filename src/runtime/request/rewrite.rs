//! The body for a backend: its own name of the model, usage asked for, an output limit where one is needed. Every other byte stays.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};

use super::head::{Head, Operation};
use crate::api::RemoteProvider;

/// What a backend wants changed.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its name of the model.
    pub model: &'a str,
    /// Tokens to write as the output limit when the request names none.
    pub output_limit: Option<u64>,
    /// The field of the output limit.
    pub limit_field: LimitField,
    /// The limit is paid for: it is written to `limit_field` even when the request has it in the other one, which a server that
    /// follows OpenAI's API may not know.
    pub binding: bool,
}

/// The field of the output limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitField {
    /// `max_tokens`.
    MaxTokens,
    /// `max_completion_tokens`, which newer models of OpenAI demand.
    MaxCompletionTokens,
}

impl LimitField {
    /// What an operation of a provider calls it.
    #[must_use]
    pub fn of(provider: Option<RemoteProvider>, operation: Operation) -> Self {
        match (provider, operation) {
            (Some(RemoteProvider::OpenAI), Operation::Chat) => Self::MaxCompletionTokens,
            _ => Self::MaxTokens,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }

    fn span(self, head: &Head) -> Option<Range<usize>> {
        match self {
            Self::MaxTokens => head.spans.max_tokens.clone(),
            Self::MaxCompletionTokens => head.spans.max_completion_tokens.clone(),
        }
    }
}

/// Writes the body anew.
#[must_use]
pub fn rewrite(body: &Bytes, head: &Head, wanted: Wanted<'_>) -> Bytes {
    let mut edits = vec![(head.spans.model.clone(), Value::from(wanted.model).to_string())];
    let mut set = |span: Option<Range<usize>>, name: &str, value: String| match span {
        Some(span) => edits.push((span, value)),
        None => edits.push((head.spans.start..head.spans.start, format!("\"{name}\":{value},"))),
    };
    if head.stream {
        let span = head.spans.stream_options.clone();
        set(span, "stream_options", usage_asked(body, head));
    }
    if let Some(limit) = limit(body, head, wanted) {
        set(
            wanted.limit_field.span(head),
            wanted.limit_field.name(),
            limit.to_string(),
        );
    }
    edits.sort_by_key(|(span, _)| (span.start, span.end));
    splice(body, &edits)
}

/// The output limit to write, if one is to be written.
fn limit(body: &Bytes, head: &Head, wanted: Wanted<'_>) -> Option<u64> {
    if head.operation == Operation::Embeddings {
        return None;
    }
    let given = head.spans.max_tokens.clone().and_then(|span| body.get(span));
    let unheeded = wanted.limit_field == LimitField::MaxTokens && given.is_none_or(|raw| raw == b"null");
    match head.output_limit {
        None => wanted.output_limit,
        given => given.filter(|_| wanted.binding && unheeded),
    }
}

/// The request's stream options with `include_usage`.
fn usage_asked(body: &Bytes, head: &Head) -> String {
    let given = head.spans.stream_options.clone().and_then(|span| body.get(span));
    let mut options: Map<String, Value> = given
        .and_then(|raw| serde_json::from_slice(raw).ok())
        .unwrap_or_default();
    options.insert("include_usage".into(), json!(true));
    Value::Object(options).to_string()
}

fn splice(body: &Bytes, edits: &[(Range<usize>, String)]) -> Bytes {
    let added: usize = edits.iter().map(|(_, text)| text.len()).sum();
    let mut out = BytesMut::with_capacity(body.len() + added);
    let mut at = 0;
    for (span, text) in edits {
        out.extend_from_slice(body.get(at..span.start).unwrap_or_default());
        out.extend_from_slice(text.as_bytes());
        at = span.end;
    }
    out.extend_from_slice(body.get(at..).unwrap_or_default());
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::request::head::read;

    fn rewritten(operation: Operation, body: &'static str, limit: Option<u64>, field: LimitField) -> String {
        let bytes = Bytes::from_static(body.as_bytes());
        let head = read(operation, &bytes).unwrap();
        let wanted = Wanted {
            model: "gpt \"x\"",
            output_limit: limit,
            limit_field: field,
            binding: false,
        };
        String::from_utf8(rewrite(&bytes, &head, wanted).to_vec()).unwrap()
    }

    #[test]
    fn only_what_is_wanted_changes() {
        let body = "{ \"seed\": 1.0e3, \"model\" :\"a\", \"x\":\"\\u00e9\"}";
        let expected = "{ \"seed\": 1.0e3, \"model\" :\"gpt \\\"x\\\"\", \"x\":\"\\u00e9\"}";
        assert_eq!(rewritten(Operation::Chat, body, None, LimitField::MaxTokens), expected);
    }

    #[test]
    fn usage_is_always_asked_of_a_stream() {
        for (body, expected) in [
            (
                r#"{"model":"a","stream":true}"#,
                r#"{"stream_options":{"include_usage":true},"model":"gpt \"x\"","stream":true}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":false,"other":1},"model":"a"}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true,"other":1},"model":"gpt \"x\""}"#,
            ),
            (
                r#"{"stream_options":null,"model":"a","stream":true}"#,
                r#"{"stream_options":{"include_usage":true},"model":"gpt \"x\"","stream":true}"#,
            ),
        ] {
            assert_eq!(rewritten(Operation::Chat, body, None, LimitField::MaxTokens), expected);
        }
    }

    #[test]
    fn a_limit_that_is_paid_for_stands_in_the_field_that_is_heeded() {
        let written = |body: &'static str, binding| {
            let body = Bytes::from_static(body.as_bytes());
            let head = read(Operation::Chat, &body).unwrap();
            let wanted = Wanted {
                model: "a",
                output_limit: Some(9),
                limit_field: LimitField::MaxTokens,
                binding,
            };
            rewrite(&body, &head, wanted)
        };
        for (body, bound) in [
            (
                r#"{"model":"a","max_completion_tokens":5}"#,
                r#"{"max_tokens":5,"model":"a","max_completion_tokens":5}"#,
            ),
            // Found by fuzzing: a field that says nothing limits nothing.
            (
                r#"{"model":"a","max_completion_tokens":5,"max_tokens":null}"#,
                r#"{"model":"a","max_completion_tokens":5,"max_tokens":5}"#,
            ),
            (r#"{"model":"a","max_tokens":5}"#, r#"{"model":"a","max_tokens":5}"#),
        ] {
            assert_eq!(written(body, false), body);
            assert_eq!(written(body, true), bound);
        }
    }

    #[test]
    fn a_limit_is_added_where_none_is() {
        let field = LimitField::of(Some(RemoteProvider::OpenAI), Operation::Chat);
        assert_eq!(
            rewritten(
                Operation::Chat,
                r#"{"model":"a","max_completion_tokens":null}"#,
                Some(9),
                field
            ),
            r#"{"model":"gpt \"x\"","max_completion_tokens":9}"#
        );
        let own = r#"{"model":"a","max_tokens":3}"#;
        assert!(rewritten(Operation::Chat, own, Some(9), field).ends_with(r#""max_tokens":3}"#));
        let body = r#"{"model":"a","input":"x"}"#;
        assert!(!rewritten(Operation::Embeddings, body, Some(9), LimitField::MaxTokens).contains('9'));
        assert!(rewritten(Operation::Completions, body, Some(9), LimitField::MaxTokens).contains("\"max_tokens\":9"));
    }
}
