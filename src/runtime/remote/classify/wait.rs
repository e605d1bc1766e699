//! How long a backend asks us to wait: headers first, then "try again in 1m2.5s" in the text.

use std::time::Duration;

use http::{HeaderMap, header};
use jiff::{Timestamp, fmt::rfc2822};

/// The wait, when one was asked for in a form that can be read.
pub fn asked(headers: &HeaderMap, message: &str) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    text("retry-after-ms")
        .and_then(|ms| ms.parse::<f64>().ok())
        .and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok())
        .or_else(|| text("retry-after").and_then(|value| retry_after(value, headers)))
        .or_else(|| in_text(message))
}

fn retry_after(value: &str, headers: &HeaderMap) -> Option<Duration> {
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let then = http_date(value)?;
    let now = http_date(headers.get(header::DATE)?.to_str().ok()?)?;
    then.duration_since(now).try_into().ok()
}

fn http_date(text: &str) -> Option<Timestamp> {
    rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
}

fn in_text(message: &str) -> Option<Duration> {
    let lower = message.to_lowercase();
    let (_, rest) = lower.split_once("try again in ")?;
    let mut words = rest.split_whitespace();
    let first = words.next()?.trim_end_matches(['.', ',', ';']);
    if let Ok(number) = first.parse::<f64>() {
        let unit = words.next()?.trim_end_matches(['.', ',', ';']);
        return Duration::try_from_secs_f64(number * seconds_in_word(unit)?).ok();
    }
    compound(first)
}

fn seconds_in_word(unit: &str) -> Option<f64> {
    match unit {
        "millisecond" | "milliseconds" => Some(1e-3),
        "second" | "seconds" => Some(1.0),
        "minute" | "minutes" => Some(60.0),
        "hour" | "hours" => Some(3600.0),
        _ => None,
    }
}

/// `26.604s`, `174ms`, `114h18m0s`.
fn compound(mut rest: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let scale = match unit {
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * scale).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    (!total.is_zero()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn headers_are_read_in_every_form() {
        for (pairs, millis) in [
            (&[("retry-after", "2")][..], Some(2_000)),
            (&[("retry-after", "0.5")], Some(500)),
            (&[("retry-after-ms", "174"), ("retry-after", "1")], Some(174)),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "1e300")], None),
            (&[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")], None),
            (
                &[
                    ("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"),
                    ("date", "Wed, 21 Oct 2026 07:27:30 GMT"),
                ],
                Some(30_000),
            ),
        ] {
            assert_eq!(
                asked(&headers(pairs), ""),
                millis.map(Duration::from_millis),
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn text_is_read_when_no_header_tells() {
        for (text, millis) in [
            ("Please try again in 26.604s. Visit", Some(26_604)),
            ("try again in 174ms", Some(174)),
            ("Please try again in 114h18m0s.", Some(411_480_000)),
            ("Try again in 5 seconds. All", Some(5_000)),
            ("try again in a while", None),
            ("try again in ", None),
            ("slow", None),
        ] {
            assert_eq!(
                asked(&HeaderMap::new(), text),
                millis.map(Duration::from_millis),
                "{text}"
            );
        }
    }
}
