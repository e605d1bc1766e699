//! What a request costs: pico-USD a token, nano-USD a request, rounded up (design section 8).

use crate::api::{Decimal, NanoUsd, PicoUsd, TokenPrice};

/// Prices of one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prices {
    /// An input token.
    pub input: PicoUsd,
    /// An input token that the provider reports as cached.
    pub cached_input: PicoUsd,
    /// An output token.
    pub output: PicoUsd,
}

impl From<&TokenPrice> for Prices {
    fn from(spec: &TokenPrice) -> Self {
        let input = spec.input_per_million_tokens.per_million();
        let cached_input = spec
            .cached_input_per_million_tokens
            .as_ref()
            .map_or(input, Decimal::per_million);
        Self {
            input,
            cached_input,
            output: spec.output_per_million_tokens.per_million(),
        }
    }
}

/// Tokens as a provider reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All input tokens, those read from a cache and those written to one included.
    pub input_tokens: u64,
    /// Read from a cache, among `input_tokens`.
    pub cached_input_tokens: u64,
    /// Written to a cache, among `input_tokens`.
    pub cache_write_input_tokens: u64,
    /// Output tokens of all choices, reasoning included.
    pub output_tokens: u64,
    /// Spent on reasoning, among `output_tokens`.
    pub reasoning_output_tokens: u64,
}

impl Prices {
    /// The most that a request can cost: `n` answers of `output_limit` tokens, and the prompt billed once an answer, at the dearer of
    /// the two input prices. `None` when that is more than can be counted: such a request must be refused.
    #[must_use]
    pub fn worst_case(&self, input_bound: u64, output_limit: u64, n: u64) -> Option<NanoUsd> {
        let input = u128::from(input_bound) * u128::from(self.input.0.max(self.cached_input.0));
        let output = u128::from(output_limit) * u128::from(self.output.0);
        nanos(input.checked_add(output)?.checked_mul(u128::from(n))?)
    }

    /// What a request did cost. `None` when that is more than can be counted.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> Option<NanoUsd> {
        let cached = usage.cached_input_tokens.min(usage.input_tokens);
        let full = u128::from(usage.input_tokens - cached) * u128::from(self.input.0);
        let cached = u128::from(cached) * u128::from(self.cached_input.0);
        let output = u128::from(usage.output_tokens) * u128::from(self.output.0);
        nanos(full.checked_add(cached)?.checked_add(output)?)
    }
}

fn nanos(picos: u128) -> Option<NanoUsd> {
    u64::try_from(picos.div_ceil(1_000)).ok().map(NanoUsd)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PRICES: Prices = Prices {
        input: PicoUsd(150_000),
        cached_input: PicoUsd(75_000),
        output: PicoUsd(600_000),
    };

    #[test]
    fn a_request_costs_what_the_price_list_says() {
        let usage = Usage {
            input_tokens: 1_000_000,
            output_tokens: 1_000_000,
            ..Usage::default()
        };
        assert_eq!(PRICES.cost(&usage), Some(NanoUsd(750_000_000)));
        assert_eq!(
            PRICES.cost(&Usage {
                cached_input_tokens: 1_000_000,
                ..usage
            }),
            Some(NanoUsd(675_000_000))
        );
    }

    #[test]
    fn fractions_of_a_nano_are_rounded_up() {
        let prices = Prices {
            input: PicoUsd(1),
            cached_input: PicoUsd(1),
            output: PicoUsd(1),
        };
        assert_eq!(
            prices.cost(&Usage {
                input_tokens: 1,
                ..Usage::default()
            }),
            Some(NanoUsd(1))
        );
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        assert_eq!(PRICES.worst_case(u64::MAX, u64::MAX, u64::MAX), None);
    }

    proptest! {
        #[test]
        fn the_worst_case_is_never_below_the_cost(
            input in 0..1_000_000_u64, cached in 0..1_000_000_u64, output in 0..1_000_000_u64,
            p in 0..10_000_000_u64, c in 0..10_000_000_u64, o in 0..10_000_000_u64,
        ) {
            let prices = Prices { input: PicoUsd(p), cached_input: PicoUsd(c), output: PicoUsd(o) };
            let usage = Usage { input_tokens: input, cached_input_tokens: cached, output_tokens: output, ..Usage::default() };
            prop_assert!(prices.cost(&usage) <= prices.worst_case(input, output, 1));
        }
    }
}
