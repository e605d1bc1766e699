//! Token counts as the OpenAI API reports them, and as servers that follow it extend them.

use serde::Deserialize;

use crate::policy::pricing::Usage;

/// The `usage` object of an answer or of a stream's last event.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct ReportedUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
    /// LiteLLM passes Anthropic's count on under its own name.
    cache_creation_input_tokens: Option<u64>,
    /// Some servers report reasoning beside the details.
    reasoning_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
    cache_creation_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
}

impl ReportedUsage {
    /// The counts. A report without prompt tokens, or without a completion where one was `generated`, is no report: unknown is never 0.
    #[must_use]
    pub fn counts(&self, generated: bool) -> Option<Usage> {
        let input_tokens = self.prompt_tokens?;
        let prompt = self.prompt_tokens_details;
        let written = prompt
            .and_then(|d| d.cache_creation_tokens)
            .or(self.cache_creation_input_tokens);
        let reasoning = self
            .completion_tokens_details
            .and_then(|d| d.reasoning_tokens)
            .or(self.reasoning_tokens);
        let reasoning = reasoning.unwrap_or(0);
        Some(Usage {
            input_tokens,
            cached_input_tokens: prompt.and_then(|d| d.cached_tokens).unwrap_or(0),
            cache_write_input_tokens: written.unwrap_or(0),
            output_tokens: self.output(input_tokens, reasoning, generated)?,
            reasoning_output_tokens: reasoning,
        })
    }

    /// xAI counts reasoning beside the completion and says so in the total only; Gemini behind OpenAI's format leaves its thoughts out
    /// of everything but the total. What counts is never less than any of them says.
    fn output(&self, input: u64, reasoning: u64, generated: bool) -> Option<u64> {
        let rest = self.total_tokens.map(|total| total.saturating_sub(input));
        let said = self.completion_tokens.max(rest);
        let said = said.or_else(|| (!generated).then_some(0))?;
        Some(said.max(reasoning))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(text: &str) -> Option<Usage> {
        serde_json::from_str::<ReportedUsage>(text).unwrap().counts(true)
    }

    #[test]
    fn every_kind_of_token_is_counted_once() {
        let openai = r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,
            "prompt_tokens_details":{"cached_tokens":64},"completion_tokens_details":{"reasoning_tokens":40}}"#;
        let expected = Usage {
            input_tokens: 100,
            cached_input_tokens: 64,
            output_tokens: 50,
            reasoning_output_tokens: 40,
            ..Usage::default()
        };
        assert_eq!(counts(openai), Some(expected));
        let litellm =
            r#"{"prompt_tokens":100,"completion_tokens":1,"total_tokens":101,"cache_creation_input_tokens":30}"#;
        assert_eq!(counts(litellm).unwrap().cache_write_input_tokens, 30);
        let xai = r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":35,"completion_tokens_details":{"reasoning_tokens":20}}"#;
        assert_eq!(counts(xai).unwrap().output_tokens, 25);
        let thoughts = r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":215}"#;
        assert_eq!(counts(thoughts).unwrap().output_tokens, 205);
        let no_total = r#"{"prompt_tokens":10,"completion_tokens":5,"reasoning_tokens":20}"#;
        assert_eq!(counts(no_total).unwrap().output_tokens, 20);
    }

    #[test]
    fn unknown_is_never_zero() {
        assert_eq!(counts(r#"{"completion_tokens":5}"#), None);
        assert_eq!(counts(r#"{"prompt_tokens":3}"#), None);
        assert_eq!(
            counts(r#"{"prompt_tokens":3,"total_tokens":5}"#).unwrap().output_tokens,
            2
        );
        let embeddings: ReportedUsage = serde_json::from_str(r#"{"prompt_tokens":3}"#).unwrap();
        assert_eq!(embeddings.counts(false).unwrap().output_tokens, 0);
    }
}
