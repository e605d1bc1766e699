//! What happens to one request instead of a working provider's answer.

use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::Notify;

/// One act of a script. Everything left out is as a working provider does it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Act {
    /// Row of the corpus, `PROVIDER/CONDITION`: its status, headers and body.
    pub row: Option<String>,
    /// HTTP status; 200 when absent.
    pub status: Option<u16>,
    /// Further headers; `content-length` replaces the true one, and the connection ends after the body.
    pub headers: Vec<(String, String)>,
    /// A whole body.
    pub body: Option<String>,
    /// The pieces of a stream, each with its blank line.
    pub events: Option<Vec<String>>,
    /// The key that is wanted; the request is refused with 401 when it has another.
    pub wants_key: Option<String>,
    /// Milliseconds before the head.
    pub delay_head_ms: u64,
    /// Milliseconds between head and body.
    pub delay_body_ms: u64,
    /// Milliseconds after each piece of a stream.
    pub gap_ms: u64,
    /// Milliseconds between single bytes: a slow drip.
    pub drip_ms: Option<u64>,
    /// An interim answer before the real one: 102, 103.
    pub interim: Option<u16>,
    /// How the body's end is told.
    pub framing: Framing,
    /// Bytes of the body after which its ending comes.
    pub cut_at: Option<usize>,
    /// What comes instead of the first byte of the head.
    pub before_head: Option<Ending>,
    /// What comes after the body.
    pub ending: Ending,
    /// What comes after the pieces and does not end by itself.
    pub flood: Option<Flood>,
    /// The rest of a stream, sent when a test opens the gate.
    #[serde(skip)]
    pub gate: Option<Gate>,
}

/// The rest of a stream and the word to send it.
#[derive(Clone, Debug)]
pub struct Gate {
    pub open: Arc<Notify>,
    pub rest: Vec<String>,
}

/// How the body's end is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Framing {
    /// `content-length` for a whole body, chunks for a stream.
    #[default]
    Usual,
    /// Chunks.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// As it should.
    #[default]
    Regular,
    /// The connection is closed (FIN), the body unfinished.
    Close,
    /// The connection is reset (RST).
    Reset,
    /// Nothing more comes, and the connection stays.
    Hang,
}

/// What does not end by itself. `gap_ms` paces events and comments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Flood {
    /// Header lines.
    Headers,
    /// One event without an end.
    Event,
    /// The last event of the stream again and again.
    Events,
    /// Comments.
    Comments,
    /// Bytes of a body.
    Body,
}

impl Act {
    /// A whole answer.
    pub fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<String>) -> Self {
        Self {
            status: Some(status),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            body: Some(body.into()),
            ..Self::default()
        }
    }

    /// A stream.
    pub fn stream(events: impl IntoIterator<Item = String>, ending: Ending) -> Self {
        Self {
            events: Some(events.into_iter().collect()),
            ending,
            ..Self::default()
        }
    }

    /// A row of the corpus.
    pub fn row(name: impl Into<String>) -> Self {
        Self {
            row: Some(name.into()),
            ..Self::default()
        }
    }

    /// No answer, or not even a head.
    pub fn silent(before_head: Ending) -> Self {
        Self {
            before_head: Some(before_head),
            ..Self::default()
        }
    }

    /// Something endless.
    pub fn flood(flood: Flood) -> Self {
        Self {
            flood: Some(flood),
            ..Self::default()
        }
    }

    /// Whether it says what the answer is.
    pub const fn has_answer(&self) -> bool {
        self.status.is_some() || self.body.is_some() || self.events.is_some()
    }
}
