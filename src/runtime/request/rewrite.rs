//! The body for a backend: its own name of the model, usage asked for, an output limit where one is needed. Every other byte stays.

use std::{iter::once, ops::Range};

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};

use super::head::{Head, Operation};
use crate::{api::OutputLimitField, runtime::json_text::write_quoted};

/// What a backend wants changed.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its name of the model.
    pub model: &'a str,
    /// Tokens to write as the output limit when the request names none.
    pub output_limit: Option<u64>,
    /// The field of the output limit.
    pub limit_field: OutputLimitField,
    /// The limit is paid for, and the server is one that may not know both fields, or refuse both at once: `limit_field` alone holds
    /// it, whichever the client wrote.
    pub sole: bool,
    /// The server takes `stream_options`: streams are asked for their usage. Else nothing of that is sent, whoever wrote it.
    pub stream_options: bool,
}

const fn name(field: OutputLimitField) -> &'static str {
    match field {
        OutputLimitField::MaxTokens => "max_tokens",
        OutputLimitField::MaxCompletionTokens => "max_completion_tokens",
    }
}

fn span(field: OutputLimitField, head: &Head) -> Option<Range<usize>> {
    match field {
        OutputLimitField::MaxTokens => head.spans.max_tokens.clone(),
        OutputLimitField::MaxCompletionTokens => head.spans.max_completion_tokens.clone(),
    }
}

const fn other(field: OutputLimitField) -> OutputLimitField {
    match field {
        OutputLimitField::MaxTokens => OutputLimitField::MaxCompletionTokens,
        OutputLimitField::MaxCompletionTokens => OutputLimitField::MaxTokens,
    }
}

/// Writes the body anew.
#[must_use]
pub fn rewrite(body: &Bytes, head: &Head, wanted: Wanted<'_>) -> Bytes {
    let mut edits = vec![(head.spans.model.clone(), quoted(wanted.model))];
    let mut set = |span: Option<Range<usize>>, name: &str, value: String| match span {
        Some(span) => edits.push((span, value)),
        None => edits.push((head.spans.start..head.spans.start, format!("\"{name}\":{value},"))),
    };
    let options = head.spans.stream_options.clone();
    if head.stream && wanted.stream_options {
        set(options.clone(), "stream_options", usage_asked(body, head));
    }
    let field = wanted.limit_field;
    if let Some(limit) = limit(head, wanted) {
        set(span(field, head), name(field), limit.to_string());
    }
    let refused = [
        span(other(field), head).filter(|_| wanted.sole),
        options.filter(|_| !wanted.stream_options),
    ];
    let gone = members(body, refused.into_iter().flatten());
    edits.extend(gone.into_iter().map(|span| (span, String::new())));
    edits.sort_by_key(|(span, _)| (span.start, span.end));
    splice(body, &edits)
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    // A String takes all that is written.
    let _ = write_quoted(&mut quoted, text);
    quoted
}

/// The output limit to write, if one is to be written.
fn limit(head: &Head, wanted: Wanted<'_>) -> Option<u64> {
    match head.operation {
        Operation::Embeddings => None,
        Operation::Chat | Operation::Completions if wanted.sole => head.output_limit.or(wanted.output_limit),
        Operation::Chat | Operation::Completions => wanted.output_limit.filter(|_| head.output_limit.is_none()),
    }
}

/// All of the members whose values are these, with the commas that must go with them. Of two that end the object together the first one's
/// comma is the second one's, too.
fn members(body: &[u8], values: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut gone: Vec<Range<usize>> = values.map(|value| member(body, value)).collect();
    gone.sort_by_key(|span| span.start);
    if let [first, last] = gone.as_slice()
        && last.start < first.end
    {
        let start = comma_before(body, first.start).unwrap_or(first.start);
        gone = once(start..last.end).collect();
    }
    gone
}

fn comma_before(body: &[u8], start: usize) -> Option<usize> {
    let before = body.get(..start)?;
    let last = before.iter().rposition(|byte| !byte.is_ascii_whitespace())?;
    (before.get(last) == Some(&b',')).then_some(last)
}

/// All of the member whose value is at `value`, with the comma that must go with it.
fn member(body: &[u8], value: Range<usize>) -> Range<usize> {
    let white = |at: usize| body.get(at).is_some_and(u8::is_ascii_whitespace);
    let is = |at: usize, byte: u8| body.get(at) == Some(&byte);
    // Backwards over the colon to the name's quotes: no name of ours has a quote inside.
    let mut quotes = (0..value.start).rev().filter(|at| is(*at, b'"'));
    let start = quotes.nth(1).unwrap_or(value.start);
    let mut end = value.end;
    while white(end) {
        end += 1;
    }
    if is(end, b',') {
        return start..end + 1;
    }
    comma_before(body, start).unwrap_or(start)..value.end
}

/// The request's stream options; none where it has none.
fn stream_options(body: &Bytes, head: &Head) -> Map<String, Value> {
    let given = head.spans.stream_options.clone().and_then(|span| body.get(span));
    given
        .and_then(|raw| serde_json::from_slice(raw).ok())
        .unwrap_or_default()
}

/// The same with `include_usage`.
fn usage_asked(body: &Bytes, head: &Head) -> String {
    let mut options = stream_options(body, head);
    options.insert("include_usage".into(), json!(true));
    Value::Object(options).to_string()
}

