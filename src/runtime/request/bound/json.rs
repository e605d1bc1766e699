//! Steps through JSON that has been read once and is well formed, without taking it apart: nothing is copied or allocated.

/// The members of an object: each name as it is written between its quotes, and the bytes of its value. None of anything else.
pub fn members(value: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut steps = Steps::into(value, b'{');
    std::iter::from_fn(move || {
        steps.next_is_before(b'}').then(|| {
            let name = steps.value();
            steps.pass(b':');
            (unquoted(name), steps.value())
        })
    })
}

/// The items of a list. None of anything else.
pub fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut steps = Steps::into(value, b'[');
    std::iter::from_fn(move || steps.next_is_before(b']').then(|| steps.value()))
}

fn unquoted(string: &[u8]) -> &[u8] {
    string
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .unwrap_or(string)
}

struct Steps<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Steps<'a> {
    fn into(value: &'a [u8], open: u8) -> Self {
        let bytes = value.trim_ascii_start();
        let at = if bytes.first() == Some(&open) { 1 } else { bytes.len() };
        Self { bytes, at }
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

    /// Whether something comes before `end`.
    fn next_is_before(&mut self, end: u8) -> bool {
        self.pass(b',');
        self.byte().is_some_and(|b| b != end)
    }

    /// Passes a value. However deep it is, there is no recursion.
    fn value(&mut self) -> &'a [u8] {
        let start = self.at;
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
            // What is no string and no bracket ends before whatever follows it.
            let ends = matches!(self.byte(), None | Some(b',' | b':' | b'}' | b']'));
            let ended =
                matches!(byte, b'"' | b'}' | b']') || ends || self.byte().is_some_and(|b| b.is_ascii_whitespace());
            if depth == 0 && ended {
                break;
            }
        }
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    fn string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.byte() {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                break;
            }
        }
    }
}

/// Commas and colons. What a server takes apart and writes again may have a space after each.
pub fn separators(body: &[u8]) -> u64 {
    body.iter().filter(|byte| matches!(byte, b',' | b':')).count() as u64
}

/// Bytes that JSON grows by at most when it is written again over lines, each level indented by four spaces, as templates of models
/// do with the definitions of tools.
pub fn growth(json: &[u8]) -> u64 {
    const LEVEL: u64 = 4;
    let (mut depth, mut bytes) = (0_u64, 0_u64);
    let mut steps = Steps { bytes: json, at: 0 };
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
    fn stepped(value: &[u8]) -> Value {
        let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        match value.first() {
            Some(b'{') => {
                let name = |name: &[u8]| read(&[b"\"", name, b"\""].concat()).as_str().unwrap().to_owned();
                Value::Object(members(value).map(|(n, v)| (name(n), stepped(v))).collect())
            }
            Some(b'[') => items(value).map(stepped).collect(),
            _ => read(value),
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
            prop_assert_eq!(&stepped(value.to_string().as_bytes()), &value);
            prop_assert_eq!(&stepped(&indented(&value, b"\t ")), &value);
        }

        #[test]
        fn the_growth_is_never_less_than_what_indenting_adds(value in any_json()) {
            let plain = value.to_string();
            let bound = plain.len() as u64 + growth(plain.as_bytes()) + separators(plain.as_bytes());
            prop_assert!(indented(&value, b"    ").len() as u64 <= bound);
        }

        #[test]
        fn no_bytes_hang_or_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(members(&bytes).count() <= bytes.len() && items(&bytes).count() <= bytes.len());
        }
    }

    #[test]
    fn only_lists_have_items_and_only_objects_members() {
        for value in ["[1]", "\"a\"", "1", "null", ""] {
            assert_eq!(members(value.as_bytes()).count(), 0, "{value}");
        }
        for value in ["{\"a\":1}", "\"a\"", "1", "null", ""] {
            assert_eq!(items(value.as_bytes()).count(), 0, "{value}");
        }
    }
}
