//! Reads the answers of one attempt, whatever the format.

use bytes::Bytes;

use super::{Asked, Dialect, Heard, Read, anthropic, gemini, openai, unstreamed};
use crate::runtime::{
    remote::{events::Chunk, sse::Event},
    request::head::Operation,
};

/// Reads the answers of one attempt.
#[derive(Debug)]
pub enum Reader {
    /// OpenAI's format.
    OpenAi {
        /// The client wants the event with the usage.
        include_usage: bool,
        /// Choices whose end has not come.
        unfinished: u64,
    },
    /// Anthropic's.
    Anthropic(Asked, Box<anthropic::Stream>),
    /// Gemini's.
    Gemini(Operation, Asked, Box<gemini::Stream>),
}

impl Reader {
    /// A reader of OpenAI's own format, which passes through: whether the client wants the usage, and the choices that the answer has.
    #[must_use]
    pub const fn openai(include_usage: bool, n: u64) -> Self {
        Self::OpenAi {
            include_usage,
            unfinished: n,
        }
    }

    /// A reader of a dialect.
    #[must_use]
    pub fn new(dialect: Dialect, operation: Operation, asked: Asked) -> Self {
        match dialect {
            Dialect::OpenAi | Dialect::Azure => Self::openai(asked.include_usage, asked.n),
            Dialect::Anthropic => Self::Anthropic(asked.clone(), Box::new(anthropic::Stream::new(asked))),
            Dialect::Gemini => Self::Gemini(operation, asked.clone(), Box::new(gemini::Stream::new(asked))),
        }
    }

    /// An event of a stream. Comments of a provider whose events are translated are dropped.
    pub fn event(&mut self, event: Event) -> Heard {
        match (self, &event.data) {
            (
                Self::OpenAi {
                    include_usage,
                    unfinished,
                },
                _,
            ) => {
                let heard = openai::event(event, *include_usage);
                if let Heard::Chunk { chunk, .. } = &heard {
                    *unfinished = unfinished.saturating_sub(chunk.finished);
                }
                heard
            }
            (_, None) => Heard::Comment(Bytes::new()),
            (Self::Anthropic(_, stream), Some(data)) => stream.event(data),
            (Self::Gemini(_, _, stream), Some(data)) => stream.event(data),
        }
    }

    /// True when the usage in a chunk is the whole answer's, whatever follows. OpenAI's format has reports on the way too, which tell
    /// less than what will be billed; the translated ones tell nothing before the end.
    #[must_use]
    pub const fn is_total(&self, chunk: &Chunk) -> bool {
        match self {
            Self::OpenAi { unfinished, .. } => *unfinished == 0 && chunk.usage_only,
            Self::Anthropic(..) | Self::Gemini(..) => true,
        }
    }

    /// The events that end a stream whose bytes ended after the model had announced its end; `None` when a choice was still going on.
    pub fn end(&mut self) -> Option<Bytes> {
        match self {
            Self::OpenAi { unfinished, .. } => (*unfinished == 0).then_some(openai::DONE),
            Self::Anthropic(_, stream) => stream.end(),
            Self::Gemini(_, _, stream) => stream.end(),
        }
    }

    /// A whole answer, in OpenAI's format, as the events of a stream; `None` when it holds no choices.
    #[must_use]
    pub fn events(&self, answer: &[u8]) -> Option<Bytes> {
        let include_usage = match self {
            Self::OpenAi { include_usage, .. } => *include_usage,
            Self::Anthropic(asked, _) | Self::Gemini(_, asked, _) => asked.include_usage,
        };
        unstreamed::events(answer, include_usage)
    }

    /// A whole answer.
    #[must_use]
    pub fn read(&self, body: Bytes) -> Read {
        match self {
            Self::OpenAi { .. } => openai::read(body),
            Self::Anthropic(asked, _) => anthropic::read(&body, asked),
            Self::Gemini(operation, asked, _) => gemini::read(*operation, &body, asked),
        }
    }
}
