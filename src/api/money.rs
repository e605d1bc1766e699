//! Money as the API writes it: decimal strings of USD, integers inside (design section 8).

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, de};

/// Why a text is no amount of money.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no amount: write a decimal string in USD like \"0.15\", at most nine digits before and nine after the point"
)]
pub struct MoneyError(String);

/// An amount in nano-USD (10⁻⁹ USD). Arithmetic saturates nowhere: use the checked operations of `u64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NanoUsd(pub u64);

impl NanoUsd {
    /// USD for graphs, rounded to 53 bits.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a graph needs no more than 53 bits")]
    pub fn as_usd(self) -> f64 {
        self.0 as f64 / 1e9
    }

    const PATTERN: &str = r"^(0|[1-9][0-9]{0,10})(\.[0-9]{1,9})?$";
}

/// A price in pico-USD (10⁻¹² USD) a token. A price of one USD a million tokens is 1,000,000 pico-USD a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PicoUsd(pub u64);

/// A non-negative decimal string with up to nine digits before and nine after the point, kept as written.
///
/// Its unit is the field's: USD for a limit, USD a million tokens for a token price, USD an hour for a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    text: String,
    nanos: u64,
}

impl Decimal {
    const PATTERN: &str = r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?$";

    /// The amount × 10⁹, exact.
    #[must_use]
    pub const fn nanos(&self) -> u64 {
        self.nanos
    }

    /// As an amount of USD.
    #[must_use]
    pub const fn usd(&self) -> NanoUsd {
        NanoUsd(self.nanos)
    }

    /// As a price in USD a million tokens: exact to the pico-USD, rounded up below it.
    #[must_use]
    pub const fn per_million(&self) -> PicoUsd {
        PicoUsd(self.nanos.div_ceil(1_000))
    }

    /// As a fraction, for ratios such as `failureRatio`.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a ratio needs no more than 53 bits")]
    pub fn ratio(&self) -> f64 {
        self.nanos as f64 / 1e9
    }
}

impl FromStr for Decimal {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text)
            .map(|nanos| Self {
                text: text.to_owned(),
                nanos,
            })
            .ok_or_else(|| MoneyError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<u64> {
    let whole = text.split('.').next()?;
    (whole.len() <= 9).then(|| amount(text))?
}

fn amount(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |s: &str, most: usize| (1..=most).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole, 11) || !digits(fraction, 9) || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    let scale = 10_u64.checked_pow(9 - u32::try_from(fraction.len()).ok()?)?;
    let whole: u64 = whole.parse().ok()?;
    whole
        .checked_mul(1_000_000_000)?
        .checked_add(fraction.parse::<u64>().ok()?.checked_mul(scale)?)
}

impl fmt::Display for NanoUsd {
    /// USD with at least two and at most nine digits after the point, no trailing zeros beyond the second.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let digits = format!("{fraction:09}");
        let kept = digits.trim_end_matches('0').len().max(2);
        write!(f, "{whole}.{}", digits.get(..kept).unwrap_or(&digits))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for NanoUsd {
    type Err = MoneyError;

    /// What [`NanoUsd`] prints: up to eleven digits before and nine after the point.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        amount(text).map(Self).ok_or_else(|| MoneyError(text.to_owned()))
    }
}

impl Serialize for NanoUsd {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NanoUsd {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for NanoUsd {
    fn schema_name() -> Cow<'static, str> {
        "NanoUsd".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": Self::PATTERN, "maxLength": 21})
    }
}

impl Serialize for Decimal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Decimal {
    fn schema_name() -> Cow<'static, str> {
        "Decimal".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": Self::PATTERN, "maxLength": 19})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_decimals_exactly() {
        for (text, nanos) in [
            ("0.15", 150_000_000),
            ("100.00", 100_000_000_000),
            ("0", 0),
            ("0.000000001", 1),
            ("999999999.999999999", 999_999_999_999_999_999),
        ] {
            assert_eq!(text.parse::<Decimal>().unwrap().nanos(), nanos, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_decimal() {
        for text in [
            "",
            ".5",
            "5.",
            "-1",
            "1e3",
            "01",
            "1,5",
            "1.0000000001",
            "1000000000",
            "+1",
            " 1",
        ] {
            assert!(text.parse::<Decimal>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_price_is_pico_usd_a_token() {
        assert_eq!("0.15".parse::<Decimal>().unwrap().per_million(), PicoUsd(150_000));
        assert_eq!(
            "0.000000001".parse::<Decimal>().unwrap().per_million(),
            PicoUsd(1),
            "rounded up"
        );
    }

    #[test]
    fn amounts_print_as_people_write_them() {
        for (nanos, text) in [
            (0, "0.00"),
            (41_270_000_000, "41.27"),
            (1, "0.000000001"),
            (1_500_000_000, "1.50"),
            (u64::MAX, "18446744073.709551615"),
        ] {
            assert_eq!(NanoUsd(nanos).to_string(), text);
            assert_eq!(text.parse(), Ok(NanoUsd(nanos)), "and are read as they print");
        }
        assert!(
            "18446744073.709551616".parse::<NanoUsd>().is_err(),
            "more than can be counted"
        );
    }
}
