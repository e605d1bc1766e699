//! A line as JSON. Every request writes one, and the stock formatter takes longer for it than this process for reading the request.

use std::{cell::RefCell, fmt, time::SystemTime};

use jiff::Timestamp;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Json, Writer},
    },
    registry::LookupSpan,
};

use crate::runtime::json_text::write_quoted;

/// Whose events are written here.
const OWN: &str = env!("CARGO_CRATE_NAME");

/// Writes this crate's own events outside of spans itself, byte for byte as `tracing_subscriber`'s formatter does, and leaves it the rest.
#[derive(Debug)]
pub struct Line(Format<Json>);

impl Default for Line {
    fn default() -> Self {
        Self(tracing_subscriber::fmt::format().json())
    }
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let is_own = event.metadata().target().starts_with(OWN);
        if is_own && event.parent().is_none() && context.lookup_current().is_none() {
            write(writer, event)
        } else {
            self.0.format_event(context, writer, event)
        }
    }
}

fn write(mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
    writer.write_str(r#"{"timestamp":""#)?;
    time(&mut writer, SystemTime::now())?;
    writer.write_str(r#"","level":""#)?;
    writer.write_str(event.metadata().level().as_str())?;
    writer.write_str(r#"","fields":{"#)?;
    let mut fields = Fields {
        writer: &mut writer,
        first: true,
        result: Ok(()),
    };
    event.record(&mut fields);
    fields.result?;
    writer.write_str(r#"},"target":""#)?;
    writer.write_str(event.metadata().target())?;
    writer.write_str("\"}\n")
}

/// RFC 3339 with microseconds. All of it but those is the same for a whole second.
fn time(writer: &mut Writer<'_>, now: SystemTime) -> fmt::Result {
    thread_local! {
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() {
            let start = Timestamp::from_second(since.as_secs().try_into().unwrap_or(i64::MAX));
            *text = start
                .unwrap_or(Timestamp::MAX)
                .strftime("%Y-%m-%dT%H:%M:%S")
                .to_string();
            *second = since.as_secs();
        }
        write!(writer, "{text}.{:06}Z", since.subsec_micros())
    })
}

/// Writes the members of an object.
struct Fields<'a, 'b> {
    writer: &'a mut Writer<'b>,
    first: bool,
    result: fmt::Result,
}

impl Fields<'_, '_> {
    fn member(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let comma = if self.first { "" } else { "," };
        self.first = false;
        let name = |writer: &mut Writer<'_>| {
            writer.write_str(comma)?;
            write_quoted(writer, field.name())?;
            writer.write_str(":")
        };
        self.result = self
            .result
            .and_then(|()| name(self.writer))
            .and_then(|()| value(self.writer));
    }
}

impl Visit for Fields<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, |writer| write_quoted(writer, value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.member(field, |writer| {
            writer.write_str(&serde_json::to_string(&value).map_err(|_| fmt::Error)?)
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.member(field, |writer| write_quoted(writer, &format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use proptest::prelude::*;
    use tracing::{info, info_span, warn};
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;
    use crate::runtime::sync::lock;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// The lines without their times.
    fn logged(own: bool, act: impl Fn()) -> String {
        let lines = Lines::default();
        let logs = tracing_subscriber::fmt().json().with_writer(lines.clone());
        if own {
            tracing::subscriber::with_default(logs.event_format(Line::default()).finish(), act);
        } else {
            tracing::subscriber::with_default(logs.finish(), act);
        }
        let text = String::from_utf8(lock(&lines.0).clone()).unwrap();
        let timeless = text.lines().map(|line| {
            let rest = line.strip_prefix(r#"{"timestamp":""#).unwrap();
            let (time, rest) = rest.split_at("2026-11-28T07:36:00.123456Z".len());
            assert!(time.parse::<Timestamp>().is_ok(), "{time}");
            format!("{rest}\n")
        });
        timeless.collect()
    }

    fn same(act: impl Fn()) {
        assert_eq!(logged(true, &act), logged(false, &act));
    }

    #[test]
    fn times_are_those_of_the_stock_formatter() {
        for (seconds, micros) in [(0, 0), (1_796_083_199, 999_999), (1_796_083_200, 1), (951_782_400, 42)] {
            let at = SystemTime::UNIX_EPOCH + Duration::new(seconds, micros * 1_000);
            let mut text = String::new();
            time(&mut Writer::new(&mut text), at).unwrap();
            let stock = Timestamp::try_from(at).unwrap().strftime("%Y-%m-%dT%H:%M:%S.%6fZ");
            assert_eq!(text, stock.to_string());
        }
    }

    #[test]
    fn spans_and_other_crates_are_the_stock_formatters() {
        same(|| {
            let _entered = info_span!("outer", id = 7).entered();
            info!(a = 1, "within");
        });
        same(|| info!(target: "hyper::client", "theirs"));
    }

    proptest! {
        #[test]
        fn lines_are_those_of_the_stock_formatter(word: String, signed: i64, unsigned: u64, float: f64, is_so: bool) {
            same(|| {
                info!(word, signed, unsigned, float, is_so, "request");
                warn!(debug = ?word, display = %word, error = &io::Error::other(word.clone()) as &dyn std::error::Error, "{word}");
                info!(r#type = "x");
            });
        }
    }
}
