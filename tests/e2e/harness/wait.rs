//! Waiting for what must become true, with a deadline.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::Namespace;

const POLL: Duration = Duration::from_millis(50);

/// Asks until there is an answer.
///
/// # Panics
/// When there is none within `limit`, with `what` and the last word of `ask`.
pub async fn until<T, F>(what: &str, limit: Duration, mut ask: F) -> T
where
    F: AsyncFnMut() -> Result<T, String>,
{
    let started = Instant::now();
    let mut tick = tokio::time::interval(POLL);
    loop {
        tick.tick().await;
        match ask().await {
            Ok(value) => return value,
            Err(state) if started.elapsed() > limit => panic!("{what}: not within {limit:?}; last: {state}"),
            Err(_) => {}
        }
    }
}

/// Waits for a condition of an InferenceDeployment that speaks of its newest generation; returns how long it took.
pub async fn condition(
    namespace: &Namespace,
    name: &str,
    kind: &str,
    status: &str,
    reason: Option<&str>,
    limit: Duration,
) -> Duration {
    let started = Instant::now();
    until(
        &format!("{name}: {kind}={status} {}", reason.unwrap_or_default()),
        limit,
        async || {
            let object = namespace.deployments().get(name).await.map_err(|e| e.to_string())?;
            let conditions = object.status.map(|s| s.conditions).unwrap_or_default();
            let generation = object.metadata.generation;
            let met = |c: &Condition| {
                c.type_ == kind
                    && c.status == status
                    && c.observed_generation == generation
                    && reason.is_none_or(|r| c.reason == r)
            };
            if conditions.iter().any(met) {
                Ok(())
            } else {
                Err(describe(&conditions))
            }
        },
    )
    .await;
    started.elapsed()
}

fn describe(conditions: &[Condition]) -> String {
    let row = |c: &Condition| format!("\n  {}={} {}: {}", c.type_, c.status, c.reason, c.message);
    conditions.iter().map(row).collect()
}
