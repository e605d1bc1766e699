//! `reasoning_effort` and `thinking`.
//!
//! From Claude 4.6 on thinking is adaptive, and `output_config.effort` says how much. Opus 4.5 knows the effort but not
//! adaptive thinking. Older models take a budget: a share of `max_tokens`, for `max_completion_tokens` of OpenAI counts
//! reasoning too.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::named::wrong;
use super::request::Thinking;
use crate::runtime::remote::wire::Inexpressible;

/// The smallest budget the API takes, in tokens.
const MIN_BUDGET: u64 = 1024;

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    /// `thinking.budget_tokens`.
    Budget,
    /// `output_config.effort` alone.
    Effort,
    /// `output_config.effort` and adaptive thinking.
    Adaptive,
}

/// A word of OpenAI's.
struct Level {
    word: &'static str,
    /// Anthropic's word.
    effort: &'static str,
    /// The budget's share of `max_tokens`.
    percent: u64,
}

/// `max` is Anthropic's own.
const LEVELS: [Level; 6] = [
    level("minimal", "low", 10),
    level("low", "low", 20),
    level("medium", "medium", 50),
    level("high", "high", 80),
    level("xhigh", "xhigh", 90),
    level("max", "max", 95),
];

const fn level(word: &'static str, effort: &'static str, percent: u64) -> Level {
    Level { word, effort, percent }
}

/// What is written for the effort asked and the thinking given.
#[derive(Debug, Default)]
pub(super) struct Effort<'a> {
    pub thinking: Option<Thinking<'a>>,
    pub effort: Option<&'static str>,
}

/// Translates both fields for `model`; `max_tokens` bounds the budget.
pub(super) fn effort<'a>(
    asked: Option<&str>,
    given: Option<&'a RawValue>,
    model: &str,
    max_tokens: u64,
) -> Result<Effort<'a>, Inexpressible> {
    if let Some(given) = given {
        check(given, max_tokens)?;
    }
    let given = given.map(Thinking::Given);
    let Some(asked) = asked else {
        return Ok(Effort {
            thinking: given,
            effort: None,
        });
    };
    if asked == "none" {
        let off = Thinking::Made {
            kind: "disabled",
            budget_tokens: None,
        };
        return Ok(Effort {
            thinking: given.or(Some(off)),
            effort: None,
        });
    }
    let level = LEVELS.iter().find(|level| level.word == asked).ok_or_else(|| {
        wrong(
            "reasoning_effort",
            "must be one of none, minimal, low, medium, high, xhigh and max",
        )
    })?;
    match (control(model), given) {
        (Control::Budget, Some(_)) => Err(wrong(
            "reasoning_effort",
            "and thinking say the same to this model: keep one",
        )),
        (Control::Budget, None) => Ok(Effort {
            thinking: Some(budget(level, max_tokens)?),
            effort: None,
        }),
        (Control::Effort, given) => Ok(Effort {
            thinking: given,
            effort: Some(level.effort),
        }),
        (Control::Adaptive, given) => {
            let adaptive = Thinking::Made {
                kind: "adaptive",
                budget_tokens: None,
            };
            Ok(Effort {
                thinking: given.or(Some(adaptive)),
                effort: Some(level.effort),
            })
        }
    }
}

fn budget<'a>(level: &Level, max_tokens: u64) -> Result<Thinking<'a>, Inexpressible> {
    if max_tokens <= MIN_BUDGET {
        return Err(wrong(
            "reasoning_effort",
            format!("needs room to think: set max_completion_tokens above {MIN_BUDGET}, it is {max_tokens}"),
        ));
    }
    let share = max_tokens / 100 * level.percent + max_tokens % 100 * level.percent / 100;
    Ok(Thinking::Made {
        kind: "enabled",
        budget_tokens: Some(share.max(MIN_BUDGET)),
    })
}

/// What is looked at in a client's own `thinking`; the rest is for the API to judge.
#[derive(Deserialize)]
struct Given {
    budget_tokens: Option<u64>,
}

fn check(given: &RawValue, max_tokens: u64) -> Result<(), Inexpressible> {
    let read = given
        .get()
        .starts_with('{')
        .then(|| serde_json::from_str::<Given>(given.get()));
    let Some(Ok(read)) = read else {
        return Err(wrong(
            "thinking",
            "must be an object whose budget_tokens, if any, is a whole number",
        ));
    };
    match read.budget_tokens {
        Some(tokens) if !(MIN_BUDGET..max_tokens).contains(&tokens) => Err(wrong(
            "thinking.budget_tokens",
            format!("must be at least {MIN_BUDGET} and below the output limit of {max_tokens} tokens"),
        )),
        _ => Ok(()),
    }
}

/// Names are `claude-3-7-sonnet-…` up to 3.7 and `claude-opus-4-5-…` from 4 on; what cannot be read is taken for new.
fn control(model: &str) -> Control {
    match version(model) {
        Some((4, 5)) if model.contains("opus") => Control::Effort,
        Some((major, minor)) if (major, minor) < (4, 6) => Control::Budget,
        _ => Control::Adaptive,
    }
}

/// Major and minor version. A number of more than two digits is a date.
fn version(model: &str) -> Option<(u64, u64)> {
    let name = model.get(model.find("claude-")?..)?;
    let number = |part: &str| part.parse::<u64>().ok().filter(|_| part.len() <= 2);
    let mut parts = name.split(['-', '.', '@']).skip_while(|part| number(part).is_none());
    let major = number(parts.next()?)?;
    Some((major, parts.next().and_then(number).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_generation_is_told_in_its_own_way() {
        for (model, expected) in [
            ("claude-3-7-sonnet-20250219", Control::Budget),
            ("claude-opus-4-20250514", Control::Budget),
            ("claude-opus-4-1", Control::Budget),
            ("claude-sonnet-4-5-20250929", Control::Budget),
            ("anthropic/claude-haiku-4.5", Control::Budget),
            ("claude-opus-4-5-20251101", Control::Effort),
            ("claude-opus-4-6", Control::Adaptive),
            ("claude-sonnet-4.6", Control::Adaptive),
            ("claude-opus-5", Control::Adaptive),
            ("claude-sonnet-5-5", Control::Adaptive),
            ("claude-next", Control::Adaptive),
            ("some-name", Control::Adaptive),
        ] {
            assert_eq!(control(model), expected, "{model}");
        }
    }

    #[test]
    fn a_budget_is_always_one_that_the_api_takes() {
        for level in &LEVELS {
            for max_tokens in [1025, 2000, 4096, 64_000, u64::MAX] {
                let Ok(Thinking::Made {
                    budget_tokens: Some(tokens),
                    ..
                }) = budget(level, max_tokens)
                else {
                    panic!("{} of {max_tokens}", level.word);
                };
                assert!(
                    (MIN_BUDGET..max_tokens).contains(&tokens),
                    "{} of {max_tokens}: {tokens}",
                    level.word
                );
            }
            assert!(budget(level, 1024).is_err());
        }
    }
}
