//! JSON strings on the way of every request.

use std::fmt;

/// Writes a JSON string. Hardly any of ours needs escapes, and finding that out is quicker than serialising.
pub fn write_quoted(out: &mut impl fmt::Write, text: &str) -> fmt::Result {
    if text.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\')) {
        return out.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?);
    }
    out.write_str("\"")?;
    out.write_str(text)?;
    out.write_str("\"")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_serialisers(text: String) {
            let mut written = String::new();
            write_quoted(&mut written, &text).unwrap();
            prop_assert_eq!(written, serde_json::to_string(&text).unwrap());
        }
    }
}
