//! OpenAI's own format, which most providers speak: it passes through byte for byte.

use bytes::Bytes;

use super::{Heard, Read};
use crate::runtime::remote::{
    events::{Meaning, meaning},
    sse::Event,
};

/// The event that ends a stream.
pub const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// An event of a stream. The one that only reports usage is left out for a client that did not ask.
#[must_use]
pub fn event(event: Event, include_usage: bool) -> Heard {
    let Event { raw, data } = event;
    let Some(data) = data else {
        return Heard::Comment(raw);
    };
    match meaning(&data) {
        Meaning::Done => Heard::Done(raw),
        Meaning::Malformed => Heard::Malformed,
        Meaning::Error => Heard::Error,
        Meaning::Chunk(chunk) => Heard::Chunk {
            bytes: if chunk.usage_only && !include_usage {
                Bytes::new()
            } else {
                raw
            },
            chunk,
        },
    }
}

/// A whole answer.
#[must_use]
pub fn read(body: Bytes) -> Read {
    match meaning(&body) {
        Meaning::Error => Read::Error,
        Meaning::Malformed | Meaning::Done => Read::Malformed,
        Meaning::Chunk(chunk) => Read::Answer { body, chunk },
    }
}
