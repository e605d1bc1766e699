//! Steps through JSON that has been read once and is well formed, without taking it apart: nothing is copied or allocated, and what is
//! stepped into is not passed twice.

use memchr::{memchr_iter, memchr2};

/// A place in a document.
#[derive(Debug)]
pub struct Steps<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Steps<'a> {
    /// Before the first value.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The first byte of what comes next.
    pub fn peek(&mut self) -> Option<u8> {
        self.pass(b' ');
        self.byte()
    }

    /// Steps into an object or a list, which begins with `open`; false when something else comes.
    pub fn enter(&mut self, open: u8) -> bool {
        let enters = self.peek() == Some(open);
        self.at += usize::from(enters);
        enters
    }

    /// Whether another member or item comes; steps out behind `close` when none does.
    pub fn more(&mut self, close: u8) -> bool {
        self.pass(b',');
        let is_over = self.byte().is_none_or(|b| b == close);
        self.at = self.bytes.len().min(self.at + usize::from(is_over));
        !is_over
    }

    /// Passes the name of a member and gives what is written between its quotes.
    pub fn name(&mut self) -> &'a [u8] {
        let name = self.value();
        self.pass(b':');
        let inner = name.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        inner.unwrap_or(name)
    }

    /// Passes a value and gives it as it is written. However deep it is, there is no recursion.
    pub fn value(&mut self) -> &'a [u8] {
        self.pass(b' ');
        let begin = self.at;
        let mut depth = 0_usize;
        while let Some(byte) = self.byte() {
            match byte {
                b'"' => self.string(),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                _ => self.at += 1,
            }
            if depth == 0 && (matches!(byte, b'"' | b'}' | b']') || self.is_between()) {
                break;
            }
        }
        self.bytes.get(begin..self.at).unwrap_or_default()
    }

    fn byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Passes white space and `mark`s.
    fn pass(&mut self, mark: u8) {
        while self.byte().is_some_and(|b| b.is_ascii_whitespace() || b == mark) {
            self.at += 1;
        }
    }

    /// What is no string and has no brackets ends before whatever follows it.
    fn is_between(&self) -> bool {
        let ends = |b: u8| matches!(b, b',' | b':' | b'}' | b']') || b.is_ascii_whitespace();
        self.byte().is_none_or(ends)
    }

    /// Passes a string, most of it at many bytes a step.
    fn string(&mut self) {
        self.at += 1;
        while let Some(found) = self.bytes.get(self.at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
            self.at += found;
            if self.byte() == Some(b'"') {
                self.at += 1;
                return;
            }
            self.at += 2;
        }
        self.at = self.bytes.len();
    }
}

/// Commas and colons. What a server takes apart and writes again may have a space after each.
pub fn separators(body: &[u8]) -> u64 {
    (memchr_iter(b',', body).count() + memchr_iter(b':', body).count()) as u64
}

/// Objects of a body, those that texts quote left out.
#[must_use]
pub fn objects(json: &[u8]) -> usize {
    let mut count = 0;
    let mut steps = Steps::new(json);
    while let Some(byte) = steps.byte() {
        if byte == b'"' {
            steps.string();
        } else {
            count += usize::from(byte == b'{');
            steps.at += 1;
        }
    }
    count
}

/// Bytes that JSON grows by at most when it is written again over lines, each level indented by four spaces, as templates of models
/// do with the definitions of tools.
pub fn growth(json: &[u8]) -> u64 {
    const LEVEL: u64 = 4;
    let (mut depth, mut bytes) = (0_u64, 0_u64);
    let mut steps = Steps::new(json);
    while let Some(byte) = steps.byte() {
        match byte {
            b'"' => {
                steps.string();
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => {}
            _ => {
                steps.at += 1;
                continue;
            }
        }
        bytes = bytes.saturating_add(1 + LEVEL * depth);
        steps.at += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, ser::PrettyFormatter};

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i16>().prop_map(|quarters| Value::from(f64::from(quarters) / 4.0)),
            "[ -~\\n\\t\\\\\"{}\\[\\],:é∀]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 64, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map("[a-z\\\\\"{}:,]{0,6}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// The same document, put together from what the steps find.
    fn stepped(steps: &mut Steps<'_>) -> Value {
        let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        match steps.peek() {
            Some(b'{') => {
                let mut members = serde_json::Map::new();
                assert!(steps.enter(b'{'));
                while steps.more(b'}') {
                    let name = read(&[b"\"", steps.name(), b"\""].concat());
                    members.insert(name.as_str().unwrap().to_owned(), stepped(steps));
                }
                Value::Object(members)
            }
            Some(b'[') => {
                let mut items = Vec::new();
                assert!(steps.enter(b'['));
                while steps.more(b']') {
                    items.push(stepped(steps));
                }
                Value::Array(items)
            }
            _ => read(steps.value()),
        }
    }

    fn indented(value: &Value, indent: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let formatter = PrettyFormatter::with_indent(indent);
        serde::Serialize::serialize(
            value,
            &mut serde_json::Serializer::with_formatter(&mut bytes, formatter),
        )
        .unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn every_document_is_stepped_through(value in any_json()) {
            for text in [value.to_string().into_bytes(), indented(&value, b"\t ")] {
                prop_assert_eq!(&stepped(&mut Steps::new(&text)), &value);
                let mut whole = Steps::new(&text);
                prop_assert_eq!((whole.value(), whole.peek()), (&text[..], None), "passed in one step");
            }
        }

        #[test]
        fn the_growth_is_never_less_than_what_indenting_adds(value in any_json()) {
            let plain = value.to_string();
            let bound = plain.len() as u64 + growth(plain.as_bytes()) + separators(plain.as_bytes());
            prop_assert!(indented(&value, b"    ").len() as u64 <= bound);
        }

        #[test]
        fn no_bytes_hang_or_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            for (open, close) in [(b'{', b'}'), (b'[', b']')] {
                let mut steps = Steps::new(&bytes);
                let (_, mut count) = (steps.enter(open), 0);
                while steps.more(close) {
                    prop_assert!(!steps.name().is_empty() || !steps.value().is_empty() || steps.peek().is_none());
                    count += 1;
                }
                prop_assert!(count <= bytes.len());
            }
        }
    }
}
