//! All replicas' error rows as one a kind and backend. Bounded, and without counters that run (design section 6).

use std::collections::BTreeMap;

use crate::api::{ErrorRow, InferenceReplicaStatus};

/// Rows that the schema allows.
const MOST: usize = 112;

/// Merges the rows: counts add up (to a bucket), the first time and its message stay.
pub fn merge(reports: &[&InferenceReplicaStatus]) -> Vec<ErrorRow> {
    let mut merged: BTreeMap<(&str, &str), ErrorRow> = BTreeMap::new();
    for row in reports.iter().flat_map(|r| &r.errors) {
        merged
            .entry((&row.backend, &row.kind))
            .and_modify(|sum| add(sum, row))
            .or_insert_with(|| row.clone());
    }
    let rows = merged.into_values().take(MOST);
    rows.map(|row| ErrorRow {
        count_bucket: bucket(row.count_bucket),
        ..row
    })
    .collect()
}

fn add(sum: &mut ErrorRow, row: &ErrorRow) {
    sum.count_bucket = sum.count_bucket.saturating_add(row.count_bucket);
    if row.first_seen.0 < sum.first_seen.0 {
        sum.first_seen = row.first_seen.clone();
        sum.message.clone_from(&row.message);
    }
}

/// The largest power of ten that is not above `count`.
fn bucket(count: u64) -> u64 {
    10_u64.saturating_pow(count.max(1).ilog10())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn report(kind: &str, count_bucket: u64, first_seen: &str) -> InferenceReplicaStatus {
        InferenceReplicaStatus {
            errors: vec![ErrorRow {
                kind: kind.into(),
                backend: "openai".into(),
                count_bucket,
                first_seen: Time(first_seen.parse().unwrap()),
                message: first_seen.into(),
            }],
            ..InferenceReplicaStatus::default()
        }
    }

    #[test]
    fn counts_add_up_to_a_bucket_and_the_first_message_stays() {
        let late = report("timeout", 100, "2026-01-02T00:00:00Z");
        let early = report("timeout", 10, "2026-01-01T00:00:00Z");
        let other = report("network_error", 1, "2026-01-01T00:00:00Z");
        let rows = merge(&[&late, &early, &other]);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[1].kind.as_str(), rows[1].count_bucket), ("timeout", 100));
        assert_eq!(rows[1].message, "2026-01-01T00:00:00Z");
        let many: Vec<_> = (0..10).map(|_| late.clone()).collect();
        assert_eq!(merge(&many.iter().collect::<Vec<_>>())[0].count_bucket, 1000);
    }
}
