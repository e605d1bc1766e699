use proptest::prelude::*;
use serde_json::json;

use super::*;

fn prices(spec: serde_json::Value) -> Prices {
    Prices::from(&serde_json::from_value::<TokenPrice>(spec).unwrap())
}

/// Prices a million tokens with a tier above 200,000: twice the base's.
fn tiered() -> Prices {
    prices(json!({
        "inputPerMillionTokens": "2", "cachedInputPerMillionTokens": "0.5", "cacheWriteInputPerMillionTokens": "2.5",
        "outputPerMillionTokens": "10", "reasoningOutputPerMillionTokens": "12",
        "tiers": [{"aboveInputTokens": 200_000, "inputPerMillionTokens": "4", "outputPerMillionTokens": "20"}],
    }))
}

fn used(input: u64, cached: u64, written: u64, output: u64, reasoning: u64) -> Usage {
    Usage {
        input_tokens: input,
        cached_input_tokens: cached,
        cache_write_input_tokens: written,
        output_tokens: output,
        reasoning_output_tokens: reasoning,
    }
}

#[test]
fn a_request_costs_what_the_price_list_says() {
    let prices = tiered();
    for (usage, nanos) in [
        (used(100_000, 0, 0, 0, 0), 200_000_000),
        (used(100_000, 100_000, 0, 0, 0), 50_000_000),
        (used(100_000, 0, 100_000, 0, 0), 250_000_000),
        (used(0, 0, 0, 100_000, 0), 1_000_000_000),
        (used(0, 0, 0, 100_000, 100_000), 1_200_000_000),
        (
            used(100_000, 40_000, 10_000, 100_000, 50_000),
            100_000_000 + 20_000_000 + 25_000_000 + 500_000_000 + 600_000_000,
        ),
        // The last token of the short prompts, and the first of the long: the whole request changes its price, and what the tier
        // gives no price of its own has that of its side.
        (used(200_000, 0, 0, 0, 0), 400_000_000),
        (used(200_001, 0, 0, 0, 0), 800_004_000),
        (used(200_001, 200_001, 0, 1, 1), 800_004_000 + 20_000),
    ] {
        assert_eq!(prices.cost(&usage), Some(NanoUsd(nanos)), "{usage:?}");
    }
}

#[test]
fn a_kind_without_a_price_has_that_of_its_side() {
    let plain = prices(json!({"inputPerMillionTokens": "1", "outputPerMillionTokens": "3"}));
    assert_eq!(plain, Prices::flat(PicoUsd(1_000_000), PicoUsd(3_000_000)));
    assert_eq!(plain.cost(&used(3, 1, 1, 2, 1)), Some(NanoUsd(3 * 1_000 + 2 * 3_000)));
}

#[test]
fn parts_that_exceed_their_whole_are_counted_no_further() {
    let prices = tiered();
    assert_eq!(
        prices.cost(&used(10, 99, 99, 10, 99)),
        prices.cost(&used(10, 10, 0, 10, 10))
    );
}

#[test]
fn a_request_is_rounded_up_once() {
    let prices = Prices::flat(PicoUsd(1), PicoUsd(1));
    assert_eq!(
        prices.cost(&used(1, 0, 0, 1, 0)),
        Some(NanoUsd(1)),
        "not once a kind of token"
    );
    assert_eq!(prices.cost(&used(1_000, 0, 0, 1, 0)), Some(NanoUsd(2)));
    assert_eq!(prices.worst_case(1, 1, 1), Some(NanoUsd(1)));
}

#[test]
fn the_worst_case_takes_the_dearest_price_that_can_be_reached() {
    let prices = tiered();
    // Written input and reasoning are the dearest of the short prompts.
    assert_eq!(
        prices.worst_case(1_000, 1_000, 1),
        Some(NanoUsd(2_500_000 + 12_000_000))
    );
    assert_eq!(prices.worst_case(200_000, 0, 1), Some(NanoUsd(500_000_000)));
    assert_eq!(prices.worst_case(200_001, 0, 1), Some(NanoUsd(800_004_000)));
    assert_eq!(
        prices.worst_case(100_001, 0, 2),
        Some(NanoUsd(800_008_000)),
        "two prompts may be one bill"
    );
    let cheaper = super::tests::prices(json!({
        "inputPerMillionTokens": "4", "outputPerMillionTokens": "4",
        "tiers": [{"aboveInputTokens": 10, "inputPerMillionTokens": "1", "outputPerMillionTokens": "1"}],
    }));
    assert_eq!(
        cheaper.worst_case(20, 5, 1),
        Some(NanoUsd(100_000)),
        "a shorter prompt would be dearer"
    );
}

