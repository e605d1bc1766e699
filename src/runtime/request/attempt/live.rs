//! A stream whose events are judged as they pass.

use std::{collections::VecDeque, pin::Pin};

use bytes::Bytes;
use futures::FutureExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{bench::Bench, blocked, failed, nonsense};
use crate::{
    error::InferenceError,
    policy::pricing::Usage,
    runtime::{
        remote::{
            classify::classify_event,
            events::{Chunk, Finish},
            sse::{Event, Parser},
            wire::{Heard, Reader},
        },
        request::{
            outcome::{Miss, Progress},
            target::Timers,
        },
    },
};

/// Events that are held back while no content comes, and their bytes; a stream of more is passed on as it is.
const MAX_HELD: usize = 256;
const MAX_HELD_BYTES: usize = 1024 * 1024;

/// A stream whose events are judged as they pass.
#[derive(Debug)]
pub struct Live {
    pub(super) bench: Bench,
    incoming: Incoming,
    parser: Parser,
    reader: Reader,
    /// Events that came before the first content.
    held: VecDeque<Bytes>,
    held_bytes: usize,
    started: bool,
    /// Part of an answer has come, though no content: the provider has read the prompt.
    answering: bool,
    /// Since when no event with data has come.
    quiet_since: Instant,
    /// Wakes no later than the deadline; moved only when it must be, not with every event.
    timer: Pin<Box<Sleep>>,
    finish: Option<Finish>,
    reported: Reported,
    end: End,
}

/// What was reported last, unless more of the answer has come since.
#[derive(Clone, Copy, Debug)]
enum Reported {
    Nothing,
    /// With part of the answer: the whole answer's if nothing follows.
    OnTheWay(Usage),
    /// The whole answer's, whatever follows.
    Total(Usage),
}

/// How the stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotYet,
    /// Its bytes did.
    OfBytes,
    /// The provider said so.
    Said,
}

/// The next piece for the client.
#[derive(Debug)]
pub enum Piece {
    /// Whole events.
    Events(Bytes),
    /// The regular end.
    End,
}

impl Live {
    /// Nothing of it was read yet.
    pub(super) fn new(bench: Bench, incoming: Incoming, reader: Reader) -> Box<Self> {
        Box::new(Self {
            quiet_since: bench.started,
            timer: Box::pin(sleep_until(bench.started + bench.target.timers.first_token)),
            bench,
            incoming,
            parser: Parser::default(),
            reader,
            held: VecDeque::new(),
            held_bytes: 0,
            started: false,
            answering: false,
            finish: None,
            reported: Reported::Nothing,
            end: End::NotYet,
        })
    }

    /// Waits for the first content of an answer.
    pub(super) async fn await_content(&mut self) -> Result<(), Miss> {
        while !self.started {
            match self.pull().await? {
                Piece::Events(bytes) => {
                    self.held_bytes += bytes.len();
                    self.held.push_back(bytes);
                }
                Piece::End => return Err(nonsense("the stream ended without content")),
            }
            self.started |= self.held.len() >= MAX_HELD || self.held_bytes >= MAX_HELD_BYTES;
        }
        Ok(())
    }

    /// The next piece; after an error or the end nothing more may be asked.
    pub async fn next(&mut self) -> Result<Piece, Miss> {
        // Held bytes of a context that is gone must not leave either.
        if let Some(engine) = self.bench.gone() {
            return Err(Miss::sent(engine.why_gone().await));
        }
        match self.held.pop_front() {
            Some(bytes) => Ok(Piece::Events(bytes)),
            None if self.end != End::NotYet => Ok(Piece::End),
            None => self.pull().await,
        }
    }

