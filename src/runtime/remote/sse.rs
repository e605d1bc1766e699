//! Server-sent events, cut at their blank lines and passed on byte for byte.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes one event may have; what is longer is no event of a chat.
pub const MAX_EVENT: usize = 4 * 1024 * 1024;

/// One event as it came, its blank line included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The bytes as they came.
    pub raw: Bytes,
    /// The `data` fields, joined by newlines; `None` for comments and events without data.
    pub data: Option<Bytes>,
}

/// An event is longer than [`MAX_EVENT`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than {MAX_EVENT} bytes")]
pub struct TooLong;

/// Cuts a stream of bytes into events.
#[derive(Debug, Default)]
pub struct Parser {
    buffer: BytesMut,
    /// Bytes of `buffer` that hold no end of an event.
    scanned: usize,
}

impl Parser {
    /// Takes the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole event.
    pub fn take(&mut self) -> Result<Option<Event>, TooLong> {
        let end = end_of_event(&self.buffer, self.scanned);
        if end.unwrap_or(self.buffer.len()) > MAX_EVENT {
            return Err(TooLong);
        }
        let Some(end) = end else {
            self.scanned = self.buffer.len().saturating_sub(3);
            return Ok(None);
        };
        self.scanned = 0;
        Ok(Some(event(self.buffer.split_to(end).freeze())))
    }

    /// What is left when the stream ends: an event without its blank line.
    pub fn rest(&mut self) -> Option<Event> {
        self.scanned = 0;
        let raw = self.buffer.split().freeze();
        (!raw.is_empty()).then(|| event(raw))
    }
}

/// Index after the first blank line at or after `from`. Lines end in LF, CR LF or CR.
fn end_of_event(buffer: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = buffer.get(at..)?.iter().position(|b| matches!(b, b'\n' | b'\r')) {
        let line_end = skip_line_end(buffer, at + found)?;
        match buffer.get(line_end) {
            Some(b'\n') => return Some(line_end + 1),
            Some(b'\r') => return skip_line_end(buffer, line_end),
            Some(_) => at = line_end,
            None => return None,
        }
    }
    None
}

/// Index after the line end at `at`; `None` while a CR may still be followed by its LF.
fn skip_line_end(buffer: &[u8], at: usize) -> Option<usize> {
    match (buffer.get(at)?, buffer.get(at + 1)) {
        (b'\r', None) => None,
        (b'\r', Some(b'\n')) => Some(at + 2),
        _ => Some(at + 1),
    }
}

fn event(raw: Bytes) -> Event {
    let mut data: Option<Bytes> = None;
    for line in raw.split(|b| matches!(b, b'\n' | b'\r')) {
        let Some(value) = line.strip_prefix(b"data:") else {
            continue;
        };
        let value = raw.slice_ref(value.strip_prefix(b" ").unwrap_or(value));
        data = Some(match data {
            None => value,
            Some(before) => joined(&before, &value),
        });
    }
    Event { raw, data }
}

fn joined(before: &Bytes, value: &Bytes) -> Bytes {
    let mut whole = BytesMut::with_capacity(before.len() + value.len() + 1);
    whole.extend_from_slice(before);
    whole.extend_from_slice(b"\n");
    whole.extend_from_slice(value);
    whole.copy_to_bytes(whole.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(parser: &mut Parser) -> Vec<Event> {
        std::iter::from_fn(|| parser.take().unwrap()).collect()
    }

    #[test]
    fn events_are_cut_at_blank_lines_of_every_kind() {
        let mut parser = Parser::default();
        parser.feed(b"data: a\n\n: comment\r\n\r\nevent: x\rdata:b\rdata: c\r\rdata: d\n\r\nrest");
        let events = all(&mut parser);
        let data: Vec<_> = events.iter().map(|e| e.data.as_deref()).collect();
        assert_eq!(data, [Some(&b"a"[..]), None, Some(b"b\nc"), Some(b"d")]);
        assert_eq!(parser.rest().unwrap().raw, "rest");
        assert_eq!(parser.rest(), None);
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = Parser::default();
        parser.feed(&vec![b'x'; MAX_EVENT + 1]);
        assert_eq!(parser.take(), Err(TooLong));
        // Whether it came whole or not.
        let mut parser = Parser::default();
        parser.feed(&[vec![b'x'; MAX_EVENT], b"\n\n".to_vec()].concat());
        assert_eq!(parser.take(), Err(TooLong));
    }

    proptest! {
        #[test]
        fn however_the_bytes_arrive_the_events_are_the_same(
            text in "(data: [a-z]{0,5}|: ka|event: e|)?(\n|\r\n|\r|\n\n|\r\n\r\n){1,3}(data: z(\n|\r)){0,3}.{0,10}",
            cuts in proptest::collection::vec(1..6_usize, 0..20),
        ) {
            let bytes = format!("{text}\n\nend").into_bytes();
            let mut whole = Parser::default();
            whole.feed(&bytes);
            let expected = all(&mut whole);
            let (mut parts, mut events, mut at) = (Parser::default(), Vec::new(), 0_usize);
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let end = at.saturating_add(cut).min(bytes.len());
                parts.feed(&bytes[at..end]);
                events.extend(all(&mut parts));
                at = end;
            }
            prop_assert_eq!(&events, &expected);
            let mut raw: Vec<u8> = events.iter().flat_map(|e| e.raw.to_vec()).collect();
            raw.extend(parts.rest().map(|e| e.raw.to_vec()).unwrap_or_default());
            prop_assert_eq!(raw, bytes, "not a byte is lost");
        }
    }
}
