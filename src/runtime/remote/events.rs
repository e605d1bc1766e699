//! What one event of a stream, or one whole answer, means.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::usage::ReportedUsage;
use crate::policy::pricing::Usage;

/// The parts of an answer or chunk that are acted on; everything else is passed on unread.
#[derive(Debug, Deserialize)]
struct Parts<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    usage: Option<ReportedUsage>,
}

#[derive(Debug, Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content_filter_results: Option<Filter<'a>>,
    /// OpenRouter's word on a provider that failed in the midst of its answer.
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Choice<'_> {
    fn finish(&self) -> Option<Finish> {
        let failed = self
            .error
            .is_some_and(|raw| raw.get() != "null")
            .then_some(Finish::Failed);
        failed.or_else(|| self.finish_reason.as_deref().map(finish))
    }
}

/// Azure's word on the content of a choice; `error` when its filter was down.
#[derive(Debug, Deserialize)]
struct Filter<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow)]
    audio: Option<&'a RawValue>,
    /// OpenRouter's, and ours of what Gemini draws.
    #[serde(borrow)]
    images: Option<&'a RawValue>,
}

impl Delta<'_> {
    fn has_content(&self) -> bool {
        [
            self.content,
            self.reasoning_content,
            self.reasoning,
            self.refusal,
            self.tool_calls,
            self.function_call,
            self.audio,
            self.images,
        ]
        .iter()
        .flatten()
        .any(|raw| !matches!(raw.get(), "\"\"" | "null" | "[]"))
    }
}

/// Why the model stopped, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Any regular end.
    Regular,
    /// The provider cut the answer for its content.
    ContentFilter,
    /// The provider failed: what came of the answer is not all.
    Failed,
}

/// What an event means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// `[DONE]`.
    Done,
    /// No JSON where JSON must be.
    Malformed,
    /// `{"error": …}`.
    Error,
    /// A chunk or an answer.
    Chunk(Chunk),
}

/// A chunk of a stream or a whole answer.
#[allow(clippy::struct_excessive_bools, reason = "four facts that say nothing of each other")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Something that a client shows, or the end of the answer.
    pub content: bool,
    /// The answer ends here.
    pub finish: Option<Finish>,
    /// Choices that end here.
    pub finished: u64,
    /// Tokens, when reported.
    pub usage: Option<Usage>,
    /// It reports usage and nothing else.
    pub usage_only: bool,
    /// The provider says that its content filter did not work.
    pub unfiltered: bool,
    /// It has choices, or data in the case of embeddings.
    pub answers: bool,
}

/// Reads the data of an event or the body of an answer.
#[must_use]
pub fn meaning(data: &[u8]) -> Meaning {
    if data.trim_ascii() == b"[DONE]" {
        return Meaning::Done;
    }
    match serde_json::from_slice::<Parts<'_>>(data) {
        Err(_) => Meaning::Malformed,
        Ok(parts) if parts.error.is_some_and(|raw| raw.get() != "null") => Meaning::Error,
        Ok(parts) => Meaning::Chunk(chunk(&parts)),
    }
}

fn chunk(parts: &Parts<'_>) -> Chunk {
    let choices = parts.choices.as_deref().unwrap_or_default();
    let mut ends = choices.iter().filter_map(Choice::finish);
    let finished = ends.clone().count() as u64;
    let last = ends.clone().next_back();
    let finish = ends.find(|end| *end == Finish::Failed).or(last);
    let content = |c: &Choice<'_>| {
        c.text.as_deref().is_some_and(|text| !text.is_empty()) || c.delta.as_ref().is_some_and(Delta::has_content)
    };
    let usage = parts.usage.and_then(|u| u.counts(parts.data.is_none()));
    Chunk {
        content: finish.is_some_and(|end| end != Finish::Failed) || choices.iter().any(content),
        finish,
        finished,
        usage,
        usage_only: usage.is_some() && choices.is_empty(),
        unfiltered: choices
            .iter()
            .any(|c| c.content_filter_results.as_ref().is_some_and(|f| f.error.is_some())),
        answers: !choices.is_empty() || parts.data.is_some_and(|raw| raw.get() != "[]"),
    }
}

fn finish(reason: &str) -> Finish {
    match reason {
        "content_filter" => Finish::ContentFilter,
        // DeepSeek's, OpenRouter's, and that of engines that end a request themselves.
        "insufficient_system_resource" | "error" | "abort" => Finish::Failed,
        _ => Finish::Regular,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Chunk {
        match meaning(text.as_bytes()) {
            Meaning::Chunk(chunk) => chunk,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_role_is_no_content() {
        let role = r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
        assert_eq!(
            read(role),
            Chunk {
                answers: true,
                ..Chunk::default()
            }
        );
        for content in [
            r#"{"choices":[{"delta":{"content":"H\u00e9"}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#,
            r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#,
            r#"{"choices":[{"delta":{"images":[{"type":"image_url"}]}}]}"#,
            r#"{"choices":[{"delta":{"audio":{"data":"AA=="}}}]}"#,
            r#"{"choices":[{"text":"Hi","finish_reason":null}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
        ] {
            assert!(read(content).content, "{content}");
        }
    }

    #[test]
    fn an_answer_that_its_provider_broke_off_has_failed() {
        for text in [
            r#"{"choices":[{"delta":{"content":""},"finish_reason":"insufficient_system_resource"}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"abort"}]}"#,
            r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"error"}]}"#,
            r#"{"choices":[{"message":{"content":""},"error":{"code":502,"message":"x"}}]}"#,
            r#"{"choices":[{"message":{},"finish_reason":"error"},{"message":{},"finish_reason":"stop"}]}"#,
        ] {
            let chunk = read(text);
            assert_eq!((chunk.finish, chunk.content), (Some(Finish::Failed), false), "{text}");
        }
        let fine = read(r#"{"choices":[{"error":null,"finish_reason":"stop"}]}"#);
        assert_eq!((fine.finish, fine.finished), (Some(Finish::Regular), 1));
    }

    #[test]
    fn the_usage_event_is_told_from_a_chunk_with_usage() {
        let usage = r#""usage":{"prompt_tokens":20,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":5}}"#;
        let only = read(&format!(r#"{{"choices":[],{usage}}}"#));
        assert!(only.usage_only);
        assert_eq!(
            only.usage,
            Some(Usage {
                input_tokens: 20,
                cached_input_tokens: 5,
                output_tokens: 7,
                ..Usage::default()
            })
        );
        assert!(!read(&format!(r#"{{"choices":[{{"delta":{{}}}}],{usage}}}"#)).usage_only);
        assert_eq!(read(r#"{"choices":[],"usage":null}"#).usage, None);
        assert_eq!(
            read(r#"{"data":[{"embedding":[1]}],"usage":{"prompt_tokens":3}}"#)
                .usage
                .unwrap()
                .input_tokens,
            3
        );
    }

    #[test]
    fn errors_ends_and_rubbish_are_told_apart() {
        assert_eq!(meaning(b" [DONE]"), Meaning::Done);
        assert_eq!(meaning(br#"{"id":"c","choices":[{"index":0,"del"#), Meaning::Malformed);
        assert_eq!(meaning(br#"{"error":{"message":"x"}}"#), Meaning::Error);
        assert_eq!(
            meaning(br#"{"error":null,"choices":[]}"#),
            Meaning::Chunk(Chunk::default())
        );
    }
}