    /// Tokens of the whole answer, once that is certain. A report on the way tells less than what will be billed.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        match self.reported {
            Reported::Total(usage) => Some(usage),
            Reported::OnTheWay(usage) => (self.end == End::Said).then_some(usage),
            Reported::Nothing => None,
        }
    }

    /// Why the model stopped, once it has.
    #[must_use]
    pub const fn finish(&self) -> Option<Finish> {
        self.finish
    }

    async fn pull(&mut self) -> Result<Piece, Miss> {
        loop {
            match self.parser.take() {
                Err(error) => return Err(nonsense(&error.to_string())),
                Ok(Some(event)) => {
                    if let Some(piece) = self.judge(event)? {
                        return Ok(piece);
                    }
                }
                Ok(None) => {
                    if let Some(bytes) = self.read().await? {
                        self.parser.feed(&bytes);
                    } else {
                        return self.end_of_bytes();
                    }
                }
            }
        }
    }

    /// Judges an event; `None` when nothing of it is for the client.
    fn judge(&mut self, event: Event) -> Result<Option<Piece>, Miss> {
        let data = event.data.clone();
        if data.is_some() {
            self.quiet_since = Instant::now();
        }
        let bytes = match self.reader.event(event) {
            Heard::Comment(bytes) => bytes,
            Heard::Done(bytes) => {
                self.done();
                if self.finish == Some(Finish::Failed) {
                    return Err(self.broken_off());
                }
                return Ok(Some(if self.started { Piece::Events(bytes) } else { Piece::End }));
            }
            Heard::Malformed => {
                self.bench.asker.metrics.malformed_event();
                return Ok(None);
            }
            Heard::Error => return Err(self.error_event(&data.unwrap_or_default())),
            Heard::Blocked(prompt) => return Err(blocked(&self.bench, prompt)),
            Heard::Chunk { bytes, chunk } => {
                self.take_in(chunk);
                bytes
            }
        };
        Ok((!bytes.is_empty()).then_some(Piece::Events(bytes)))
    }

    fn done(&mut self) {
        self.end = End::Said;
        // Lets the connection go back to its pool when the end of the body has come already.
        let _ = self.incoming.frame().now_or_never();
    }

    fn take_in(&mut self, chunk: Chunk) {
        // Errors, comments and roles come from a front whose engine is dead, too.
        if chunk.content {
            self.bench.beat();
        }
        self.started |= chunk.content;
        self.answering |= chunk.answers;
        // Of several choices one has failed: the others do not mend that.
        if self.finish != Some(Finish::Failed) {
            self.finish = chunk.finish.or(self.finish);
        }
        self.reported = match chunk.usage {
            Some(usage) if self.reader.is_total(&chunk) => Reported::Total(usage),
            Some(usage) => Reported::OnTheWay(usage),
            None if chunk.content => Reported::Nothing,
            None => self.reported,
        };
        if chunk.unfiltered {
            self.bench.asker.metrics.unfiltered_answer();
        }
    }

    fn broken_off(&self) -> Miss {
        failed(self.usage())
    }

    fn error_event(&self, data: &[u8]) -> Miss {
        let progress = if self.started || self.answering {
            Progress::Sent
        } else {
            Progress::Answered
        };
        Miss::at(progress, classify_event(self.bench.source(), data))
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Miss> {
        // The timer is not looked at as long as there is something to read.
        if Instant::now() >= self.bench.total() {
            return Err(self.bench.overlong());
        }
        loop {
            let deadline = self.deadline();
            if deadline < self.timer.deadline() {
                self.timer.as_mut().reset(deadline);
            }
            let frame = tokio::select! {
                biased;
                miss = self.bench.until_gone() => return Err(miss),
                frame = self.incoming.frame() => frame,
                () = self.timer.as_mut() => {
                    if Instant::now() >= deadline {
                        return Err(self.bench.timed_out());
                    }
                    self.timer.as_mut().reset(deadline);
                    continue;
                }
            };
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.bench.broken(&error).await),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// Comments do not move it: a backend that only keeps the connection alive is silent.
    fn deadline(&self) -> Instant {
        let Timers {
            first_token,
            idle,
            total: _,
        } = self.bench.target.timers;
        let quiet = if self.started {
            self.quiet_since + idle
        } else {
            self.bench.started + first_token
        };
        quiet.min(self.bench.total())
    }

    /// The body ended without the provider's end marker: an end that the model announced is one, any other is a cut.
    fn end_of_bytes(&mut self) -> Result<Piece, Miss> {
        if let Some(event) = self.parser.rest()
            && let Some(piece) = self.judge(event)?
        {
            return Ok(piece);
        }
        if self.end != End::NotYet {
            return Ok(Piece::End);
        }
        self.end = End::OfBytes;
        if self.finish == Some(Finish::Failed) {
            return Err(self.broken_off());
        }
        match self.reader.end() {
            Some(bytes) if self.finish.is_some() => Ok(Piece::Events(bytes)),
            _ => Err(Miss::sent(InferenceError::NetworkError {
                message: "the stream was cut before the answer's end".into(),
            })),
        }
    }
}
