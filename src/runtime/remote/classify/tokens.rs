//! Token counts of a request that is too long: how many were asked for, how many are allowed. What nobody told stays unknown.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// Both counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tokens of the request, output included where the provider counts it.
    pub tokens: Option<u64>,
    /// Tokens the model takes.
    pub most: Option<u64>,
}

impl Counts {
    /// llama.cpp's fields.
    pub fn of_fields(value: &Value) -> Self {
        Self {
            tokens: value.get("n_prompt_tokens").and_then(Value::as_u64),
            most: value.get("n_ctx").and_then(Value::as_u64),
        }
    }

    /// What is known, completed by another source.
    pub fn or(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.or(other.tokens),
            most: self.most.or(other.most),
        }
    }
}

/// Ways to say both at once: the pattern, the groups that add up to the request, the group of the limit.
const BOTH: [(&str, &[usize], usize); 4] = [
    // Anthropic: input + max_tokens > window.
    (r"(N) \+ (N) > (N)", &[1, 2], 3),
    // vLLM: max_tokens > window - input.
    (r"\((N) > (N) - (N)\)", &[1, 3], 2),
    (r"(N) tokens? > (N)", &[1], 2),
    // text-generation-inference.
    (r"must be <= (N)\. given: (N) `?inputs`? tokens and (N)", &[2, 3], 1),
];

/// Ways to say how many tokens were asked for, the total before a part of it.
const TOKENS: [&str; 16] = [
    r"for a total of (?:at least )?(N)",
    r"requested (?:a total of |about |approximately |at least )?(N) tokens",
    r"resulted in (?:about |approximately )?(N) tokens",
    r"token count (?:of |is |\()(N)",
    r"(?:request|prompt|input|messages?|conversation) (?:contains|has|have|is|of|uses) (?:about |approximately |at least )?(N)(?: input| prompt)? tokens",
    r"\((?:length )?(N)(?: tokens)?\) (?:is longer|is too|exceeds)",
    r"(?:request|prompt|input|length) \((?:total )?(?:length )?(N)(?: tokens)?\)",
    r"\((N)\) exceeds?\b",
    r"current length is (N)",
    r"too long: (N)",
    r"received (N)",
    r"given: (N)",
    r"the first (N) tokens",
    r"got (N) tokens",
    r"but (?:the )?(?:request|prompt|input)[a-z ]* (?:contains|has|is) (N)",
    r"\((N) > N\)",
];

/// Ways to say how many are allowed.
const MOST: [&str; 14] = [
    r"maximum (?:context|input|prompt|model|sequence|allowed|token) ?length(?: of| is|:| \()? ?(?:only )?(N)",
    r"context (?:length|window|size|limit) (?:of|is|:|\()? ?(?:only )?(N)",
    r"(N) maximum context",
    r"tokens allowed:? \(?(N)",
    r"supports (?:only )?(?:up to|at most) (N)",
    r"must be <= (N)",
    r"(?:less|fewer) than (?:or equal to )?(N)",
    r"limit (?:is|of|:) ?(N)",
    r"limit: (N)",
    r"cannot exceed (N)",
    r"max size: (N) tokens",
    r"batch size: (N)",
    r"length should be \[N, (N)\]",
    r"\(N > (N)\)",
];

