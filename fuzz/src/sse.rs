//! Streams: events do not depend on how their bytes arrive, and what the client gets of a translated stream is a stream of OpenAI's
//! that means what the provider's meant.

use std::collections::HashSet;

use inference_operator::{
    policy::pricing::Usage,
    runtime::{
        remote::{
            events::Chunk,
            sse::{Event, Parser},
            wire::{Asked, Dialect, Heard, Read, Reader, openai},
        },
        request::head::Operation,
    },
};
use serde_json::Value;

use crate::{json::beyond_value, pieces};

/// Counts that a sum of three does not overflow: beyond them the code says the most that it can.
const COUNTABLE: u64 = u64::MAX / 4;

/// Plays the bytes as a stream, and as a whole answer, in every format.
pub fn check(data: &[u8]) {
    let events = events(std::iter::once(data));
    assert_eq!(events, self::events(pieces(data)), "in pieces");
    assert_eq!(events, self::events(data.chunks(1)), "byte by byte");
    let joined: Vec<u8> = events.iter().flat_map(|event| event.raw.iter().copied()).collect();
    assert_eq!(joined, data, "not a byte is lost");
    let told = events.iter().filter_map(|event| event.data.as_deref());
    if told.chain([data]).any(beyond_value) {
        return read_only(&events, data);
    }
    for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini] {
        for include_usage in [false, true] {
            Played::new(dialect, include_usage).play(&events);
        }
        for operation in [Operation::Chat, Operation::Embeddings] {
            whole(dialect, operation, data);
        }
    }
}

/// Whatever comes of it, it ends.
fn read_only(events: &[Event], data: &[u8]) {
    for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini] {
        let mut reader = Reader::new(dialect, Operation::Chat, asked(true));
        for event in events {
            reader.event(event.clone());
        }
        reader.end();
        for operation in [Operation::Chat, Operation::Embeddings] {
            let _ = Reader::new(dialect, operation, asked(true)).read(data.to_vec().into());
        }
    }
}

/// All events, the unfinished one at the end too.
fn events<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Event> {
    let (mut parser, mut events) = (Parser::default(), Vec::new());
    for piece in pieces {
        parser.feed(piece);
        while let Some(event) = parser.take().expect("it is shorter than the longest event") {
            events.push(event);
        }
    }
    events.extend(parser.rest());
    events
}

fn asked(include_usage: bool) -> Asked {
    Asked {
        id: "chatcmpl-1".into(),
        created: 1,
        model: "m".into(),
        include_usage,
        n: 1,
        base64: include_usage,
    }
}

/// One stream on its way to a client.
struct Played {
    dialect: Dialect,
    include_usage: bool,
    reader: Reader,
    finished: bool,
    usage: Option<Usage>,
    told: Option<Usage>,
    calls: HashSet<(u64, u64)>,
}

impl Played {
    fn new(dialect: Dialect, include_usage: bool) -> Self {
        Self {
            dialect,
            include_usage,
            reader: Reader::new(dialect, Operation::Chat, asked(include_usage)),
            finished: false,
            usage: None,
            told: None,
            calls: HashSet::new(),
        }
    }

    /// As the request path does: until the end, an error, or the last byte.
    fn play(mut self, events: &[Event]) {
        for event in events {
            let raw = event.raw.clone();
            match self.reader.event(event.clone()) {
                Heard::Chunk { bytes, chunk } => self.chunk(&raw, &bytes, chunk),
                Heard::Done(bytes) => return self.done(&raw, &bytes),
                Heard::Comment(bytes) => assert!(bytes.is_empty() || self.is_openai() && bytes == raw),
                Heard::Malformed => {}
                Heard::Error | Heard::Blocked(_) => return,
            }
        }
        if let Some(bytes) = self.reader.end() {
            assert!(self.finished, "an end without a finish: a cut would be a success");
            self.done(&bytes.clone(), &bytes);
        }
    }

    fn is_openai(&self) -> bool {
        self.dialect == Dialect::OpenAi
    }

