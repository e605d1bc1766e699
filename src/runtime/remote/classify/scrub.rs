//! Texts of providers for people: short, on one line, without keys.

/// Characters that are kept, as status fields allow.
const KEPT: usize = 400;

/// The text without anything that looks like a key, at most 400 characters.
#[must_use]
pub fn shown(text: &str) -> String {
    let short: String = text.chars().take(KEPT).collect();
    let mut words = short.split_whitespace().map(scrubbed);
    let mut line = words.next().unwrap_or_default();
    for word in words {
        line.push(' ');
        line.push_str(&word);
    }
    line
}

/// Prefixes of keys; what follows is cut.
const PREFIXES: [&str; 5] = ["sk-", "sk_", "AIza", "gsk_", "hf_"];

fn scrubbed(word: &str) -> String {
    let hit = PREFIXES
        .iter()
        .filter_map(|prefix| word.find(prefix).map(|at| at + prefix.len()))
        .min();
    match hit.and_then(|end| word.get(..end)) {
        Some(kept) => format!("{kept}…"),
        None if looks_random(word) => "…".to_owned(),
        None => word.to_owned(),
    }
}

/// 32 letters and digits without a break are no word of any language.
fn looks_random(word: &str) -> bool {
    word.len() >= 32
        && word
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && word.bytes().any(|b| b.is_ascii_digit())
        && word.bytes().any(|b| b.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_cut_and_words_are_kept() {
        assert_eq!(
            shown("Incorrect API key provided: sk-proj-abc123."),
            "Incorrect API key provided: sk-…"
        );
        assert_eq!(shown("key=\"sk-abc\" is\nwrong"), "key=\"sk-… is wrong");
        assert_eq!(
            shown("token 0123456789abcdef0123456789abcdef refused"),
            "token … refused"
        );
        assert_eq!(
            shown("temperature must be non-negative, got -1.0."),
            "temperature must be non-negative, got -1.0."
        );
        assert_eq!(shown(&"ä ".repeat(1000)).chars().count(), KEPT - 1);
    }
}
