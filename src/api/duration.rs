//! Durations as Kubernetes users write them: `30s`, `1m30s`, `500ms`, `2h`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, de};

/// A duration in Go's notation, whole milliseconds, at most [`DurationString::MAX`].
///
/// Serialised as the string that was read, so that a round trip never rewrites what the user wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationString {
    text: String,
    value: Duration,
}

impl DurationString {
    /// The longest duration that is accepted: 31 days.
    pub const MAX: Duration = Duration::from_secs(31 * 24 * 3600);
    const PATTERN: &str = "^([0-9]{1,9}(ms|s|m|h))+$";

    /// The duration as a number.
    #[must_use]
    pub const fn get(&self) -> Duration {
        self.value
    }
}

/// Why a text is no duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no duration: write it like 30s, 1m30s or 500ms, at most 744h")]
pub struct DurationError(String);

impl FromStr for DurationString {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match parse(text) {
            Some(value) if value <= Self::MAX => Ok(Self {
                text: text.to_owned(),
                value,
            }),
            _ => Err(DurationError(text.to_owned())),
        }
    }
}

fn parse(mut rest: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let units = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(units);
        total = total.checked_add(unit_of(unit)?.checked_mul(number.parse().ok()?)?)?;
        rest = tail;
    }
    Some(total)
}

const fn unit_of(unit: &str) -> Option<Duration> {
    match unit.as_bytes() {
        b"ms" => Some(Duration::from_millis(1)),
        b"s" => Some(Duration::from_secs(1)),
        b"m" => Some(Duration::from_secs(60)),
        b"h" => Some(Duration::from_secs(3600)),
        _ => None,
    }
}

impl From<Duration> for DurationString {
    fn from(value: Duration) -> Self {
        let text = if value.subsec_millis() == 0 {
            format!("{}s", value.as_secs())
        } else {
            format!("{}ms", value.as_millis())
        };
        Self { text, value }
    }
}

impl fmt::Display for DurationString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for DurationString {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for DurationString {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for DurationString {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": Self::PATTERN,
            "maxLength": 20,
            "x-kubernetes-validations": [{
                "rule": "duration(self) <= duration('744h')",
                "message": "a duration is at most 744h (31 days)",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_go_durations() {
        for (text, millis) in [
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("2h", 7_200_000),
            ("0s", 0),
            ("744h", 2_678_400_000),
        ] {
            assert_eq!(
                text.parse::<DurationString>().unwrap().get(),
                Duration::from_millis(millis),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            "1d",
            "s30",
            "745h",
            "99999999999999999999s",
            "1s ",
        ] {
            assert!(text.parse::<DurationString>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_round_trip_keeps_the_text() {
        let read: DurationString = serde_json::from_str("\"90s\"").unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), "\"90s\"");
    }
}
