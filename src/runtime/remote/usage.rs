//! Token counts as the OpenAI API reports them.

use serde::Deserialize;

use crate::policy::pricing::Usage;

/// The `usage` object of an answer or of a stream's last event.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct ReportedUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

impl ReportedUsage {
    /// The counts. A report without prompt tokens is no report: unknown is never 0. Embeddings have no completion.
    #[must_use]
    pub fn counts(&self) -> Option<Usage> {
        Some(Usage {
            input_tokens: self.prompt_tokens?,
            cached_input_tokens: self.prompt_tokens_details.and_then(|d| d.cached_tokens).unwrap_or(0),
            output_tokens: self.completion_tokens.unwrap_or(0),
        })
    }
}
