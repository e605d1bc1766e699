//! The calendar of a budget in a named time zone.

use jiff::{RoundMode, Timestamp, Unit, Zoned, ZonedRound, tz::TimeZone};

use crate::api::BudgetPeriod;

/// From `start` until `end`, both `None` for a budget that never starts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First instant.
    pub start: Option<Timestamp>,
    /// First instant after it.
    pub end: Option<Timestamp>,
}

impl Window {
    const ENDLESS: Self = Self { start: None, end: None };

    /// True when the instant is inside.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start.is_none_or(|start| start <= at) && self.end.is_none_or(|end| at < end)
    }
}

/// The window of `period` that holds `now`, by the wall clock of `zone`: a day may have 23 or 25 hours.
///
/// Instants at the ends of what the calendar can express give an endless window.
#[must_use]
pub fn window(period: BudgetPeriod, zone: &TimeZone, now: Timestamp) -> Window {
    bounds(period, &now.to_zoned(zone.clone())).unwrap_or(Window::ENDLESS)
}

fn bounds(period: BudgetPeriod, now: &Zoned) -> Option<Window> {
    let (start, end) = match period {
        BudgetPeriod::Total => return Some(Window::ENDLESS),
        BudgetPeriod::Hour => {
            let start = hour(now)?;
            (start.clone(), next_hour(&start)?)
        }
        BudgetPeriod::Day => days(now, 0, 1)?,
        BudgetPeriod::Week => days(now, i32::from(now.weekday().to_monday_zero_offset()), 7)?,
        BudgetPeriod::Month => {
            let first = now.date().first_of_month();
            let next = first.checked_add(jiff::Span::new().months(1)).ok()?;
            (
                first.to_zoned(now.time_zone().clone()).ok()?,
                next.to_zoned(now.time_zone().clone()).ok()?,
            )
        }
    };
    Some(Window {
        start: Some(start.timestamp()),
        end: Some(end.timestamp()),
    })
}

/// The beginning of the hour on the wall clock.
fn hour(at: &Zoned) -> Option<Zoned> {
    at.round(ZonedRound::new().smallest(Unit::Hour).mode(RoundMode::Trunc))
        .ok()
}

/// The next beginning of an hour. Where clocks move by half an hour it is 30 or 90 minutes away.
fn next_hour(start: &Zoned) -> Option<Zoned> {
    (1..=2).find_map(|hours| {
        let later = start.checked_add(jiff::Span::new().hours(hours)).ok()?;
        hour(&later).filter(|next| next > start)
    })
}

/// From midnight `back` days ago, `length` calendar days.
fn days(now: &Zoned, back: i32, length: i32) -> Option<(Zoned, Zoned)> {
    let first = now.date().checked_sub(jiff::Span::new().days(back)).ok()?;
    let next = first.checked_add(jiff::Span::new().days(length)).ok()?;
    Some((
        first.to_zoned(now.time_zone().clone()).ok()?,
        next.to_zoned(now.time_zone().clone()).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn in_zone(period: BudgetPeriod, zone: &str, now: &str) -> (String, String) {
        let w = window(period, &TimeZone::get(zone).unwrap(), now.parse().unwrap());
        (w.start.unwrap().to_string(), w.end.unwrap().to_string())
    }

    #[test]
    fn zones_are_in_the_program_itself_because_the_image_has_none() {
        let bundled = jiff::tz::TimeZoneDatabase::bundled();
        for zone in ["UTC", "Europe/Berlin"] {
            assert!(bundled.get(zone).is_ok(), "{zone}");
        }
    }

    #[test]
    fn windows_follow_the_zones_calendar() {
        use BudgetPeriod::{Day, Hour, Month, Week};
        for (period, zone, now, start, end) in [
            (
                Month,
                "UTC",
                "2026-11-23T12:00:00Z",
                "2026-11-01T00:00:00Z",
                "2026-12-01T00:00:00Z",
            ),
            (
                Month,
                "Europe/Berlin",
                "2026-10-31T23:30:00Z",
                "2026-10-31T23:00:00Z",
                "2026-11-30T23:00:00Z",
            ),
            (
                Week,
                "UTC",
                "2026-11-23T00:00:00Z",
                "2026-11-23T00:00:00Z",
                "2026-11-30T00:00:00Z",
            ),
            (
                Week,
                "UTC",
                "2026-11-22T23:59:59Z",
                "2026-11-16T00:00:00Z",
                "2026-11-23T00:00:00Z",
            ),
            (
                Hour,
                "Asia/Kolkata",
                "2026-01-01T10:15:00Z",
                "2026-01-01T09:30:00Z",
                "2026-01-01T10:30:00Z",
            ),
            (
                Hour,
                "Australia/Lord_Howe",
                "2087-10-04T15:30:00Z",
                "2087-10-04T15:30:00Z",
                "2087-10-04T16:00:00Z",
            ),
            (
                Hour,
                "Australia/Lord_Howe",
                "2026-04-04T15:10:00Z",
                "2026-04-04T14:00:00Z",
                "2026-04-04T15:30:00Z",
            ),
            (
                Day,
                "Europe/Berlin",
                "2026-03-29T12:00:00Z",
                "2026-03-28T23:00:00Z",
                "2026-03-29T22:00:00Z",
            ),
            (
                Day,
                "Europe/Berlin",
                "2026-10-25T12:00:00Z",
                "2026-10-24T22:00:00Z",
                "2026-10-25T23:00:00Z",
            ),
        ] {
            assert_eq!(
                in_zone(period, zone, now),
                (start.to_owned(), end.to_owned()),
                "{period:?} {zone} {now}"
            );
        }
    }

    proptest! {
        #[test]
        fn windows_hold_their_instant_and_join_without_a_gap(second in 0..4_000_000_000_i64, which in 0..4_usize) {
            let period = [BudgetPeriod::Hour, BudgetPeriod::Day, BudgetPeriod::Week, BudgetPeriod::Month][which];
            for zone in ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe"] {
                let zone = TimeZone::get(zone).unwrap();
                let now = Timestamp::from_second(second).unwrap();
                let this = window(period, &zone, now);
                prop_assert!(this.contains(now));
                let next = window(period, &zone, this.end.unwrap());
                prop_assert_eq!(next.start, this.end);
            }
        }
    }
}
