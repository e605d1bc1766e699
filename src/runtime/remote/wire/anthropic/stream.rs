//! The events of a stream.
//!
//! Text goes from event to event as the JSON it is, neither decoded nor encoded again. What all our events have in common
//! is written once.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Text;
use super::answer::{Counts, UsageOut, finish};
use super::events::{Arguments, Block, CallOut, Delta, Event, FunctionOut, Kind, Message, Out};
use crate::policy::pricing::Usage;
use crate::runtime::remote::events::Chunk;
use crate::runtime::remote::wire::{Asked, Heard};

/// Blocks of calls that may be open at once, and bytes of arguments that are kept for their ends.
const MOST_OPEN: usize = 128;
const MOST_KEPT: usize = 1024 * 1024;

/// A call whose block is open.
#[derive(Debug)]
struct OpenCall {
    /// Index of the block.
    block: u64,
    /// Index of the call, among calls.
    call: u64,
    /// Arguments to send at the end of the block, unless some come before it.
    unless_sent: Option<String>,
}

/// Translates the events of one stream.
#[derive(Debug)]
pub struct Stream {
    asked: Asked,
    /// Our events up to the value of `delta`.
    before: Vec<u8>,
    counts: Counts,
    /// Reported with the reason to stop or after it.
    usage: Option<Usage>,
    calls: u64,
    open: Vec<OpenCall>,
    finished: bool,
    ended: bool,
}

const DONE: &[u8] = b"data: [DONE]\n\n";

impl Stream {
    /// A stream that has not begun.
    #[must_use]
    pub fn new(asked: Asked) -> Self {
        let mut stream = Self {
            asked,
            before: Vec::new(),
            counts: Counts::default(),
            usage: None,
            calls: 0,
            open: Vec::new(),
            finished: false,
            ended: false,
        };
        stream.before = stream.common("[{\"index\":0,\"delta\":");
        stream
    }

    /// Takes the data of the next event.
    pub fn event(&mut self, data: &[u8]) -> Heard {
        let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else {
            return unreadable(data);
        };
        let heard = match event.kind.as_str() {
            "message_start" => event.message.map(|message| self.start(message)),
            "content_block_start" => event
                .content_block
                .and_then(|block| self.block_start(event.index?, &block)),
            "content_block_delta" => event.delta.and_then(|delta| self.delta(event.index?, &delta)),
            "content_block_stop" => event.index.map(|index| self.block_stop(index)),
            "message_delta" => event.delta.map(|delta| self.message_delta(&delta, event.usage)),
            "message_stop" => Some(Heard::Done(self.last())),
            "error" => Some(Heard::Error),
            _ => Some(nothing()),
        };
        heard.unwrap_or(Heard::Malformed)
    }

    /// What ends our stream when the provider's was cut after its answer was whole; `None` when it was not, or when our
    /// stream has ended already.
    pub fn end(&mut self) -> Option<Bytes> {
        (self.finished && !self.ended).then(|| self.last())
    }

    fn start(&mut self, message: Message<'_>) -> Heard {
        if let Some(id) = message.id {
            self.asked.id = id.0.into_owned();
        }
        if let Some(model) = message.model {
            self.asked.model = model.0.into_owned();
        }
        self.counts.replace(message.usage.unwrap_or_default());
        self.before = self.common("[{\"index\":0,\"delta\":");
        let role = Out {
            role: Some("assistant"),
            content: serde_json::from_str("\"\"").ok(),
            ..Out::default()
        };
        self.chunk(&role, false)
    }

    fn block_start(&mut self, index: u64, block: &Block<'_>) -> Option<Heard> {
        match block.kind.as_str() {
            "text" => block.text.map_or_else(|| Some(nothing()), |text| self.content(text)),
            "thinking" => block
                .thinking
                .map_or_else(|| Some(nothing()), |text| self.thinking(text)),
            "tool_use" => self.call(index, block),
            _ => Some(nothing()),
        }
    }

    fn call(&mut self, index: u64, block: &Block<'_>) -> Option<Heard> {
        let input = block.input.map_or("{}", RawValue::get);
        let kept: usize = self
            .open
            .iter()
            .filter_map(|open| Some(open.unless_sent.as_ref()?.len()))
            .sum();
        if self.open.len() >= MOST_OPEN || kept.saturating_add(input.len()) > MOST_KEPT {
            return None;
        }
        let call = self.calls;
        let out = CallOut {
            index: call,
            id: Some(block.id.filter(|id| is_text(id))?),
            kind: Some("function"),
            function: FunctionOut {
                name: Some(block.name.filter(|name| is_text(name))?),
                arguments: Arguments::Text(""),
            },
        };
        self.calls += 1;
        let input = input.to_owned();
        self.open.push(OpenCall {
            block: index,
            call,
            unless_sent: Some(input),
        });
        Some(self.chunk(
            &Out {
                tool_calls: Some([out]),
                ..Out::default()
            },
            true,
        ))
    }

    fn delta(&mut self, index: u64, delta: &Delta<'_>) -> Option<Heard> {
        match delta.kind.as_ref()?.as_str() {
            "text_delta" => self.content(delta.text?),
            "thinking_delta" => self.thinking(delta.thinking?),
            "input_json_delta" => self.arguments(index, delta.partial_json),
            _ => Some(nothing()),
        }
    }

    fn content(&self, text: &RawValue) -> Option<Heard> {
        let out = Out {
            content: Some(text),
            ..Out::default()
        };
        self.text(text, &out)
    }

    fn thinking(&self, text: &RawValue) -> Option<Heard> {
        let out = Out {
            reasoning_content: Some(text),
            ..Out::default()
        };
        self.text(text, &out)
    }

