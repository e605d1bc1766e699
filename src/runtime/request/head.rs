//! What is read of a request: only what decisions need. Everything else passes through unread.

use std::ops::Range;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::bound::prompts;

/// The APIs that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
    /// `/v1/embeddings`.
    Embeddings,
}

impl Operation {
    /// Path below the base address of an API.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
        }
    }
}

/// What was read, and where in the body it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The API.
    pub operation: Operation,
    /// `model`.
    pub model: String,
    /// `stream`.
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// The larger of `max_tokens` and `max_completion_tokens`.
    pub output_limit: Option<u64>,
    /// Answers a prompt, `n` or `best_of`.
    pub n: u64,
    /// Choices that an answer has: `n` to each prompt. `best_of` is what is generated, not what is answered.
    pub choices: u32,
    /// Where the fields are that may be rewritten.
    pub spans: Spans,
}

/// Byte ranges of values in the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    /// Index after the opening brace.
    pub start: usize,
    /// `model`.
    pub model: Range<usize>,
    /// `stream_options`.
    pub stream_options: Option<Range<usize>>,
    /// `max_tokens`.
    pub max_tokens: Option<Range<usize>>,
    /// `max_completion_tokens`.
    pub max_completion_tokens: Option<Range<usize>>,
}

/// The body is wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HeadError {
    /// The field, when it is one.
    pub param: Option<&'static str>,
    /// What is wrong and where.
    pub message: String,
}

/// A duplicate of any of these is an error: two readers could disagree on which one counts.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    model: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    stream: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    stream_options: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    max_completion_tokens: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    n: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    best_of: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    prompt: Option<&'a RawValue>,
}

/// Keeps `null` apart from absence: a field that is there must be replaced, not added.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// Reads the head of a body.
pub fn read(operation: Operation, body: &[u8]) -> Result<Head, HeadError> {
    let fields = fields(body).map_err(|message| HeadError { param: None, message })?;
    let model: Option<String> = value("model", "a string", fields.model)?;
    let model = model.ok_or_else(|| wrong("model", "is required: the name of the model"))?;
    if fields.stream_options.is_some_and(|raw| raw.get().starts_with('[')) {
        return Err(wrong("stream_options", "must be an object"));
    }
    let options: Option<StreamOptions> = value("stream_options", "an object", fields.stream_options)?;
    let limits = [
        value::<u64>("max_tokens", WHOLE, fields.max_tokens)?,
        value("max_completion_tokens", WHOLE, fields.max_completion_tokens)?,
    ];
    let n = value::<u64>("n", WHOLE, fields.n)?;
    let best_of = value("best_of", WHOLE, fields.best_of)?;
    let prompts = match (operation, fields.prompt) {
        (Operation::Completions, Some(raw)) => prompts(raw.get().as_bytes()),
        _ => 1,
    };
    Ok(Head {
        operation,
        model,
        stream: value("stream", "true or false", fields.stream)?.unwrap_or(false),
        include_usage: options.and_then(|o| o.include_usage).unwrap_or(false),
        output_limit: limits.into_iter().flatten().max(),
        n: n.max(best_of).unwrap_or(1).max(1),
        choices: u32::try_from(n.unwrap_or(1).max(1).saturating_mul(prompts)).unwrap_or(u32::MAX),
        spans: spans(body, &fields),
    })
}

/// The parts of a body are passed on unread, so all of it must be text. Derived structs would take a JSON array for an object.
fn fields(body: &[u8]) -> Result<Fields<'_>, String> {
    let text = std::str::from_utf8(body).map_err(|error| format!("the body is no JSON: it is no UTF-8: {error}"))?;
    if text.trim_ascii_start().starts_with('{') || text.trim_ascii().is_empty() {
        serde_json::from_str(text).map_err(|error| format!("the body is no JSON object that can be read: {error}"))
    } else {
        Err("the body is no JSON object: it must begin with {".into())
    }
}

const WHOLE: &str = "a whole number of at least 0";

fn value<'a, T: Deserialize<'a>>(
    name: &'static str,
    wanted: &str,
    raw: Option<&'a RawValue>,
) -> Result<Option<T>, HeadError> {
    raw.map_or(Ok(None), |raw| serde_json::from_str(raw.get()))
        .map_err(|_| wrong(name, &format!("must be {wanted}")))
}

