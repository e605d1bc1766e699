//! A stream of `generateContent` as a stream of OpenAI's.

use bytes::Bytes;

use super::{
    answer::{self, Calls, Candidate, NoReply, Reply},
    openai::{self, Said, StreamChoice},
};
use crate::{
    policy::pricing::Usage,
    runtime::remote::{
        events::{Chunk, Finish},
        wire::{Asked, Blocked, Heard},
    },
};

/// Translates events. Gemini has no event that ends a stream: the body ends, and then [`Stream::end`] tells whether it was whole.
#[derive(Debug)]
pub struct Stream {
    /// Id and model are the provider's from its first event on, and then stay.
    asked: Asked,
    named: bool,
    candidates: Vec<Progress>,
    /// Calls of all candidates.
    calls: u64,
    /// Reported with or after the last finish; a total on the way would be too low.
    usage: Option<Usage>,
    ended: bool,
}

/// How far a candidate is.
#[derive(Clone, Copy, Debug)]
struct Progress {
    index: u64,
    begun: bool,
    calls: u64,
    finished: bool,
}

impl Stream {
    /// A stream that has not begun.
    #[must_use]
    pub const fn new(asked: Asked) -> Self {
        Self {
            asked,
            named: false,
            candidates: Vec::new(),
            calls: 0,
            usage: None,
            ended: false,
        }
    }

    /// What the data of an event means.
    pub fn event(&mut self, data: &[u8]) -> Heard {
        match answer::parse(data) {
            Ok(response) => self.answer(response, data.len()),
            Err(NoReply::Error) => Heard::Error,
            Err(NoReply::Malformed) => Heard::Malformed,
        }
    }

    /// The events that end the stream; `None` when the body ended before every candidate did, or when they were given.
    pub fn end(&mut self) -> Option<Bytes> {
        if self.ended || !self.finished() {
            return None;
        }
        self.ended = true;
        let usage = self.usage.filter(|_| self.asked.include_usage);
        let mut bytes = match usage {
            Some(usage) => openai::event(&self.asked, &[], Some(usage), 256)?.to_vec(),
            None => Vec::new(),
        };
        bytes.extend_from_slice(b"data: [DONE]\n\n");
        Some(bytes.into())
    }

    /// A candidate of which nothing has come yet is not finished either.
    fn finished(&self) -> bool {
        let ended = self.candidates.iter().filter(|c| c.finished).count();
        ended == self.candidates.len() && ended as u64 >= self.asked.n.max(1)
    }

    fn answer(&mut self, response: Reply<'_>, size: usize) -> Heard {
        let usage = response.usage();
        let blocked = response.blocked().map(ToOwned::to_owned);
        if let Some(reason) = blocked.clone().filter(|_| self.candidates.is_empty()) {
            return Heard::Blocked(Blocked { reason, usage });
        }
        if !self.named {
            self.named = true;
            response.name(&mut self.asked);
        }
        let (mut deltas, mut finish) = (Vec::new(), None);
        for candidate in response.candidates() {
            let (delta, ended) = self.candidate(candidate);
            finish = ended.or(finish);
            deltas.extend(delta);
        }
        if blocked.is_some() {
            finish = self.cut(&mut deltas).or(finish);
        }
        self.heard(&deltas, finish, usage, size)
    }

    /// What a candidate adds; none when it says nothing and goes on.
    fn candidate<'a>(&mut self, mut candidate: Candidate<'a>) -> (Option<StreamChoice<'a>>, Option<Finish>) {
        let (index, logprobs, reason) = (candidate.index(), candidate.logprobs(), candidate.reason());
        let mut progress = self.progress(index);
        let mut calls = Calls {
            named: self.calls,
            made: progress.calls,
        };
        let mut said = candidate.said(&self.asked.id, &mut calls);
        let finish = answer::finish(reason.as_ref(), calls);
        let silent = said.is_empty() && finish.is_none();
        if !silent && !progress.begun {
            said.role = Some("assistant");
            progress.begun = true;
        }
        progress.calls = calls.made;
        progress.finished |= finish.is_some();
        self.calls = calls.named;
        self.keep(progress);
        let delta = (!silent).then_some(StreamChoice {
            index,
            delta: said,
            logprobs,
            finish_reason: finish.map(|(reason, _)| reason),
        });
        (delta, finish.map(|(_, finish)| finish))
    }

    fn progress(&self, index: u64) -> Progress {
        let known = self.candidates.iter().find(|c| c.index == index);
        known.copied().unwrap_or(Progress {
            index,
            begun: false,
            calls: 0,
            finished: false,
        })
    }

    fn keep(&mut self, progress: Progress) {
        match self.candidates.iter_mut().find(|c| c.index == progress.index) {
            Some(known) => *known = progress,
            None => self.candidates.push(progress),
        }
    }

    /// Gemini blocked the prompt in the midst of its answer: what goes on is cut.
    fn cut(&mut self, deltas: &mut Vec<StreamChoice<'_>>) -> Option<Finish> {
        let mut finish = None;
        for candidate in self.candidates.iter_mut().filter(|c| !c.finished) {
            candidate.finished = true;
            finish = Some(Finish::ContentFilter);
            deltas.push(StreamChoice {
                index: candidate.index,
                delta: Said::default(),
                logprobs: None,
                finish_reason: Some("content_filter"),
            });
        }
        finish
    }

    fn heard(
        &mut self,
        deltas: &[StreamChoice<'_>],
        finish: Option<Finish>,
        usage: Option<Usage>,
        size: usize,
    ) -> Heard {
        let finished = self.finished();
        let usage = usage.filter(|_| finished);
        self.usage = usage.or(self.usage);
        let chunk = Chunk {
            content: !deltas.is_empty(),
            finish: finish.filter(|_| finished),
            finished: deltas.iter().filter(|delta| delta.finish_reason.is_some()).count() as u64,
            usage,
            usage_only: usage.is_some() && deltas.is_empty(),
            answers: !deltas.is_empty(),
            unfiltered: false,
        };
        if deltas.is_empty() {
            return Heard::Chunk {
                bytes: Bytes::new(),
                chunk,
            };
        }
        openai::event(&self.asked, deltas, None, size).map_or(Heard::Malformed, |bytes| Heard::Chunk { bytes, chunk })
    }
}