    fn chunk(&mut self, raw: &[u8], bytes: &[u8], chunk: Chunk) {
        self.finished |= chunk.finish.is_some();
        self.usage = chunk.usage.or(self.usage);
        if self.is_openai() {
            let left_out = chunk.usage_only && !self.include_usage;
            assert_eq!(bytes, if left_out { b"" } else { raw }, "byte for byte");
            return;
        }
        let mut heard = Chunk::default();
        for data in self.told_events(bytes) {
            let meant = meaning(&data);
            heard.content |= meant.content;
            heard.answers |= meant.answers;
            heard.finished += meant.finished;
            heard.finish = meant.finish.or(heard.finish);
            assert!(!meant.usage_only, "usage comes at the end");
        }
        assert_eq!(heard.content, chunk.content, "{}", String::from_utf8_lossy(bytes));
        assert_eq!(heard.finished, chunk.finished, "{}", String::from_utf8_lossy(bytes));
        assert_eq!(heard.answers, chunk.answers, "{}", String::from_utf8_lossy(bytes));
        assert!(
            heard.finish.is_some() || chunk.finish.is_none(),
            "the client must hear of the end too"
        );
    }

    /// The data of whole events, each an OpenAI chunk.
    fn told_events(&mut self, bytes: &[u8]) -> Vec<Value> {
        let events = events(std::iter::once(bytes));
        let chunks: Vec<Value> = events.iter().map(json_of).collect();
        for chunk in &chunks {
            assert_eq!(chunk["object"], "chat.completion.chunk");
            for choice in chunk["choices"].as_array().expect("choices") {
                self.calls_are_begun(choice);
            }
            assert!(self.include_usage || chunk["usage"].is_null(), "nobody asked for usage");
        }
        chunks
    }

    /// A call's first piece has its id and its name, later ones have neither.
    fn calls_are_begun(&mut self, choice: &Value) {
        for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let place = (
                choice["index"].as_u64().expect("index"),
                call["index"].as_u64().expect("index"),
            );
            let first = self.calls.insert(place);
            assert_eq!(
                call["id"].is_string() && call["function"]["name"].is_string(),
                first,
                "{call}"
            );
            assert!(call["function"]["arguments"].is_string(), "{call}");
        }
    }

    fn done(mut self, raw: &[u8], bytes: &[u8]) {
        if self.is_openai() {
            assert_eq!(bytes, raw);
            return;
        }
        let rest = bytes
            .strip_suffix(b"data: [DONE]\n\n")
            .expect("the end of OpenAI's streams");
        for chunk in self.told_events(rest) {
            self.told = meaning(&chunk).usage;
            assert!(self.told.is_some(), "only usage comes after the answer: {chunk}");
        }
        if self.finished && self.include_usage {
            same_usage(self.told, self.usage);
        }
        assert_eq!(self.reader.end(), None, "it ended already");
    }
}

fn json_of(event: &Event) -> Value {
    assert!(event.raw.ends_with(b"\n\n"), "a whole event");
    let data = event.data.as_deref().expect("data");
    serde_json::from_slice(data).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(data)))
}

/// What OpenAI's reader takes from one of our own events.
fn meaning(event: &Value) -> Chunk {
    match inference_operator::runtime::remote::events::meaning(event.to_string().as_bytes()) {
        inference_operator::runtime::remote::events::Meaning::Chunk(chunk) => chunk,
        other => panic!("{other:?}: {event}"),
    }
}

/// The client is told what is booked.
fn same_usage(told: Option<Usage>, booked: Option<Usage>) {
    let countable =
        |u: &Usage| u.input_tokens < COUNTABLE && u.output_tokens < COUNTABLE && u.reasoning_output_tokens < COUNTABLE;
    let plain = |u: Usage| Usage {
        cache_write_input_tokens: 0,
        ..u
    };
    if booked.as_ref().is_none_or(countable) {
        assert_eq!(told.map(plain), booked.map(plain));
    }
}

/// A translated answer is one of OpenAI's with the same usage.
fn whole(dialect: Dialect, operation: Operation, data: &[u8]) {
    let reader = Reader::new(dialect, operation, asked(true));
    let Read::Answer { body, chunk } = reader.read(data.to_vec().into()) else {
        return;
    };
    if dialect == Dialect::OpenAi {
        assert_eq!(body, data, "byte for byte");
        return;
    }
    let Read::Answer { chunk: again, .. } = openai::read(body.clone()) else {
        panic!("not OpenAI's: {}", String::from_utf8_lossy(&body));
    };
    assert_eq!(again.answers, chunk.answers);
    assert_eq!(again.finish.is_some(), chunk.finish.is_some());
    same_usage(
        again.usage,
        chunk.usage.map(|usage| tellable(dialect, operation, usage)),
    );
}

/// Of an embedding OpenAI's format tells the prompt and the total.
fn tellable(dialect: Dialect, operation: Operation, usage: Usage) -> Usage {
    match (dialect, operation) {
        (Dialect::Gemini, Operation::Embeddings) => Usage {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            ..Usage::default()
        },
        _ => usage,
    }
}