/// A stream whose options hold nothing but what asks for usage: when they are refused, that is.
#[must_use]
pub fn asks_only_usage(body: &Bytes, head: &Head) -> bool {
    head.stream && stream_options(body, head).keys().all(|name| name == "include_usage")
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
    use OutputLimitField::{MaxCompletionTokens, MaxTokens};

    fn written(operation: Operation, body: &'static str, wanted: Wanted<'_>) -> String {
        let bytes = Bytes::from_static(body.as_bytes());
        let head = read(operation, &bytes).unwrap();
        String::from_utf8(rewrite(&bytes, &head, wanted).to_vec()).unwrap()
    }

    const fn wanted(output_limit: Option<u64>, limit_field: OutputLimitField) -> Wanted<'static> {
        Wanted {
            model: "gpt \"x\"",
            output_limit,
            limit_field,
            sole: false,
            stream_options: true,
        }
    }

    #[test]
    fn only_what_is_wanted_changes() {
        let body = "{ \"seed\": 1.0e3, \"model\" :\"a\", \"x\":\"\\u00e9\"}";
        let expected = "{ \"seed\": 1.0e3, \"model\" :\"gpt \\\"x\\\"\", \"x\":\"\\u00e9\"}";
        assert_eq!(written(Operation::Chat, body, wanted(None, MaxTokens)), expected);
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
            assert_eq!(written(Operation::Chat, body, wanted(None, MaxTokens)), expected);
        }
    }

    #[test]
    fn a_server_that_takes_no_stream_options_gets_none() {
        let wanted = Wanted {
            model: "b",
            output_limit: None,
            limit_field: MaxTokens,
            sole: true,
            stream_options: false,
        };
        for (body, expected) in [
            (r#"{"model":"a","stream":true}"#, r#"{"model":"b","stream":true}"#),
            (
                r#"{"stream_options":{"include_usage":true}, "model":"a","stream":true}"#,
                r#"{ "model":"b","stream":true}"#,
            ),
            (
                r#"{"stream":true,"model":"a" , "stream_options":{"include_usage":true}}"#,
                r#"{"stream":true,"model":"b" }"#,
            ),
            (
                r#"{"stream":true,"model":"a","max_completion_tokens":5, "stream_options":null }"#,
                r#"{"max_tokens":5,"stream":true,"model":"b" }"#,
            ),
            (
                r#"{"stream":true,"model":"a","stream_options":{},"max_completion_tokens":5}"#,
                r#"{"max_tokens":5,"stream":true,"model":"b"}"#,
            ),
            (
                r#"{"stream_options":{},"max_completion_tokens":5,"stream":true,"model":"a"}"#,
                r#"{"max_tokens":5,"stream":true,"model":"b"}"#,
            ),
        ] {
            assert_eq!(written(Operation::Chat, body, wanted), expected, "{body}");
        }
    }

    #[test]
    fn a_limit_that_is_paid_for_stands_alone_in_the_field_that_is_heeded() {
        let wanted = |limit_field| Wanted {
            model: "a",
            output_limit: Some(9),
            limit_field,
            sole: true,
            stream_options: true,
        };
        for (body, expected) in [
            (r#"{"model":"a"}"#, r#"{"max_tokens":9,"model":"a"}"#),
            (r#"{"model":"a","max_tokens":5}"#, r#"{"model":"a","max_tokens":5}"#),
            (r#"{"model":"a","max_tokens":null}"#, r#"{"model":"a","max_tokens":9}"#),
            (
                r#"{"model":"a","max_completion_tokens":5}"#,
                r#"{"max_tokens":5,"model":"a"}"#,
            ),
            (
                r#"{ "max_completion_tokens" : 5 , "model":"a"}"#,
                r#"{"max_tokens":5,  "model":"a"}"#,
            ),
            (
                r#"{"max_tokens":3,"max_completion_tokens":5,"model":"a"}"#,
                r#"{"max_tokens":5,"model":"a"}"#,
            ),
            (
                r#"{"max_completion_tokens":5,"max_tokens":null,"model":"a"}"#,
                r#"{"max_tokens":5,"model":"a"}"#,
            ),
            (
                "{\"model\":\"a\" ,\n \"max_completion_tokens\": null\n}",
                "{\"max_tokens\":9,\"model\":\"a\" \n}",
            ),
        ] {
            assert_eq!(written(Operation::Chat, body, wanted(MaxTokens)), expected, "{body}");
        }
        let renamed = written(
            Operation::Chat,
            r#"{"model":"a","max_tokens":5}"#,
            wanted(MaxCompletionTokens),
        );
        assert_eq!(renamed, r#"{"max_completion_tokens":5,"model":"a"}"#);
    }

    #[test]
    fn a_limit_is_added_where_none_is() {
        let (chat, field) = (Operation::Chat, MaxCompletionTokens);
        assert_eq!(
            written(
                chat,
                r#"{"model":"a","max_completion_tokens":null}"#,
                wanted(Some(9), field)
            ),
            r#"{"model":"gpt \"x\"","max_completion_tokens":9}"#
        );
        for own in [
            r#"{"model":"a","max_tokens":3}"#,
            r#"{"model":"a","max_completion_tokens":3}"#,
        ] {
            let text = written(chat, own, wanted(Some(9), field));
            assert!(text.ends_with(":3}") && !text.contains('9'), "{text}");
        }
        let body = r#"{"model":"a","input":"x"}"#;
        assert!(!written(Operation::Embeddings, body, wanted(Some(9), MaxTokens)).contains('9'));
        assert!(written(Operation::Completions, body, wanted(Some(9), MaxTokens)).contains("\"max_tokens\":9"));
    }
}
