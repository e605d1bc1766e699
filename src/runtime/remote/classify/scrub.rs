//! Texts of providers for people: short, on one line, without keys.

use std::{borrow::Cow, sync::LazyLock};

use regex::{Captures, Regex};
use secrecy::{ExposeSecret, SecretString};

/// Characters that are kept, as status fields allow.
const KEPT: usize = 400;
/// Characters that are searched for keys: more than are kept, so that none is cut in two before it is known as one.
const SEARCHED: usize = 4096;
/// What stands for a key.
const CUT: &str = "…";

/// The text without anything that looks like a key, at most 400 characters.
#[must_use]
pub fn shown(text: &str) -> String {
    shown_without(text, None)
}

/// The same, and without the key that the answer came to, whatever it looks like.
#[must_use]
pub fn shown_without(text: &str, secret: Option<&SecretString>) -> String {
    let text = searched(text);
    let text = match secret.map(ExposeSecret::expose_secret) {
        Some(secret) if !secret.is_empty() => text.replace(secret, CUT),
        _ => text,
    };
    line(&scrubbed(&text))
}

fn searched(text: &str) -> String {
    text.chars().take(SEARCHED).collect()
}

fn line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line.chars().take(KEPT).collect()
}

/// What keys look like; the group `keep` stays.
const PATTERNS: [&str; 7] = [
    // JSON Web Tokens, Google's short-lived tokens too.
    r"\b(?P<keep>)(?:ey[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*|ya29\.[A-Za-z0-9._-]+)",
    // What is called a key where it is written, in a header, a field or a URL.
    r#"(?i)(?P<keep>(?:api[-_ ]?key|subscription-key|access[-_]?token|auth[-_]?token|refresh[-_]?token|secret|password|passwd|authorization|[?&](?:key|token|sig|signature|code))\\?["']?\s*(?:=|:|%3d)\s*\\?["'`]?)(?:(?:bearer|basic)\s+)?[^\s"'`,;&<>{}()\\]{6,}"#,
    r#"(?i)(?P<keep>\bbearer["']?\s+["']?)[A-Za-z0-9._~+/=-]{8,}"#,
    r"(?i)(?P<keep>\bbasic\s+)[A-Za-z0-9+/_=-]{16,}",
    // Prefixes that providers give their keys; those that begin words too need a key's length.
    r"(?:\b|_)(?P<keep>sk-|sk_|AIza|gsk_|xai-|pplx-|nvapi-|github_pat_|ghp_|gho_|glpat-)[A-Za-z0-9_*-][A-Za-z0-9_*.+/=-]*",
    r"(?:\b|_)(?P<keep>hf_|rk_|pk-|r8_|fw_|csk-|tgp_v1_|AQ\.|AKIA|ASIA|ABSK|xox[abps]-|dapi)[A-Za-z0-9_*.+/=-]{16,}",
    // 32 letters and digits without a break are no word of any language.
    r"(?P<keep>)[A-Za-z0-9+/_-]{32,}={0,2}",
];

static KEYS: LazyLock<Vec<Regex>> = LazyLock::new(|| PATTERNS.iter().filter_map(|p| Regex::new(p).ok()).collect());

fn scrubbed(text: &str) -> String {
    let mut text = Cow::Borrowed(text);
    let (last, named) = match KEYS.split_last() {
        Some(parts) if KEYS.len() == PATTERNS.len() => parts,
        // A pattern that does not compile must not mean that keys are shown.
        _ => return CUT.to_owned(),
    };
    for pattern in named {
        let cut = pattern.replace_all(&text, |found: &Captures<'_>| format!("{}{CUT}", kept(found)));
        text = Cow::Owned(cut.into_owned());
    }
    last.replace_all(&text, |found: &Captures<'_>| {
        let word = found.get(0).map_or("", |m| m.as_str());
        if looks_random(word) {
            CUT.to_owned()
        } else {
            word.to_owned()
        }
    })
    .into_owned()
}

fn kept<'a>(found: &'a Captures<'_>) -> &'a str {
    found.name("keep").map_or("", |m| m.as_str())
}