#[test]
fn what_cannot_be_counted_is_refused() {
    for (input, output, n) in [(u64::MAX, 0, 2), (0, u64::MAX, 2), (u64::MAX, u64::MAX, 1)] {
        assert_eq!(tiered().worst_case(input, output, n), None, "{input} {output} {n}");
    }
    assert_eq!(tiered().cost(&used(u64::MAX, 0, 0, u64::MAX, 0)), None);
}

#[test]
fn only_prices_of_nothing_are_free() {
    assert!(prices(json!({"inputPerMillionTokens": "0", "outputPerMillionTokens": "0.00"})).are_free());
    for further in [
        json!({"reasoningOutputPerMillionTokens": "0.000000001"}),
        json!({"cacheWriteInputPerMillionTokens": "1"}),
        json!({"tiers": [{"aboveInputTokens": 1, "inputPerMillionTokens": "0", "outputPerMillionTokens": "1"}]}),
    ] {
        let mut spec = json!({"inputPerMillionTokens": "0", "outputPerMillionTokens": "0"});
        spec.as_object_mut()
            .unwrap()
            .extend(further.as_object().unwrap().clone());
        assert!(!prices(spec.clone()).are_free(), "{spec}");
    }
}

fn any_rates() -> impl Strategy<Value = Rates> {
    let price = || (0..10_000_000_u64).prop_map(PicoUsd);
    (price(), price(), price(), price(), price()).prop_map(
        |(input, cached_input, cache_write_input, output, reasoning_output)| Rates {
            input,
            cached_input,
            cache_write_input,
            output,
            reasoning_output,
        },
    )
}

/// Tiers in any number, cheaper or dearer than those before; some of them at lengths that requests have.
fn any_prices() -> impl Strategy<Value = Prices> {
    let tier = (1..2_000_u64, any_rates());
    (any_rates(), proptest::collection::vec(tier, 0..=MOST_TIERS)).prop_map(|(base, steps)| {
        let mut prices = Prices {
            base,
            tiers: [Tier {
                above: u64::MAX,
                rates: base,
            }; MOST_TIERS],
            used: steps.len(),
        };
        let mut above = 0;
        for (tier, (step, rates)) in prices.tiers.iter_mut().zip(steps) {
            above += step;
            *tier = Tier { above, rates };
        }
        prices
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever a provider reports within the bounds, parts that exceed their whole included.
    #[test]
    fn the_worst_case_is_never_below_the_cost(
        prices in any_prices(), bound in 0..8_000_u64, limit in 0..8_000_u64, n in 1..4_u64,
        share in (0..=100_u64, 0..=100_u64), cached in 0..10_000_u64, written in 0..10_000_u64, reasoning in 0..10_000_u64,
    ) {
        let usage = used(bound * n * share.0 / 100, cached, written, limit * n * share.1 / 100, reasoning);
        prop_assert!(prices.cost(&usage).unwrap() <= prices.worst_case(bound, limit, n).unwrap(), "{usage:?}");
    }

    #[test]
    fn a_larger_bound_is_never_cheaper(prices in any_prices(), bound in 0..8_000_u64, limit in 0..8_000_u64, more in 0..8_000_u64) {
        prop_assert!(prices.worst_case(bound, limit, 1) <= prices.worst_case(bound + more, limit, 1));
        prop_assert!(prices.worst_case(bound, limit, 1) <= prices.worst_case(bound, limit + more, 1));
        prop_assert!(prices.worst_case(bound, limit, 1) <= prices.worst_case(bound, limit, 2));
    }
}
