//! Whether a text complains that the request is longer than the model takes.

use std::sync::LazyLock;

use regex::Regex;

/// One alternative a wording; the subject is what was sent, never what should be generated.
const CONTEXT: [&str; 4] = [
    // The window itself, and that it is too small.
    r"context[ _-]?(window|length|limit|size)",
    r"\b(prompt|inputs?|messages?|conversation|context)\b[^.;{}]{0,60}\btoo (long|large)\b",
    r"\b(prompt|inputs?|messages?|conversation|context)\b[^;{}]{0,120}\btokens?\b|\btokens?\b[^;{}]{0,120}\b(prompt|inputs?|messages?|conversation)\b",
    r"maximum (prompt|input|model|sequence) length|model token limit|max token length|range of input length should be|request body too large for .{0,60}max size: [0-9]+ tokens",
];
/// What makes a mention of the window a complaint.
const EXCEEDS: &str = r"exceed|maximum|too (long|large|many)|longer than|larger than|greater than|reduce|overflow|not enough|must be <=|less than|only (supports|accepts)|supports (only )?up to|cannot fit|does not fit| > ";
/// Sizes that are not of tokens.
const OTHER_SIZES: &str =
    r"\b(images?|bytes|pixels?|files?|audio|video|pdf|pages?|[mk]i?b|megabytes|string too long|array too long)\b";

/// Faults of a field that name the window: a name that is not known, and Groq's limit of the output.
const OTHER_FAULTS: [&str; 4] = [
    "unknown parameter",
    "unknown name",
    "unrecognized",
    "maximum value for `max_",
];

struct Patterns {
    window: Option<Regex>,
    long: Option<Regex>,
    tokens: Option<Regex>,
    literal: Option<Regex>,
    exceeds: Option<Regex>,
    others: Option<Regex>,
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let [window, long, tokens, literal] = CONTEXT.map(|pattern| Regex::new(pattern).ok());
    Patterns {
        window,
        long,
        tokens,
        literal,
        exceeds: Regex::new(EXCEEDS).ok(),
        others: Regex::new(OTHER_SIZES).ok(),
    }
});

/// Whether a lower-case text complains that the request is longer than the model takes.
pub fn context(text: &str) -> bool {
    let is = |pattern: &Option<Regex>| pattern.as_ref().is_some_and(|p| p.is_match(text));
    let p = &*PATTERNS;
    // A limit of a minute speaks of tokens too.
    if ["per min", "per-min", "per day"].iter().any(|rate| text.contains(rate)) {
        return false;
    }
    if is(&p.literal) || (is(&p.window) && is(&p.exceeds)) {
        return !OTHER_FAULTS.iter().any(|fault| text.contains(fault));
    }
    if is(&p.others) {
        return false;
    }
    is(&p.long) || (is(&p.tokens) && is(&p.exceeds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        let p = &*PATTERNS;
        assert!(
            [&p.window, &p.long, &p.tokens, &p.literal, &p.exceeds, &p.others]
                .iter()
                .all(|p| p.is_some())
        );
    }

    #[test]
    fn other_lengths_are_no_context_length() {
        for text in [
            "invalid 'user': string too long. expected a string with maximum length 64, but got a string with length 91 instead.",
            "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens for claude-3-5-sonnet",
            "max_tokens is too large: 100000. this model supports at most 16384 completion tokens, whereas you provided 100000.",
            "messages.0.content.1.image.source.base64: image exceeds 5 mb maximum: 6000000 bytes > 5242880 bytes",
            "input image is too large",
            "request payload size exceeds the limit: 20971520 bytes.",
            "unable to submit request because it has a maxoutputtokens value of 100000 but the supported range is from 1 to 65537",
            "invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
            "thinking.enabled.budget_tokens: input should be greater than or equal to 1024",
            "unknown parameter: 'context_length'.",
            "`max_tokens` must be less than or equal to `32768`, the maximum value for `max_tokens` is less than the `context_window` for this model",
            "unrecognized request argument supplied: context_length",
            "invalid json payload received. unknown name \"maximum_context_length\": cannot find field.",
            "413 request entity too large",
            "invalid 'tools': array too long. expected an array with maximum length 128, but got an array with length 150 instead.",
        ] {
            assert!(!context(text), "{text}");
        }
    }
}
