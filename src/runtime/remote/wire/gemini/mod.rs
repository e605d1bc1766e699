//! Gemini's `generateContent`, of AI Studio and of Vertex: OpenAI's requests in it, its answers in OpenAI's format.
//!
//! What differs from OpenAI:
//! - `user`, `safety_identifier`, `prompt_cache_key` and a file's name change nothing that Gemini could say: they are left out.
//!   System messages go to the front wherever they stood.
//! - Gemini 3 wants the signature of its thoughts back with each function call. It travels as
//!   `tool_calls[].extra_content.google.thought_signature`, as in Google's own OpenAI endpoint. A call that another provider made
//!   has none: it gets the value that Google documents for that.
//! - Every finish but `STOP` and `MAX_TOKENS` reaches the client as `content_filter`, OpenAI's one word for an answer that is not
//!   whole; only those that are about content count as filtered ([`Finish`](crate::runtime::remote::events::Finish)).
//! - Embeddings carry `usage` only when Gemini reports it: unknown is never 0.

mod answer;
mod body;
mod contents;
mod embeddings;
mod media;
mod openai;
mod options;
mod request;
mod stream;
mod tools;
mod usage;

use bytes::Bytes;
pub use embeddings::wants_base64;
use serde::Deserialize;
pub use stream::Stream;

use super::{Asked, Inexpressible, Read, Target};
use crate::runtime::request::head::{Head, Operation};

/// What is wrong with a field that Gemini has nothing like.
const NOT_OFFERED: &str = "is not offered by Gemini: leave it out";

/// What follows `/models/MODEL` in the address.
pub fn method(operation: Operation, stream: bool, vertex: bool) -> Result<&'static str, Inexpressible> {
    match operation {
        Operation::Chat if stream => Ok(":streamGenerateContent?alt=sse"),
        Operation::Chat => Ok(":generateContent"),
        Operation::Embeddings if vertex => Ok(":predict"),
        Operation::Embeddings => Ok(":batchEmbedContents"),
        Operation::Completions => Err(no_completions()),
    }
}

/// A request in Gemini's format.
pub fn encode(head: &Head, body: &[u8], target: Target<'_>, vertex: bool) -> Result<Bytes, Inexpressible> {
    match head.operation {
        Operation::Chat => body::encode(head, body, target, vertex),
        Operation::Embeddings => embeddings::encode(body, target, vertex),
        Operation::Completions => Err(no_completions()),
    }
}

/// A whole answer in OpenAI's format.
#[must_use]
pub fn read(operation: Operation, body: &[u8], asked: &Asked) -> Read {
    match operation {
        Operation::Chat => answer::read(body, asked),
        Operation::Embeddings => embeddings::read(body, asked),
        Operation::Completions => Read::Malformed,
    }
}

fn no_completions() -> Inexpressible {
    refused(
        "prompt",
        "is not offered by Gemini: send messages to /v1/chat/completions",
    )
}

fn refused(field: impl Into<String>, message: impl Into<String>) -> Inexpressible {
    Inexpressible {
        field: field.into(),
        message: message.into(),
    }
}

/// Reads a request whose every field is known; what is wrong is named by its path.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Inexpressible> {
    let mut json = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (path, text) = (error.path().to_string(), error.inner().to_string());
        let field = if path == "." { "the body".to_owned() } else { path };
        if text.starts_with("unknown field") {
            return refused(field, NOT_OFFERED);
        }
        refused(field, format!("cannot be read: {text}"))
    })
}

/// Gemini 1 and 2: no signatures to give back, and thinking in tokens; those after think in levels.
fn before_gemini_3(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    ["gemini-1", "gemini-2"].iter().any(|old| name.starts_with(old))
}

#[cfg(test)]
mod decode_tests;
#[cfg(test)]
mod encode_tests;