fn wrong(param: &'static str, message: &str) -> HeadError {
    HeadError {
        param: Some(param),
        message: format!("{param} {message}"),
    }
}

fn spans(body: &[u8], fields: &Fields<'_>) -> Spans {
    let span = |raw: &RawValue| {
        let start = (raw.get().as_ptr() as usize).saturating_sub(body.as_ptr() as usize);
        start..start + raw.get().len()
    };
    Spans {
        start: body.iter().position(|b| *b == b'{').map_or(0, |at| at + 1),
        model: fields.model.map(span).unwrap_or_default(),
        stream_options: fields.stream_options.map(span),
        max_tokens: fields.max_tokens.map(span),
        max_completion_tokens: fields.max_completion_tokens.map(span),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chat(body: &str) -> Result<Head, HeadError> {
        read(Operation::Chat, body.as_bytes())
    }

    #[test]
    fn what_decisions_need_is_read() {
        let body = r#" {"messages":[{"role":"user","content":"Hi"}], "model" : "assistant","stream":true,
            "stream_options":{"include_usage":true},"max_tokens":5,"max_completion_tokens":7,"n":2,"extra":{"a":[1]}}"#;
        let head = chat(body).unwrap();
        assert_eq!(
            (head.model.as_str(), head.stream, head.include_usage),
            ("assistant", true, true)
        );
        assert_eq!((head.output_limit, head.n), (Some(7), 2));
        assert_eq!(&body[head.spans.model.clone()], "\"assistant\"");
        assert_eq!(&body[head.spans.max_tokens.clone().unwrap()], "5");
    }

    #[test]
    fn each_prompt_of_a_completion_has_choices_of_its_own() {
        for (fields, choices) in [
            (r#""prompt":"a""#, 1),
            (r#""prompt":["a","b","c"]"#, 3),
            (r#""prompt":["a","b","c"],"n":2,"best_of":5"#, 6),
            (r#""prompt":[[1,2],[3]]"#, 2),
            (r#""prompt":[1,2,3]"#, 1),
            (r#""prompt":{"what":"ever"}"#, 1),
            (r#""n":2"#, 2),
        ] {
            let body = format!(r#"{{"model":"m",{fields}}}"#);
            let head = read(Operation::Completions, body.as_bytes()).unwrap();
            assert_eq!(head.choices, choices, "{fields}");
        }
        assert_eq!(chat(r#"{"model":"m","prompt":["a","b"],"n":3}"#).unwrap().choices, 3);
    }

    #[test]
    fn null_is_the_default() {
        let head = chat(r#"{"model":"m","stream":null,"max_tokens":null,"n":null,"stream_options":null}"#).unwrap();
        assert_eq!((head.stream, head.output_limit, head.n), (false, None, 1));
        assert!(head.spans.max_tokens.is_some(), "it is there all the same");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, param, text) in [
            ("", None, "line 1 column 0"),
            ("{\"model\":\"m\",\n\"stream\" true}", None, "line 2 column 10"),
            ("[]", None, "no JSON object"),
            (r#"{"model":"m","model":"n"}"#, None, "duplicate field `model`"),
            ("{}", Some("model"), "required"),
            (r#"{"model":7}"#, Some("model"), "string"),
            (r#"{"model":"m","stream":"yes"}"#, Some("stream"), "true or false"),
            (r#"{"model":"m","max_tokens":-1}"#, Some("max_tokens"), "whole number"),
            (r#"{"model":"m","n":1.5}"#, Some("n"), "whole number"),
            (r#"{"model":"m","stream_options":[]}"#, Some("stream_options"), "object"),
            (
                r#"{"model":"m","stream_options":[true]}"#,
                Some("stream_options"),
                "object",
            ),
        ] {
            let error = chat(body).unwrap_err();
            assert_eq!(error.param, param, "{body}");
            assert!(error.message.contains(text), "{body}: {error}");
        }
    }

    /// Found by fuzzing: it was passed on.
    #[test]
    fn a_body_is_text_even_where_it_is_not_read() {
        let error = read(Operation::Chat, b"{\"model\":\"m\",\"messages\":\"\xff\"}").unwrap_err();
        assert!(
            error.message.contains("no UTF-8") && error.message.contains("index 25"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(Operation::Chat, &body);
        }
    }
}