/// Letters and digits mixed. Names that are put together from words (`generate_content_free_tier_requests`, paths, UUIDs) are none,
/// nor are request ids, which people need to ask the provider.
fn looks_random(word: &str) -> bool {
    let has = |is: fn(&u8) -> bool| word.bytes().any(|b| is(&b));
    let id = ["req_", "req-", "chatcmpl-", "resp_", "msg_"]
        .iter()
        .any(|prefix| word.starts_with(prefix));
    let longest = word.split(['-', '_', '/', '+']).map(str::len).max().unwrap_or(0);
    !id && longest >= 20 && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_cut_and_words_are_kept() {
        assert_eq!(KEYS.len(), PATTERNS.len());
        for (text, expected) in [
            (
                "Incorrect API key provided: sk-proj-abc123.",
                "Incorrect API key provided: sk-…",
            ),
            ("key=\"sk-abc\" is\nwrong", "key=\"sk-…\" is wrong"),
            ("token 0123456789abcdef0123456789abcdef refused", "token … refused"),
            (
                "temperature must be non-negative, got -1.0.",
                "temperature must be non-negative, got -1.0.",
            ),
            (
                "GET https://x.test/v1?key=AIzaSyBXl6jt1SuzqmOwjolX0tMxHCTxA2BfTtk&alt=sse",
                "GET https://x.test/v1?key=…&alt=sse",
            ),
            ("Authorization: Bearer abc.def-ghi123", "Authorization: …"),
            ("header 'Bearer abcdefgh1234' refused", "header 'Bearer …' refused"),
            ("api-key: 'zz99zz99', other", "api-key: '…', other"),
            (r#"{"api_key":"short-secret","a":1}"#, r#"{"api_key":"…","a":1}"#),
            ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc_def-ghi end", "jwt … end"),
            (
                "request id req_011CUWu7a8bGeMSvA9d7DRLa011CUWu7a8bGeM",
                "request id req_011CUWu7a8bGeMSvA9d7DRLa011CUWu7a8bGeM",
            ),
            (
                "metric generativelanguage.googleapis.com/generate_content_free_tier_requests",
                "metric generativelanguage.googleapis.com/generate_content_free_tier_requests",
            ),
            (
                "team 16f2151a-40f4-4a80-8ad0-cae00c27e8dd has no credits",
                "team 16f2151a-40f4-4a80-8ad0-cae00c27e8dd has no credits",
            ),
            (
                "The api key is invalid: ask for another",
                "The api key is invalid: ask for another",
            ),
            (
                "basic authentication is not supported",
                "basic authentication is not supported",
            ),
            (
                "a task-specific, risk-based key-value store",
                "a task-specific, risk-based key-value store",
            ),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert_eq!(shown(&"ä ".repeat(1000)).chars().count(), KEPT);
    }

    #[test]
    fn a_known_key_is_cut_whatever_it_looks_like() {
        let without = |text, secret: &str| shown_without(text, Some(&secret.into()));
        assert_eq!(without("refused: plain-word.", "plain-word"), "refused: ….");
        assert_eq!(without("nothing to hide", ""), "nothing to hide");
    }

    #[test]
    fn a_key_on_the_edge_is_cut_whole() {
        let text = format!("{} AIza{}", "x ".repeat(KEPT / 2 - 5), "B".repeat(35));
        assert!(!shown(&text).contains('B'), "{}", shown(&text));
    }

    /// Keys of the shapes that providers give out, and the part of them that is secret.
    fn key() -> impl Strategy<Value = (String, String)> {
        prop_oneof![
            ("sk-(proj-|ant-api03-|or-v1-|svcacct-)?", "[A-Za-z0-9]{20,48}"),
            ("AIza", "Sy[A-Za-z0-9_-]{33}"),
            ("gsk_", "[A-Za-z0-9]{52}"),
            ("hf_", "[A-Za-z]{34}"),
            ("xai-", "[A-Za-z0-9]{80}"),
            ("nvapi-", "[A-Za-z0-9_-]{64}"),
            ("pplx-", "[a-f0-9]{48}"),
            ("", "[0-9a-f]{16}[0-9][a-f][0-9a-f]{14}"),
            ("", "eyJ[A-Za-z0-9]{20,30}\\.[A-Za-z0-9_-]{20,60}\\.[A-Za-z0-9]{20,43}"),
            ("Bearer ", "[A-Za-z0-9._-]{12,60}"),
            ("api-key: ", "[A-Za-z0-9]{12,40}"),
            ("\\?key=", "[A-Za-z0-9_-]{12,40}"),
            ("\"api_key\":\"", "[A-Za-z0-9_-]{12,40}"),
        ]
    }

    proptest! {
        #[test]
        fn no_key_survives(
            before in "[a-z ]{0,30}[ \"'`(=:,\\[{]",
            (prefix, secret) in key(),
            after in "([ \"'`),;\\]}&\n][a-z .]{0,30})?",
        ) {
            let found = shown(&format!("{before}{prefix}{secret}{after}"));
            prop_assert!(!found.contains(&secret), "{found}");
            // Not even most of it.
            if let Some(half) = secret.get(secret.len() / 2..) {
                prop_assert!(!found.contains(half), "{half} in {found}");
            }
        }

        #[test]
        fn any_text_stays_short(text in "\\PC{0,600}") {
            prop_assert!(shown(&text).chars().count() <= KEPT);
        }
    }
}
