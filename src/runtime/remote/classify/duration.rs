//! Durations as providers write them: `26.604s`, `6m0s`, `114h18m0s`, `1 minute and 30 seconds`, `86,400 seconds`.

use std::time::Duration;

/// A wait beyond a year is a mistake of the server, not a wait.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// A wait that can be meant: more than nothing, at most a year; rounded up to milliseconds, so that it is never shortened.
pub fn sane(wait: Duration) -> Option<Duration> {
    let millis = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).ok()?;
    (!wait.is_zero() && wait <= LONGEST).then(|| Duration::from_millis(millis))
}

/// A number of seconds, fractions included. Not a number, infinite, negative and absurd ones are none.
pub fn seconds(number: &str, scale: f64) -> Option<Duration> {
    let value = number.trim().parse::<f64>().ok()?;
    Duration::try_from_secs_f64(value * scale).ok().and_then(sane)
}

/// The duration a text begins with. `bare`: a number without a unit is one of seconds.
pub fn leading(text: &str, bare: bool) -> Option<Duration> {
    let mut rest = text.trim_start();
    let mut total: Option<Duration> = None;
    while let Some((number, tail)) = number(rest) {
        let tail = tail.trim_start_matches([' ', '-']);
        let (unit, tail) = tail.split_at(tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len()));
        let Some(scale) = scale(unit) else {
            if bare && total.is_none() && !unit_follows(unit) {
                return seconds(&number, 1.0);
            }
            break;
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * scale).ok()?;
        total = Some(total.unwrap_or_default().checked_add(part)?);
        rest = tail.trim_start_matches([' ', ',']);
        rest = rest.strip_prefix("and ").unwrap_or(rest);
    }
    sane(total?)
}

/// "in 3 attempts" is no time.
fn unit_follows(unit: &str) -> bool {
    !unit.is_empty() && !matches!(unit, "and" | "or" | "before" | "to" | "for")
}

/// The number a text begins with, without separators of thousands, and the text after it.
fn number(text: &str) -> Option<(String, &str)> {
    let inner = |at: usize, c: char| {
        c.is_ascii_digit()
            || (matches!(c, '.' | ',') && text.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit) && at > 0)
    };
    let end = text
        .char_indices()
        .find(|(at, c)| !inner(*at, *c))
        .map_or(text.len(), |(at, _)| at);
    let (number, tail) = text.split_at_checked(end)?;
    (!number.is_empty()).then(|| (number.replace(',', ""), tail))
}

fn scale(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" | "nanosecond" | "nanoseconds" => 1e-9,
        "us" | "µs" | "μs" | "microsecond" | "microseconds" => 1e-6,
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => 1e-3,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_form() {
        for (text, bare, millis) in [
            ("26.604s. Visit", false, Some(26_604)),
            ("174ms", false, Some(174)),
            ("114h18m0s.", false, Some(411_480_000)),
            ("1m2.5s", false, Some(62_500)),
            ("10.689924287s.", false, Some(10_690)),
            ("5 seconds. All", false, Some(5_000)),
            ("1 minute and 30 seconds", false, Some(90_000)),
            ("1 minute, 30 seconds", false, Some(90_000)),
            ("86,400 seconds", false, Some(86_400_000)),
            ("1 hour 2 min", false, Some(3_720_000)),
            ("6m0s", false, Some(360_000)),
            ("2 days", false, Some(172_800_000)),
            ("30-second window", false, Some(30_000)),
            ("60.", true, Some(60_000)),
            ("60", false, None),
            ("3 attempts", true, None),
            ("0s", false, None),
            ("-5s", false, None),
            ("9999999 days", false, None),
            ("1e300s", false, None),
            ("a while", true, None),
            ("", true, None),
        ] {
            assert_eq!(leading(text, bare), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn sentinels_are_no_waits() {
        for text in [
            "0",
            "-1",
            "NaN",
            "inf",
            "-inf",
            "1e300",
            "1e-12",
            "",
            "soon",
            "99999999999",
        ] {
            let found = seconds(text, 1.0);
            assert!(found.is_none_or(|w| w == Duration::from_millis(1)), "{text}: {found:?}");
        }
        assert_eq!(seconds("0.5", 1.0), Some(Duration::from_millis(500)));
    }
}
