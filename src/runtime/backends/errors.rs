//! What went wrong of late: one row a kind and backend, with a count bucket instead of a counter.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Signals;
use crate::{
    api::ErrorRow,
    error::{ErrorKind, InferenceError},
    runtime::{clock::Clock, remote::classify::scrub::shown, sync::lock},
};

/// A row that was not added to for so long is dropped.
const KEPT: Duration = Duration::from_secs(600);

#[derive(Debug)]
struct Row {
    count: u64,
    first_seen: Duration,
    last_seen: Duration,
    message: String,
}

/// The rows. Bounded: fourteen kinds times eight backends.
#[derive(Debug)]
pub struct ErrorBook {
    rows: Mutex<BTreeMap<(ErrorKind, String), Row>>,
    clock: Clock,
    signals: Arc<Signals>,
}

impl ErrorBook {
    /// An empty book.
    #[must_use]
    pub const fn new(clock: Clock, signals: Arc<Signals>) -> Self {
        Self {
            rows: Mutex::new(BTreeMap::new()),
            clock,
            signals,
        }
    }

    /// Notes a failure. The caller's own faults are not noted.
    pub fn note(&self, backend: &str, error: &InferenceError) {
        let kind = error.kind();
        if matches!(
            kind,
            ErrorKind::BadRequest | ErrorKind::ContextLengthExceeded | ErrorKind::ContentFiltered
        ) {
            return;
        }
        let now = self.clock.now();
        let mut rows = lock(&self.rows);
        let row = rows.entry((kind, backend.to_owned())).or_insert_with(|| Row {
            count: 0,
            first_seen: now,
            last_seen: now,
            message: shown(&error.to_string()),
        });
        row.count = row.count.saturating_add(1);
        row.last_seen = now;
        if bucket(row.count) == row.count {
            self.signals.routine();
        }
    }

    /// The rows for status.
    #[must_use]
    pub fn rows(&self) -> Vec<ErrorRow> {
        let now = self.clock.now();
        let mut rows = lock(&self.rows);
        rows.retain(|_, row| now.saturating_sub(row.last_seen) < KEPT);
        rows.iter()
            .map(|((kind, backend), row)| ErrorRow {
                kind: kind.as_str().to_owned(),
                backend: backend.clone(),
                count_bucket: bucket(row.count),
                first_seen: Time(self.clock.timestamp(row.first_seen)),
                message: row.message.clone(),
            })
            .collect()
    }
}

/// The largest power of ten that the count has reached.
fn bucket(count: u64) -> u64 {
    10_u64.saturating_pow(count.max(1).ilog10())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rows_count_in_powers_of_ten_and_go_when_old() {
        let book = ErrorBook::new(Clock::start(), Arc::default());
        for _ in 0..37 {
            book.note("openai", &InferenceError::Timeout { elapsed_ms: 1 });
            book.note("openai", &InferenceError::BadRequest { message: "x".into() });
        }
        let rows = book.rows();
        let seen: Vec<_> = rows
            .iter()
            .map(|r| (r.kind.as_str(), r.backend.as_str(), r.count_bucket))
            .collect();
        assert_eq!(seen, [("timeout", "openai", 10)]);
        tokio::time::advance(KEPT).await;
        assert_eq!(book.rows(), []);
    }
}
