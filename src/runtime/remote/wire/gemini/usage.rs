//! Token counts as Gemini reports them.

use serde::Deserialize;

use crate::policy::pricing::Usage;

/// `usageMetadata`: totals so far. Its JSON leaves counts of 0 out.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names are Gemini's")]
pub(super) struct UsageMetadata {
    prompt_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    total_token_count: Option<u64>,
}

impl UsageMetadata {
    /// The counts. A report without the prompt and without a total to tell it by is no report: unknown is never 0.
    pub(super) fn counts(&self) -> Option<Usage> {
        let thoughts = self.thoughts_token_count.unwrap_or(0);
        let answer = self.candidates_token_count.unwrap_or(0);
        let both = answer.saturating_add(thoughts);
        let prompt = match (self.prompt_token_count, self.total_token_count) {
            (Some(prompt), _) => prompt.saturating_add(self.tool_use_prompt_token_count.unwrap_or(0)),
            (None, Some(total)) => total.saturating_sub(both),
            (None, None) => return None,
        };
        Some(Usage {
            input_tokens: prompt,
            cached_input_tokens: self.cached_content_token_count.unwrap_or(0),
            output_tokens: self.output(prompt, both),
            reasoning_output_tokens: thoughts,
            ..Usage::default()
        })
    }

    /// The total decides: some answers count thoughts among the candidates, some leave counts out.
    fn output(&self, prompt: u64, both: u64) -> u64 {
        let Some(total) = self.total_token_count else {
            return both;
        };
        let rest = total.saturating_sub(prompt);
        let inclusive = self.candidates_token_count.is_some_and(|answer| answer == rest)
            && self.thoughts_token_count.is_some_and(|thoughts| thoughts <= rest);
        if inclusive { rest } else { both.max(rest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(text: &str) -> Option<(u64, u64, u64, u64)> {
        let usage = serde_json::from_str::<UsageMetadata>(text).unwrap().counts()?;
        Some((
            usage.input_tokens,
            usage.cached_input_tokens,
            usage.output_tokens,
            usage.reasoning_output_tokens,
        ))
    }

    #[test]
    fn every_kind_of_token_is_counted_once() {
        for (text, expected) in [
            (
                r#"{"promptTokenCount":100,"cachedContentTokenCount":60,"candidatesTokenCount":7,"thoughtsTokenCount":30,"totalTokenCount":137}"#,
                (100, 60, 37, 30),
            ),
            (
                r#"{"promptTokenCount":10,"toolUsePromptTokenCount":5,"candidatesTokenCount":2,"totalTokenCount":17}"#,
                (15, 0, 2, 0),
            ),
            // Thoughts among the candidates.
            (
                r#"{"promptTokenCount":10,"candidatesTokenCount":37,"thoughtsTokenCount":30,"totalTokenCount":47}"#,
                (10, 0, 37, 30),
            ),
            // Counts that are left out.
            (r#"{"promptTokenCount":10,"totalTokenCount":12}"#, (10, 0, 2, 0)),
            (r#"{"promptTokenCount":10}"#, (10, 0, 0, 0)),
            (r#"{"candidatesTokenCount":3,"totalTokenCount":12}"#, (9, 0, 3, 0)),
        ] {
            assert_eq!(counts(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn unknown_is_never_zero() {
        assert_eq!(counts("{}"), None);
        assert_eq!(counts(r#"{"candidatesTokenCount":3}"#), None);
    }
}
