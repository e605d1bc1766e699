//! What tokens of a provider cost.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Decimal;

/// Prices of tokens, in USD a million tokens.
///
/// A kind of token without a price of its own has the price of its side: input or output. `tiers` change all of them for requests
/// with longer prompts, for the whole request as providers do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.tiers) || ((self.tiers.size() < 2 || self.tiers[0].aboveInputTokens < self.tiers[1].aboveInputTokens) && (self.tiers.size() < 3 || self.tiers[1].aboveInputTokens < self.tiers[2].aboveInputTokens) && (self.tiers.size() < 4 || self.tiers[2].aboveInputTokens < self.tiers[3].aboveInputTokens))",
    "tiers are in order of aboveInputTokens, each above the one before"
))]
pub struct TokenPrice {
    /// USD for a million input tokens.
    pub input_per_million_tokens: Decimal,
    /// USD for a million input tokens that the provider reports as read from a cache; the input price when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_per_million_tokens: Option<Decimal>,
    /// USD for a million input tokens that the provider reports as written to a cache; the input price when absent. Under a budget a
    /// request may ask for a cache to be written only where this price is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_input_per_million_tokens: Option<Decimal>,
    /// USD for a million output tokens.
    pub output_per_million_tokens: Decimal,
    /// USD for a million output tokens that the provider reports as reasoning; the output price when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_output_per_million_tokens: Option<Decimal>,
    /// Other prices for longer prompts, at most 4, in order of `aboveInputTokens`.
    #[schemars(length(min = 1, max = 4), extend("x-kubernetes-list-type" = "atomic"))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<PriceTier>,
}

/// The prices of requests whose input, cached tokens included, is longer than `aboveInputTokens`. What is absent has the price of its
/// side in this tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PriceTier {
    /// Input tokens that a request must exceed.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub above_input_tokens: u32,
    /// USD for a million input tokens.
    pub input_per_million_tokens: Decimal,
    /// USD for a million input tokens read from a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_per_million_tokens: Option<Decimal>,
    /// USD for a million input tokens written to a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_input_per_million_tokens: Option<Decimal>,
    /// USD for a million output tokens.
    pub output_per_million_tokens: Decimal,
    /// USD for a million output tokens spent on reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_output_per_million_tokens: Option<Decimal>,
}
