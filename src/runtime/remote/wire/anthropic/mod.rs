//! Anthropic's Messages API.
//!
//! - [`encode`]: an OpenAI chat request as a Messages request (`chat` is what is read, `request` what is written).
//! - [`Stream`]: the events of a Messages stream as OpenAI's.
//! - [`read`]: a whole Messages answer as OpenAI's.
//!
//! What differs and has no field of its own:
//!
//! - System and developer messages all become the top-level `system`, in their order, wherever they stand: the Messages
//!   API has no such role among the messages of most models. Anthropic's own OpenAI layer does the same.
//! - Empty text is left out, as the API takes no empty text block.
//! - An assistant's `reasoning_content` (and what other servers call it) is left out: thinking without its signature cannot be sent
//!   back, and the API ignores the thinking of earlier turns. Where it does not, the model does not think ([`thinking`]).

mod answer;
mod chat;
mod effort;
mod encode;
mod events;
mod messages;
mod named;
mod neutral;
mod parts;
mod read;
mod request;
mod stream;
mod thinking;
mod tools;

#[cfg(test)]
mod tests;

pub use encode::encode;
pub use read::read;
pub use stream::Stream;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Text borrowed from JSON where it holds no escapes, also inside an `Option`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Text<'_> {
    fn as_str(&self) -> &str {
        &self.0
    }
}
