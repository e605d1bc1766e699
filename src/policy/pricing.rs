//! What a request costs: pico-USD a token, nano-USD a request, rounded up once (design section 8).

use crate::api::{Decimal, NanoUsd, PicoUsd, PriceTier, TokenPrice};

/// The most tiers beside the prices of short prompts.
const MOST_TIERS: usize = 4;

/// Prices of one backend. Small enough to travel with a reservation, so that a price that changes meanwhile changes nothing for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prices {
    base: Rates,
    /// In order of `above`; the rest is not used.
    tiers: [Tier; MOST_TIERS],
    used: usize,
}

/// Prices from a length of the prompt on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tier {
    /// Input tokens that a request must exceed.
    above: u64,
    rates: Rates,
}

/// What each kind of token costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rates {
    input: PicoUsd,
    cached_input: PicoUsd,
    cache_write_input: PicoUsd,
    output: PicoUsd,
    reasoning_output: PicoUsd,
}

impl Rates {
    const fn flat(input: PicoUsd, output: PicoUsd) -> Self {
        Self {
            input,
            cached_input: input,
            cache_write_input: input,
            output,
            reasoning_output: output,
        }
    }

    /// The dearest that an input token can be: cached discounts are never assumed.
    fn dearest_input(&self) -> u128 {
        u128::from(self.input.0.max(self.cached_input.0).max(self.cache_write_input.0))
    }

    fn dearest_output(&self) -> u128 {
        u128::from(self.output.0.max(self.reasoning_output.0))
    }

    /// Pico-USD of at most so many tokens. Two products of 64 bits fit into 128 each, but not always their sum.
    fn worst_case(&self, input: u64, output: u64) -> Option<u128> {
        let input = u128::from(input) * self.dearest_input();
        input.checked_add(u128::from(output) * self.dearest_output())
    }

    /// Pico-USD of what was reported. What a report counts twice is counted once: parts never exceed their whole.
    fn cost(&self, usage: &Usage) -> Option<u128> {
        let cached = usage.cached_input_tokens.min(usage.input_tokens);
        let written = usage.cache_write_input_tokens.min(usage.input_tokens - cached);
        let reasoning = usage.reasoning_output_tokens.min(usage.output_tokens);
        let kinds = [
            (usage.input_tokens - cached - written, self.input),
            (cached, self.cached_input),
            (written, self.cache_write_input),
            (usage.output_tokens - reasoning, self.output),
            (reasoning, self.reasoning_output),
        ];
        let costs = kinds
            .into_iter()
            .map(|(tokens, price)| u128::from(tokens) * u128::from(price.0));
        costs.into_iter().try_fold(0_u128, u128::checked_add)
    }
}

impl From<&TokenPrice> for Prices {
    fn from(spec: &TokenPrice) -> Self {
        let TokenPrice {
            input_per_million_tokens: input,
            cached_input_per_million_tokens: cached,
            cache_write_input_per_million_tokens: written,
            output_per_million_tokens: output,
            reasoning_output_per_million_tokens: reasoning,
            tiers,
        } = spec;
        let base = rates(input, cached.as_ref(), written.as_ref(), output, reasoning.as_ref());
        let unused = Tier {
            above: u64::MAX,
            rates: base,
        };
        let mut prices = Self {
            base,
            tiers: [unused; MOST_TIERS],
            used: tiers.len().min(MOST_TIERS),
        };
        for (tier, spec) in prices.tiers.iter_mut().zip(tiers) {
            *tier = Tier::from(spec);
        }
        prices
    }
}

impl From<&PriceTier> for Tier {
    fn from(spec: &PriceTier) -> Self {
        let PriceTier {
            above_input_tokens,
            input_per_million_tokens: input,
            cached_input_per_million_tokens: cached,
            cache_write_input_per_million_tokens: written,
            output_per_million_tokens: output,
            reasoning_output_per_million_tokens: reasoning,
        } = spec;
        Self {
            above: u64::from(*above_input_tokens),
            rates: rates(input, cached.as_ref(), written.as_ref(), output, reasoning.as_ref()),
        }
    }
}

fn rates(
    input: &Decimal,
    cached: Option<&Decimal>,
    written: Option<&Decimal>,
    output: &Decimal,
    reasoning: Option<&Decimal>,
) -> Rates {
    let or = |given: Option<&Decimal>, side: &Decimal| given.unwrap_or(side).per_million();
    Rates {
        input: input.per_million(),
        cached_input: or(cached, input),
        cache_write_input: or(written, input),
        output: output.per_million(),
        reasoning_output: or(reasoning, output),
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
    /// One price an input token, one an output token.
    #[must_use]
    pub const fn flat(input: PicoUsd, output: PicoUsd) -> Self {
        let base = Rates::flat(input, output);
        let unused = Tier {
            above: u64::MAX,
            rates: base,
        };
        Self {
            base,
            tiers: [unused; MOST_TIERS],
            used: 0,
        }
    }

    /// True when no token costs anything: such a backend needs no money.
    #[must_use]
    pub fn are_free(&self) -> bool {
        self.all()
            .all(|rates| rates.dearest_input() == 0 && rates.dearest_output() == 0)
    }

    /// The most that a request can cost: `n` answers of `output_limit` tokens, and the prompt billed once an answer, at the dearest
    /// price of its side in every tier that so much input can reach. `None` when that is more than can be counted: such a request must
    /// be refused.
    #[must_use]
    pub fn worst_case(&self, input_bound: u64, output_limit: u64, n: u64) -> Option<NanoUsd> {
        let input = input_bound.checked_mul(n)?;
        let output = output_limit.checked_mul(n)?;
        let reached = self.tiers().iter().filter(|tier| tier.above < input);
        let mut most = self.base.worst_case(input, output)?;
        for tier in reached {
            most = most.max(tier.rates.worst_case(input, output)?);
        }
        nanos(most)
    }

    /// What a request did cost. `None` when that is more than can be counted.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> Option<NanoUsd> {
        let reached = self.tiers().iter().rfind(|tier| tier.above < usage.input_tokens);
        let rates = reached.map_or(&self.base, |tier| &tier.rates);
        nanos(rates.cost(usage)?)
    }

    fn tiers(&self) -> &[Tier] {
        self.tiers.get(..self.used).unwrap_or_default()
    }

    fn all(&self) -> impl Iterator<Item = &Rates> {
        let tiers = self.tiers().iter().map(|tier| &tier.rates);
        std::iter::once(&self.base).chain(tiers)
    }
}

fn nanos(picos: u128) -> Option<NanoUsd> {
    u64::try_from(picos.div_ceil(1_000)).ok().map(NanoUsd)
}

#[cfg(test)]
mod tests;
