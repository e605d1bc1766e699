//! The wire formats of providers: the client's request in theirs, their answers in OpenAI's. Pure: no I/O, no clock.
//!
//! OpenAI's own format passes through byte for byte ([`openai`]); the others are translated whole ([`anthropic`], [`gemini`]). What a
//! provider has no way to say is refused with the field's name, never dropped.

pub mod address;
pub mod anthropic;
pub mod gemini;
pub mod openai;
mod reader;
mod unstreamed;

use bytes::Bytes;

pub use reader::Reader;

use super::events::Chunk;
use crate::{api::RemoteProvider, policy::pricing::Usage};

/// A provider's way to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's format under `Authorization`.
    OpenAi,
    /// OpenAI's format at Azure's addresses under `api-key`.
    Azure,
    /// Anthropic's Messages.
    Anthropic,
    /// Gemini's generateContent.
    Gemini,
}

impl Dialect {
    /// Of a provider.
    #[must_use]
    pub const fn of(provider: RemoteProvider) -> Self {
        match provider {
            RemoteProvider::OpenAI | RemoteProvider::LiteLLM | RemoteProvider::OpenAICompatible => Self::OpenAi,
            RemoteProvider::AzureOpenAI => Self::Azure,
            RemoteProvider::Anthropic => Self::Anthropic,
            RemoteProvider::Gemini => Self::Gemini,
        }
    }
}

/// What a backend wants of a request's translation.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The provider's name of the model.
    pub model: &'a str,
    /// Tokens to write as the output limit when the request names none.
    pub output_limit: Option<u64>,
}

/// The request says something that the provider has no way to say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {message}")]
pub struct Inexpressible {
    /// The field as a path: `messages[2].content[0].image_url.url`.
    pub field: String,
    /// What is wrong with it and what to do instead.
    pub message: String,
}

/// What the client asked, as far as its answer depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The id of the answer when the provider gives none.
    pub id: String,
    /// Seconds since 1970 UTC, for `created`.
    pub created: i64,
    /// The model when the provider does not name it.
    pub model: String,
    /// `stream_options.include_usage`: the client wants an event with the usage.
    pub include_usage: bool,
    /// Choices that the answer has.
    pub n: u64,
    /// `encoding_format` is `base64`: embeddings as little-endian floats.
    pub base64: bool,
}

/// What an event of a provider's stream means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Part of the answer: OpenAI events for the client (none when `bytes` is empty), and what they mean.
    Chunk {
        /// Whole server-sent events in OpenAI's format.
        bytes: Bytes,
        /// What they mean.
        chunk: Chunk,
    },
    /// No event at all, only a sign of life: for the client as it is (nothing when empty).
    Comment(Bytes),
    /// The provider's own end of the stream, with the events that end ours: usage when asked for, and `[DONE]`.
    Done(Bytes),
    /// No event of this format.
    Malformed,
    /// An error event, to be classified by its data.
    Error,
    /// The prompt was blocked: there is no answer.
    Blocked(Blocked),
}

/// A prompt that the provider did not answer for its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The provider's word for why.
    pub reason: String,
    /// Tokens it reports all the same.
    pub usage: Option<Usage>,
}

/// What the body of a successful answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// An answer in OpenAI's format.
    Answer {
        /// The body for the client.
        body: Bytes,
        /// What it means.
        chunk: Chunk,
    },
    /// No answer of this format.
    Malformed,
    /// An error in spite of the status, to be classified by the body.
    Error,
    /// The prompt was blocked: there is no answer.
    Blocked(Blocked),
}