    fn text(&self, text: &RawValue, out: &Out<'_>) -> Option<Heard> {
        match text.get() {
            "\"\"" => Some(nothing()),
            _ if is_text(text) => Some(self.chunk(out, true)),
            _ => None,
        }
    }

    /// Blocks that are no call of ours are calls of Anthropic's own tools.
    fn arguments(&mut self, index: u64, json: Option<&RawValue>) -> Option<Heard> {
        let Some(json) = json.filter(|json| json.get() != "\"\"") else {
            return Some(nothing());
        };
        if !is_text(json) {
            return None;
        }
        let Some(open) = self.open.iter_mut().rfind(|open| open.block == index) else {
            return Some(nothing());
        };
        open.unless_sent = None;
        let call = open.call;
        Some(self.more_arguments(call, Arguments::Json(json)))
    }

    fn more_arguments(&self, call: u64, arguments: Arguments<'_>) -> Heard {
        let out = CallOut {
            index: call,
            id: None,
            kind: None,
            function: FunctionOut { name: None, arguments },
        };
        self.chunk(
            &Out {
                tool_calls: Some([out]),
                ..Out::default()
            },
            true,
        )
    }

    /// A call without arguments has `{}`: clients parse the text.
    fn block_stop(&mut self, index: u64) -> Heard {
        let Some(at) = self.open.iter().rposition(|open| open.block == index) else {
            return nothing();
        };
        let open = self.open.swap_remove(at);
        match open.unless_sent {
            Some(input) => self.more_arguments(open.call, Arguments::Text(&input)),
            None => nothing(),
        }
    }

    /// Usage counts once the reason to stop is known: what comes before is no total, and would settle too little.
    fn message_delta(&mut self, delta: &Delta<'_>, usage: Option<Counts>) -> Heard {
        self.counts.replace(usage.unwrap_or_default());
        let said = delta.stop_reason.as_ref().map(|reason| finish(reason.as_str()));
        let first = said.filter(|_| !self.finished);
        self.finished |= said.is_some();
        let finish = first.map(|(_, finish)| finish);
        let counts = usage.is_some_and(|usage| usage.counts_output());
        let usage = self.counts.usage().filter(|_| self.finished && counts);
        self.usage = usage.or(self.usage);
        Heard::Chunk {
            bytes: first.map_or_else(Bytes::new, |(word, _)| self.written(&Out::default(), Some(word))),
            chunk: Chunk {
                content: finish.is_some(),
                finish,
                finished: u64::from(finish.is_some()),
                usage,
                usage_only: false,
                answers: finish.is_some(),
                unfiltered: false,
            },
        }
    }

    fn last(&mut self) -> Bytes {
        self.ended = true;
        let usage = self.usage.filter(|_| self.asked.include_usage);
        let mut bytes = Vec::new();
        if let Some(usage) = usage {
            bytes = self.common("[],\"usage\":");
            write(&mut bytes, &UsageOut::from(usage));
            bytes.extend_from_slice(b"}\n\n");
        }
        bytes.extend_from_slice(DONE);
        bytes.into()
    }

    fn chunk(&self, out: &Out<'_>, content: bool) -> Heard {
        Heard::Chunk {
            bytes: self.written(out, None),
            chunk: Chunk {
                content,
                answers: true,
                ..Chunk::default()
            },
        }
    }

    fn written(&self, out: &Out<'_>, finish_reason: Option<&'static str>) -> Bytes {
        let text = out
            .content
            .or(out.reasoning_content)
            .map_or(160, |text| text.get().len());
        let mut bytes = Vec::with_capacity(self.before.len() + text + 96);
        bytes.extend_from_slice(&self.before);
        write(&mut bytes, out);
        bytes.extend_from_slice(b",\"finish_reason\":");
        write(&mut bytes, &finish_reason);
        bytes.extend_from_slice(if self.asked.include_usage {
            b"}],\"usage\":null}\n\n"
        } else {
            b"}]}\n\n"
        });
        bytes.into()
    }

    /// An event up to its choices, which begin as given.
    fn common(&self, choices: &str) -> Vec<u8> {
        let mut bytes = b"data: {\"id\":".to_vec();
        write(&mut bytes, &self.asked.id);
        bytes.extend_from_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
        write(&mut bytes, &self.asked.created);
        bytes.extend_from_slice(b",\"model\":");
        write(&mut bytes, &self.asked.model);
        bytes.extend_from_slice(b",\"choices\":");
        bytes.extend_from_slice(choices.as_bytes());
        bytes
    }
}

/// Writing such values to memory cannot fail.
fn write(bytes: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(bytes, value).unwrap_or_default();
}

fn is_text(raw: &RawValue) -> bool {
    raw.get().starts_with('"')
}

/// An event that says nothing to the client.
fn nothing() -> Heard {
    Heard::Chunk {
        bytes: Bytes::new(),
        chunk: Chunk::default(),
    }
}

/// Events of types not known may have any shape.
fn unreadable(data: &[u8]) -> Heard {
    let Ok(Kind { kind, error }) = serde_json::from_slice::<Kind<'_>>(data) else {
        return Heard::Malformed;
    };
    match kind.as_ref().map(Text::as_str) {
        Some("error") => Heard::Error,
        None if error.is_some() => Heard::Error,
        None
        | Some(
            "message_start"
            | "content_block_start"
            | "content_block_delta"
            | "content_block_stop"
            | "message_delta"
            | "message_stop",
        ) => Heard::Malformed,
        Some(_) => nothing(),
    }
}
