//! The fields that a request may have under a budget, a provider: everything whose cost is known, and nothing else.

use RemoteProvider::{Anthropic, AzureOpenAI, Gemini, LiteLLM, OpenAI, OpenAICompatible};
use Rule::{CacheControl, Free, Functions, Limit, Messages, Only, Rewritten, Texts, Tools};

use crate::{api::RemoteProvider, runtime::request::head::Operation};

/// What a field can cost.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// Its bytes as input, or nothing.
    Free,
    /// A limit on the output, which some servers take for none when it is 0.
    Limit,
    /// Nothing while it has one of these values; others have another price.
    Only(&'static [&'static str]),
    /// Messages, whose parts may be more than text.
    Messages,
    /// A text, tokens, or lists of them.
    Texts,
    /// Definitions of tools, which may be ones that the provider runs itself.
    Tools,
    /// Functions in OpenAI's old form, which gateways take for any tool.
    Functions,
    /// JSON that models are shown, written again.
    Rewritten,
    /// Input is written to a cache.
    CacheControl,
}

struct Row {
    name: &'static str,
    rule: Rule,
    providers: &'static [RemoteProvider],
}

const fn row(name: &'static str, rule: Rule) -> Row {
    let providers = &[OpenAI, Anthropic, Gemini, AzureOpenAI, LiteLLM, OpenAICompatible];
    Row { name, rule, providers }
}

const fn at(providers: &'static [RemoteProvider], name: &'static str, rule: Rule) -> Row {
    Row { name, rule, providers }
}

const SERVERS: &[RemoteProvider] = &[LiteLLM, OpenAICompatible];
const CACHES: &[RemoteProvider] = &[Anthropic, LiteLLM, OpenAICompatible];
/// Here `max_tokens` bounds thinking too; elsewhere nobody promises that for a field of this name.
const THINKS: &[RemoteProvider] = &[Anthropic, LiteLLM];

const CHAT: &[Row] = &[
    row("model", Free),
    row("messages", Messages),
    row("stream", Free),
    row("stream_options", Free),
    row("max_tokens", Limit),
    row("max_completion_tokens", Limit),
    row("n", Free),
    row("temperature", Free),
    row("top_p", Free),
    row("top_k", Free),
    row("min_p", Free),
    row("stop", Free),
    row("presence_penalty", Free),
    row("frequency_penalty", Free),
    row("repetition_penalty", Free),
    row("logit_bias", Free),
    row("logprobs", Free),
    row("top_logprobs", Free),
    row("seed", Free),
    row("user", Free),
    row("tools", Tools),
    row("tool_choice", Free),
    row("parallel_tool_calls", Free),
    row("functions", Functions),
    row("function_call", Free),
    row("response_format", Rewritten),
    row("reasoning_effort", Free),
    row("verbosity", Free),
    row("metadata", Free),
    row("safety_identifier", Free),
    row("prompt_cache_key", Free),
    row(
        "prompt_cache_retention",
        Only(&["\"in_memory\"", "\"in-memory\"", "null"]),
    ),
    row("service_tier", Only(&["\"default\"", "null"])),
    row("modalities", Only(&["[\"text\"]", "null"])),
    row("store", Only(&["false", "null"])),
    at(CACHES, "cache_control", CacheControl),
    at(THINKS, "thinking", Free),
    at(SERVERS, "min_tokens", Free),
    at(SERVERS, "ignore_eos", Free),
    at(SERVERS, "stop_token_ids", Free),
    at(SERVERS, "skip_special_tokens", Free),
    at(SERVERS, "include_stop_str_in_output", Free),
];

const COMPLETIONS: &[Row] = &[
    row("model", Free),
    row("prompt", Texts),
    row("suffix", Free),
    row("stream", Free),
    row("stream_options", Free),
    row("max_tokens", Limit),
    row("n", Free),
    row("best_of", Free),
    // The prompt comes back as part of the answer.
    row("echo", Only(&["false", "null"])),
    row("temperature", Free),
    row("top_p", Free),
    row("top_k", Free),
    row("min_p", Free),
    row("stop", Free),
    row("presence_penalty", Free),
    row("frequency_penalty", Free),
    row("repetition_penalty", Free),
    row("logit_bias", Free),
    row("logprobs", Free),
    row("seed", Free),
    row("user", Free),
    at(SERVERS, "min_tokens", Free),
    at(SERVERS, "ignore_eos", Free),
    at(SERVERS, "stop_token_ids", Free),
    at(SERVERS, "skip_special_tokens", Free),
    at(SERVERS, "include_stop_str_in_output", Free),
];

const EMBEDDINGS: &[Row] = &[
    row("model", Free),
    row("input", Texts),
    row("encoding_format", Free),
    row("dimensions", Free),
    row("user", Free),
];

/// The rule of a field and its place in the table; `None` when the cost of the field is not known.
pub fn rule(operation: Operation, provider: RemoteProvider, name: &[u8]) -> Option<(usize, Rule)> {
    let table = match operation {
        Operation::Chat => CHAT,
        Operation::Completions => COMPLETIONS,
        Operation::Embeddings => EMBEDDINGS,
    };
    let mut rows = table.iter().enumerate();
    let (at, row) = rows.find(|(_, row)| row.name.as_bytes() == name)?;
    row.providers.contains(&provider).then_some((at, row.rule))
}

/// Names that have been met, by their places in a table of at most 64.
#[derive(Clone, Copy, Debug, Default)]
pub struct Met(u64);

impl Met {
    /// False when the name was met before: two readers could disagree on which of its values counts.
    pub const fn first(&mut self, at: usize) -> bool {
        let bit = 1 << (at % 64);
        let first = self.0 & bit == 0;
        self.0 |= bit;
        first
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_has_a_place_of_its_own() {
        for table in [CHAT, COMPLETIONS, EMBEDDINGS] {
            let names: BTreeSet<_> = table.iter().map(|row| row.name).collect();
            assert_eq!(names.len(), table.len());
            assert!(table.len() <= 64, "Met has a bit for each");
        }
    }
}
