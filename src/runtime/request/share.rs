//! The part of a backend's rate limit that one request takes (design sections 7 and 8).
//!
//! A share that is used up is backpressure and not rate_limited: no provider has said no, nothing was sent, and the next backend may take
//! the request at once, while the contract's rate_limited means the provider's word, asks the same backend again, and makes the
//! deployment Degraded with reason UpstreamRateLimited.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    admission::Admission,
    head::{Head, Operation},
    order::Job,
    outcome::Miss,
    provider::configured_limit,
    queue::{Limits, Priority},
};
use crate::{
    error::InferenceError,
    runtime::{
        backends::{Backend, Part, Remote, Routing, Share},
        metrics::Metrics,
        sync::lock,
    },
};

/// A request waits no longer for its part.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same when another backend may take it.
const PATIENCE_BEFORE_NEXT: Duration = Duration::from_secs(1);
/// Bytes of a body that stand for one token, as providers reckon for English text.
const BYTES_A_TOKEN: usize = 4;

/// Who waits for parts, one line a backend: by priority, and first come first served within one.
#[derive(Debug, Default)]
pub struct Lines(Mutex<BTreeMap<Arc<str>, Arc<Admission>>>);

/// One request for a part.
#[derive(Debug)]
struct Wish<'a> {
    share: &'a Arc<Share>,
    backend: &'a Arc<str>,
    tokens: u64,
    priority: Priority,
    patience: Duration,
}

impl Lines {
    /// The part of `job` when there is room at once. Counted as demand in any case.
    pub fn ask(remote: &Remote, routing: &Routing, job: &Job) -> Asked {
        let Some(share) = &remote.share else {
            return Asked::Unlimited;
        };
        let tokens = tokens(remote, share, routing, job);
        share.ask(tokens).map_or(Asked::Wait(tokens), Asked::Given)
    }

    /// Waits for the part of `tokens` that was not to be had at once, until `deadline` at most.
    pub async fn wait(
        &self,
        (routing, backend, remote): (&Routing, &Backend, &Remote),
        (job, tokens): (&Job, u64),
        deadline: Instant,
        metrics: &Metrics,
    ) -> Result<Option<Part>, Miss> {
        let Some(share) = &remote.share else { return Ok(None) };
        let left = deadline.saturating_duration_since(Instant::now());
        let wish = Wish {
            share,
            backend: &backend.name,
            tokens,
            priority: job.priority(),
            patience: patience(routing, backend).min(left),
        };
        metrics.share_short(&backend.name, "waited");
        self.wait_for(&wish).await.map(Some).map_err(|wait| {
            metrics.share_short(&backend.name, "refused");
            let message = format!("this replica's share of the rate limit of {} is used up", backend.name);
            Miss::unsent_for(InferenceError::Backpressure { message }, wait)
        })
    }

    /// # Errors
    /// How long until there would be room.
    async fn wait_for(&self, wish: &Wish<'_>) -> Result<Part, Duration> {
        let until = Instant::now() + wish.patience;
        let (place, line, before) = wish.share.join(wish.tokens, wish.patience);
        if !line.open && before == 0 {
            return Err(line.wait);
        }
        let behind_the_first = usize::try_from(before.saturating_sub(1)).unwrap_or(usize::MAX);
        let limits = Limits {
            concurrent: 1,
            // A closed line takes whoever may displace another.
            capacity: if line.open { usize::MAX } else { behind_the_first },
            timeout: Duration::MAX,
        };
        let turn = timeout_at(until, self.of(wish.backend).enter(wish.priority, limits)).await;
        let Ok(Ok(_first)) = turn else {
            return Err(line.wait);
        };
        loop {
            let changed = place.changed();
            let wait = match place.take() {
                Ok(part) => return Ok(part),
                Err(wait) => wait,
            };
            let now = Instant::now();
            if now >= until {
                return Err(wait);
            }
            tokio::select! {
                () = sleep_until((now + wait).min(until)) => {}
                () = changed => {}
            }
        }
    }

    fn of(&self, backend: &Arc<str>) -> Arc<Admission> {
        let mut lines = lock(&self.0);
        let line = lines
            .entry(Arc::clone(backend))
            .or_insert_with(|| Arc::new(Admission::line()));
        Arc::clone(line)
    }
}

/// What became of a wish at once.
#[derive(Debug)]
pub enum Asked {
    /// The backend has no limit.
    Unlimited,
    /// Here it is.
    Given(Part),
    /// There is no room for so many tokens yet.
    Wait(u64),
}

fn patience(routing: &Routing, backend: &Backend) -> Duration {
    let patience = if routing.is_last(backend) {
        PATIENCE
    } else {
        PATIENCE_BEFORE_NEXT
    };
    patience.min(routing.snapshot.serving().queue_timeout())
}

/// Tokens that a request may use: a quarter of its bytes, and what it may generate. A limit that is named counts in full, as providers
/// count it; without one it is what answers usually have.
fn tokens(remote: &Remote, share: &Share, routing: &Routing, job: &Job) -> u64 {
    let limited = remote
        .spec
        .rate_limit
        .as_ref()
        .and_then(|limit| limit.tokens_per_minute);
    if limited.is_none() {
        return 0;
    }
    let input = job.body.len().div_ceil(BYTES_A_TOKEN);
    let input = u64::try_from(input).unwrap_or(u64::MAX);
    input.saturating_add(generated(&job.head, share, routing))
}

fn generated(head: &Head, share: &Share, routing: &Routing) -> u64 {
    if head.operation == Operation::Embeddings {
        return 0;
    }
    let limit = head.output_limit.or_else(|| configured_limit(routing));
    limit.unwrap_or_else(|| share.usual_answer()).saturating_mul(head.n)
}

#[cfg(test)]
mod tests;
