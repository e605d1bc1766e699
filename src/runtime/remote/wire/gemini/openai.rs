//! What goes to the client: OpenAI's answers and events.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{policy::pricing::Usage, runtime::remote::wire::Asked};

/// A `chat.completion` or a `chat.completion.chunk`.
#[derive(Debug, Serialize)]
pub(super) struct Answer<'a, C> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    choices: &'a [C],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Counts>,
}

/// A choice of a stream.
#[derive(Debug, Serialize)]
pub(super) struct StreamChoice<'a> {
    pub(super) index: u64,
    pub(super) delta: Said<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logprobs: Option<Logprobs<'a>>,
    pub(super) finish_reason: Option<&'static str>,
}

/// A choice of a whole answer.
#[derive(Debug, Serialize)]
pub(super) struct Choice<'a> {
    pub(super) index: u64,
    pub(super) message: Message<'a>,
    pub(super) logprobs: Option<Logprobs<'a>>,
    pub(super) finish_reason: &'static str,
}

/// A whole message: OpenAI's has `content` and `refusal` always.
#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    content: Option<Cow<'a, RawValue>>,
    refusal: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<Cow<'a, RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<Drawn<'a>>,
}

/// What a candidate said. Text stays the JSON string that it is.
#[derive(Debug, Default, Serialize)]
pub(super) struct Said<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<Cow<'a, RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_content: Option<Cow<'a, RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<ToolCall<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) images: Vec<Drawn<'a>>,
}

impl<'a> Said<'a> {
    /// Nothing that a client shows.
    pub(super) const fn is_empty(&self) -> bool {
        self.content.is_none()
            && self.reasoning_content.is_none()
            && self.tool_calls.is_empty()
            && self.images.is_empty()
    }

    /// As a whole message. Calls have their index in streams only.
    pub(super) fn message(mut self) -> Message<'a> {
        for call in &mut self.tool_calls {
            call.index = None;
        }
        Message {
            role: "assistant",
            content: self.content,
            refusal: None,
            reasoning_content: self.reasoning_content,
            tool_calls: self.tool_calls,
            images: self.images,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ToolCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) index: Option<u64>,
    pub(super) id: Cow<'a, str>,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) function: Function<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) extra_content: Option<ExtraContent<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct Function<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) arguments: &'a str,
}

#[derive(Debug, Serialize)]
pub(super) struct ExtraContent<'a> {
    google: GoogleContent<'a>,
}

#[derive(Debug, Serialize)]
struct GoogleContent<'a> {
    thought_signature: &'a RawValue,
}

impl<'a> ExtraContent<'a> {
    /// With the signature of the thoughts that led there: a text, or it is none that the client could send back.
    pub(super) fn signed(signature: Option<&'a RawValue>) -> Option<Self> {
        let thought_signature = signature.filter(|raw| raw.get().starts_with('"'))?;
        Some(Self {
            google: GoogleContent { thought_signature },
        })
    }
}

/// An image that the model made, as other gateways show it; OpenAI's chat API has no place for it.
#[derive(Debug, Serialize)]
pub(super) struct Drawn<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    image_url: ImageUrl,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<ExtraContent<'a>>,
}

#[derive(Debug, Serialize)]
struct ImageUrl {
    url: String,
}

impl<'a> Drawn<'a> {
    pub(super) fn new(mime_type: &str, data: &str, signature: Option<&'a RawValue>) -> Self {
        Self {
            extra_content: ExtraContent::signed(signature),
            kind: "image_url",
            image_url: ImageUrl {
                url: format!("data:{mime_type};base64,{data}"),
            },
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Logprobs<'a> {
    pub(super) content: Vec<Token<'a>>,
    pub(super) refusal: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Token<'a> {
    #[serde(flatten)]
    pub(super) chosen: TopToken<'a>,
    pub(super) top_logprobs: Vec<TopToken<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct TopToken<'a> {
    pub(super) token: Cow<'a, str>,
    pub(super) logprob: f64,
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug, Serialize)]
struct Counts {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Debug, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

#[derive(Debug, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

impl From<Usage> for Counts {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.input_tokens,
            completion_tokens: usage.output_tokens,
            total_tokens: usage.input_tokens.saturating_add(usage.output_tokens),
            prompt_tokens_details: PromptDetails {
                cached_tokens: usage.cached_input_tokens,
            },
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: usage.reasoning_output_tokens,
            },
        }
    }
}

/// An event of a stream; `size` is about how long it will be.
pub(super) fn event(asked: &Asked, choices: &[StreamChoice<'_>], usage: Option<Usage>, size: usize) -> Option<Bytes> {
    let mut bytes = Vec::with_capacity(size + 256);
    bytes.extend_from_slice(b"data: ");
    serde_json::to_writer(&mut bytes, &answer(asked, "chat.completion.chunk", choices, usage)).ok()?;
    bytes.extend_from_slice(b"\n\n");
    Some(bytes.into())
}

/// A whole answer.
pub(super) fn completion(asked: &Asked, choices: &[Choice<'_>], usage: Option<Usage>, size: usize) -> Option<Bytes> {
    let mut bytes = Vec::with_capacity(size + 256);
    serde_json::to_writer(&mut bytes, &answer(asked, "chat.completion", choices, usage)).ok()?;
    Some(bytes.into())
}

fn answer<'a, C>(asked: &'a Asked, object: &'static str, choices: &'a [C], usage: Option<Usage>) -> Answer<'a, C> {
    Answer {
        id: &asked.id,
        object,
        created: asked.created,
        model: &asked.model,
        choices,
        usage: usage.map(Counts::from),
    }
}
