//! What whole answers and streams have in common.

use serde::{Deserialize, Serialize};

use crate::policy::pricing::Usage;
use crate::runtime::remote::events::Finish;

/// Tokens as Anthropic counts them: input without what a cache saved or took.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Counts {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct OutputDetails {
    thinking_tokens: Option<u64>,
}

impl Counts {
    /// Takes a later report, whose counts include the earlier ones. A report without any input does not say that the
    /// input was free: some servers fill the fields with 0.
    pub(super) fn replace(&mut self, later: Self) {
        let input = [
            later.input_tokens,
            later.cache_creation_input_tokens,
            later.cache_read_input_tokens,
        ];
        if input.into_iter().flatten().any(|tokens| tokens > 0) {
            self.input_tokens = later.input_tokens.or(self.input_tokens);
            self.cache_creation_input_tokens = later.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
            self.cache_read_input_tokens = later.cache_read_input_tokens.or(self.cache_read_input_tokens);
        }
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.output_tokens_details = later.output_tokens_details.or(self.output_tokens_details);
    }

    /// It counts the output: what was said at the beginning is no total.
    pub(super) const fn counts_output(&self) -> bool {
        self.output_tokens.is_some()
    }

    /// The counts as ours. Unknown is never 0, and thinking is part of the output, whatever the report makes of it.
    pub(super) fn usage(&self) -> Option<Usage> {
        let thought = self.output_tokens_details.and_then(|d| d.thinking_tokens).unwrap_or(0);
        let written = self.cache_creation_input_tokens.unwrap_or(0);
        let cached = self.cache_read_input_tokens.unwrap_or(0);
        Some(Usage {
            input_tokens: self.input_tokens?.saturating_add(written).saturating_add(cached),
            cached_input_tokens: cached,
            cache_write_input_tokens: written,
            output_tokens: self.output_tokens?.max(thought),
            reasoning_output_tokens: thought,
        })
    }
}

/// Usage as OpenAI has it.
#[derive(Debug, Serialize)]
pub(super) struct UsageOut {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Debug, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    cache_creation_tokens: u64,
}

#[derive(Debug, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

impl From<Usage> for UsageOut {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.input_tokens,
            completion_tokens: usage.output_tokens,
            total_tokens: usage.input_tokens.saturating_add(usage.output_tokens),
            prompt_tokens_details: PromptDetails {
                cached_tokens: usage.cached_input_tokens,
                cache_creation_tokens: usage.cache_write_input_tokens,
            },
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: usage.reasoning_output_tokens,
            },
        }
    }
}

/// OpenAI's word for a stop reason, and what it means. A reason that is not known is an end like any other.
pub(super) fn finish(stop_reason: &str) -> (&'static str, Finish) {
    match stop_reason {
        "max_tokens" | "model_context_window_exceeded" => ("length", Finish::Regular),
        "tool_use" => ("tool_calls", Finish::Regular),
        "refusal" => ("content_filter", Finish::ContentFilter),
        _ => ("stop", Finish::Regular),
    }
}