struct Patterns {
    both: Vec<(Regex, &'static [usize], usize)>,
    tokens: Vec<Regex>,
    most: Vec<Regex>,
}

/// `N` is a number with or without separators of thousands.
fn compiled(pattern: &str) -> Option<Regex> {
    Regex::new(&pattern.replace('N', "(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,18})")).ok()
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| Patterns {
    both: BOTH
        .iter()
        .filter_map(|(pattern, sum, most)| Some((compiled(pattern)?, *sum, *most)))
        .collect(),
    tokens: TOKENS.iter().filter_map(|p| compiled(p)).collect(),
    most: MOST.iter().filter_map(|p| compiled(p)).collect(),
});

/// Counts in a lower-case text.
pub fn in_text(text: &str) -> Counts {
    let both = PATTERNS.both.iter().find_map(|(pattern, sum, most)| {
        let found = pattern.captures(text)?;
        let group = |at: usize| number(found.get(at)?.as_str());
        let tokens = sum.iter().try_fold(0_u64, |total, at| total.checked_add(group(*at)?))?;
        Some(Counts {
            tokens: Some(tokens),
            most: group(*most),
        })
    });
    both.unwrap_or_else(|| Counts {
        tokens: first(&PATTERNS.tokens, text),
        most: first(&PATTERNS.most, text),
    })
}

fn first(patterns: &[Regex], text: &str) -> Option<u64> {
    patterns.iter().find_map(|p| number(p.captures(text)?.get(1)?.as_str()))
}

fn number(digits: &str) -> Option<u64> {
    digits.replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDINGS: &[(&str, Option<u64>, Option<u64>)] = &[
        (
            "exceed context limit: 143653 + 64000 > 200000, decrease",
            Some(207_653),
            Some(200_000),
        ),
        (
            "the input token count (134123) exceeds the maximum number of tokens allowed (131072).",
            Some(134_123),
            Some(131_072),
        ),
        (
            "the input token count exceeds the maximum number of tokens allowed 1048576.",
            None,
            Some(1_048_576),
        ),
        (
            "this model's maximum context length is 128000 tokens. however, your messages resulted in 204308 tokens.",
            Some(204_308),
            Some(128_000),
        ),
        (
            "prompt is too long: 210,000 tokens > 200,000 maximum",
            Some(210_000),
            Some(200_000),
        ),
        (
            "this model's maximum context length is 16384 tokens. however, you requested 8192 output tokens and your prompt contains at least 8193 input tokens, for a total of at least 16385 tokens.",
            Some(16_385),
            Some(16_384),
        ),
        (
            "this model's maximum context length is 4097 tokens, however you requested 4226 tokens (4000 in the messages, 226 in the completion)",
            Some(4_226),
            Some(4_097),
        ),
        (
            "`inputs` tokens + `max_new_tokens` must be <= 1512. given: 1000 `inputs` tokens and 1024 `max_new_tokens`",
            Some(2_024),
            Some(1_512),
        ),
        (
            "`inputs` must have less than 2048 tokens. given: 2222",
            Some(2_222),
            Some(2_048),
        ),
        (
            "the input (61709 tokens) is longer than the model's context length (40960 tokens).",
            Some(61_709),
            Some(40_960),
        ),
        (
            "this model's maximum prompt length is 131072 but the request contains 537812 tokens.",
            Some(537_812),
            Some(131_072),
        ),
        (
            "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000.",
            Some(5_000),
            Some(4_081),
        ),
        (
            "exceeds the model's maximum context length of 202752 tokens. you requested a total of 202941 tokens: 170941 tokens",
            Some(202_941),
            Some(202_752),
        ),
        (
            "prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
            Some(40_000),
            Some(32_768),
        ),
        (
            "'max_tokens' is too large: 5000. this model's maximum context length is 4096 tokens and your request has 100 input tokens (5000 > 4096 - 100).",
            Some(5_100),
            Some(4_096),
        ),
        (
            "the prompt is too long: 140000, model maximum context length: 131071",
            Some(140_000),
            Some(131_071),
        ),
        ("current length is 9000 while limit is 8192", Some(9_000), Some(8_192)),
        (
            "the decoder prompt (length 5000) is longer than the maximum model length of 4096.",
            Some(5_000),
            Some(4_096),
        ),
        (
            "input (1234 tokens) is too large to process. increase the physical batch size (current batch size: 512)",
            Some(1_234),
            Some(512),
        ),
        (
            "the input token count is 1048577 but model only supports up to 1048576.",
            Some(1_048_577),
            Some(1_048_576),
        ),
        (
            "input length (160062 tokens) exceeds the maximum allowed length (59862 tokens).",
            Some(160_062),
            Some(59_862),
        ),
        (
            "prompt token count of 150000 exceeds the limit of 128000",
            Some(150_000),
            Some(128_000),
        ),
        (
            "requested tokens (5000) exceed context window of 4096",
            Some(5_000),
            Some(4_096),
        ),
        ("range of input length should be [1, 30720]", None, Some(30_720)),
        ("your input exceeds the context window of this model.", None, None),
        (
            "the prompt (total length 25938) is too long to fit into the model (context length 4096). make sure",
            Some(25_938),
            Some(4_096),
        ),
    ];

    #[test]
    fn every_pattern_compiles() {
        assert_eq!(PATTERNS.both.len(), BOTH.len());
        assert_eq!(PATTERNS.tokens.len(), TOKENS.len());
        assert_eq!(PATTERNS.most.len(), MOST.len());
    }

    #[test]
    fn counts_are_read_in_every_wording() {
        for &(text, tokens, most) in WORDINGS {
            let expected = Counts { tokens, most };
            assert_eq!(in_text(text), expected, "{text}");
        }
    }
}
