//! How long a backend asks us to wait. What it says in a header goes before a field of the body, that before the reset of an
//! exhausted limit, and that before its words. Whether the wait is kept is the retry policy's matter, not decided here.

use std::time::Duration;

use http::{HeaderMap, header};
use jiff::{SignedDuration, Timestamp, civil::DateTime, fmt::rfc2822, tz::TimeZone};

use super::{
    body::ErrorBody,
    duration::{leading, sane, seconds},
};

/// The wait of the headers `retry-after-ms` and `retry-after`: milliseconds, seconds with fractions, or a date.
#[must_use]
pub fn in_headers(headers: &HeaderMap) -> Option<Duration> {
    text(headers, "retry-after-ms")
        .and_then(|ms| seconds(ms, 1e-3))
        .or_else(|| retry_after(text(headers, "retry-after")?, headers))
}

/// The wait of the body: RetryInfo and its like, the headers an aggregator passes on, then text.
///
/// `limited`: the answer is about a rate, so that limits which are used up tell when to come back.
pub fn elsewhere(headers: &HeaderMap, body: &ErrorBody, now_unix_ms: i64, limited: bool) -> Option<Duration> {
    let now = date(headers).or_else(|| Timestamp::from_millisecond(now_unix_ms).ok());
    let resets = || {
        limited
            .then(|| {
                let field = || rate_limit_field(headers);
                reset(headers, now).or_else(field).or_else(|| reset(&body.headers, now))
            })
            .flatten()
    };
    let field = body.delay.as_deref().and_then(|delay| leading(delay, true));
    field
        .or_else(|| in_headers(&body.headers))
        .or_else(resets)
        .or_else(|| in_text(&body.text))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// A date counts from the answer's own Date header: clocks differ, and a date without one tells nothing reliable.
fn retry_after(value: &str, headers: &HeaderMap) -> Option<Duration> {
    if value.parse::<f64>().is_ok() {
        return seconds(value, 1.0);
    }
    match http_date(value) {
        Some(then) => until(then, date(headers)?),
        None => leading(&value.to_lowercase(), false),
    }
}

fn until(then: Timestamp, now: Timestamp) -> Option<Duration> {
    then.duration_since(now).try_into().ok().and_then(sane)
}

fn date(headers: &HeaderMap) -> Option<Timestamp> {
    http_date(text(headers, header::DATE.as_str())?)
}

/// The three forms of RFC 9110 5.6.7.
fn http_date(text: &str) -> Option<Timestamp> {
    if let Ok(zoned) = rfc2822::parse(text) {
        return Some(zoned.timestamp());
    }
    let obsolete = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let civil = obsolete
        .iter()
        .find_map(|format| DateTime::strptime(format, text).ok())?;
    civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// The latest reset of the limits of which nothing remains: `…ratelimit-remaining…: 0` beside `…ratelimit-reset…`.
fn reset(headers: &HeaderMap, now: Option<Timestamp>) -> Option<Duration> {
    let used_up = headers.iter().filter(|(name, value)| {
        let name = name.as_str();
        let remaining = value.to_str().ok().and_then(|v| v.trim().parse::<f64>().ok());
        name.contains("ratelimit") && name.contains("remaining") && remaining.is_some_and(|left| left <= 0.0)
    });
    used_up
        .filter_map(|(name, _)| reset_value(text(headers, &name.as_str().replace("remaining", "reset"))?, now))
        .max()
}

/// The drafts of the IETF, what remains and the seconds until more does: `ratelimit: "api";r=0;t=187`, and of old
/// `ratelimit: limit=100, remaining=0, reset=50`.
fn rate_limit_field(headers: &HeaderMap) -> Option<Duration> {
    let field = text(headers, "ratelimit")?;
    let old = field.contains("reset=");
    let used_up = |limit: &str| {
        let parameter = |name| limit.split([';', ',']).find_map(|part| part.trim().strip_prefix(name));
        let (remaining, reset) = if old { ("remaining=", "reset=") } else { ("r=", "t=") };
        (parameter(remaining)? == "0").then(|| seconds(parameter(reset)?, 1.0))?
    };
    field.split(|c| c == ',' && !old).filter_map(used_up).max()
}

/// A duration (`6m0s`), seconds, an instant (RFC 3339), or an instant in seconds or milliseconds since 1970.
fn reset_value(value: &str, now: Option<Timestamp>) -> Option<Duration> {
    if let Ok(then) = value.parse::<Timestamp>() {
        return until(then, now?);
    }
    match value.parse::<f64>() {
        Ok(number) if number >= 1e9 => {
            let since = SignedDuration::try_from_secs_f64(if number >= 1e11 { number / 1e3 } else { number });
            until(Timestamp::from_duration(since.ok()?).ok()?, now?)
        }
        Ok(_) => seconds(value, 1.0),
        Err(_) => leading(&value.to_lowercase(), false),
    }
}

/// What comes before a wait in a text, and whether a number alone is then one of seconds.
const MARKERS: [(&str, bool); 12] = [
    ("try again in ", false),
    ("try again after ", false),
    ("retry in ", false),
    ("retry after ", true),
    ("retry-after", true),
    ("retry_after", true),
    ("retrydelay", false),
    ("reset after ", false),
    ("resets in ", false),
    ("reset in ", false),
    ("available in ", false),
    ("wait ", false),
];

fn in_text(text: &str) -> Option<Duration> {
    MARKERS.iter().find_map(|(marker, bare)| {
        text.split(marker).skip(1).find_map(|rest| {
            let rest = rest.trim_start_matches(['"', '\'', '\\', ':', '=', ' ', '~']);
            let vague = ["about ", "approximately ", "at least ", "another ", "for "];
            let rest = vague.iter().find_map(|word| rest.strip_prefix(word)).unwrap_or(rest);
            leading(rest, *bare)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_792_569_600_000; // 2026-10-21T08:00:00Z

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
            (&[("retry-after", "30s")], Some(30_000)),
            (&[("retry-after-ms", "174"), ("retry-after", "1")], Some(174)),
            (&[("retry-after-ms", "-1"), ("retry-after", "1")], Some(1_000)),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "0")], None),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "1e300")], None),
            (&[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")], None),
            (
                &[
                    ("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"),
                    ("date", "Wed, 21 Oct 2026 07:27:30 GMT"),
                ],
                Some(30_000),
            ),
            (
                &[
                    ("retry-after", "Wed Oct 21 07:28:00 2026"),
                    ("date", "Wed, 21 Oct 2026 07:27:30 GMT"),
                ],
                Some(30_000),
            ),
            (
                &[
                    ("retry-after", "Wednesday, 21-Oct-26 07:28:00 GMT"),
                    ("date", "Wed, 21 Oct 2026 07:27:30 GMT"),
                ],
                Some(30_000),
            ),
            (
                &[
                    ("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"),
                    ("date", "Wed, 21 Oct 2026 07:30:00 GMT"),
                ],
                None,
            ),
        ] {
            assert_eq!(
                in_headers(&headers(pairs)),
                millis.map(Duration::from_millis),
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn the_latest_reset_of_what_is_used_up_counts() {
        let minute = "2026-10-21T08:01:00Z";
        for (pairs, millis) in [
            (
                &[
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "120ms"),
                ][..],
                Some(120),
            ),
            (
                &[
                    ("x-ratelimit-remaining-tokens", "5"),
                    ("x-ratelimit-reset-tokens", "6m0s"),
                ],
                None,
            ),
            (
                &[
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "1s"),
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "6m0s"),
                ],
                Some(360_000),
            ),
            (
                &[
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "41.5"),
                ],
                Some(41_500),
            ),
            (
                &[
                    ("anthropic-ratelimit-tokens-remaining", "0"),
                    ("anthropic-ratelimit-tokens-reset", minute),
                ],
                Some(60_000),
            ),
            (
                &[
                    ("anthropic-ratelimit-tokens-remaining", "0"),
                    ("anthropic-ratelimit-tokens-reset", minute),
                    ("date", "Wed, 21 Oct 2026 08:00:30 GMT"),
                ],
                Some(30_000),
            ),
            (
                &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1792569660000")],
                Some(60_000),
            ),
            (
                &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1792569660")],
                Some(60_000),
            ),
            (&[("ratelimit-remaining", "0"), ("ratelimit-reset", "0")], None),
        ] {
            let found = elsewhere(&headers(pairs), &ErrorBody::default(), NOW, true);
            assert_eq!(found, millis.map(Duration::from_millis), "{pairs:?}");
            assert_eq!(elsewhere(&headers(pairs), &ErrorBody::default(), NOW, false), None);
        }
    }

    #[test]
    fn bodies_are_read_in_every_form() {
        for (text, millis) in [
            ("Please try again in 26.604s. Visit", Some(26_604)),
            ("try again in 174ms", Some(174)),
            ("Your rate limit resets in ~13s.", Some(13_000)),
            ("Please try again in 114h18m0s.", Some(411_480_000)),
            ("Try again in 5 seconds. All", Some(5_000)),
            ("Please retry after 86400 seconds. Please go here", Some(86_400_000)),
            ("Please retry in 10.689924287s.", Some(10_690)),
            ("Your quota will reset after 8h44m7s.", Some(31_447_000)),
            ("please wait 20 seconds", Some(20_000)),
            (
                "litellm.RateLimitError: b'{\"error\": {\"details\": [{\"retryDelay\": \"22s\"",
                Some(22_000),
            ),
            (
                r#"{"error":{"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":{"seconds":"7"}}]}}"#,
                Some(7_000),
            ),
            (r#"{"error":{"message":"slow down","retry_after":1.5}}"#, Some(1_500)),
            (
                r#"{"error":"Model x is currently loading","estimated_time":20.0}"#,
                Some(20_000),
            ),
            (r#"{"error":{"message":"x","resets_in_seconds":7200}}"#, Some(7_200_000)),
            ("wait a moment and try again in a while", None),
            ("try again in ", None),
            ("slow", None),
        ] {
            let found = elsewhere(&HeaderMap::new(), &ErrorBody::read(text.as_bytes()), NOW, true);
            assert_eq!(found, millis.map(Duration::from_millis), "{text}");
        }
    }
}
