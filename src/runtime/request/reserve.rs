//! The money of a request is set aside before it is sent.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    bound::{DEFAULT_OUTPUT_LIMIT, Terms, Unbounded, bound},
    order::{Dispatcher, Job},
    outcome::Miss,
    provider::configured_limit,
    settle::Stake,
};
use crate::{
    api::NanoUsd,
    error::{InferenceError, RetryRule},
    runtime::{
        backends::{Backend, Hold, Money, NoMoney, Remote, Routing},
        metrics::BudgetRefusal,
    },
};

/// How long a request waits for money before another backend is asked.
const PATIENCE: Duration = Duration::from_secs(5);
/// A window's end that is nearer than this is worth waiting for; clients sleep for as long as they are told.
const SOON: Duration = Duration::from_secs(3_600);

impl Dispatcher {
    /// Sets the worst case aside, by the deadline of the attempt. While that takes time, the leave of the circuits is given back: a probe
    /// must not wait for money.
    pub(super) async fn reserve(
        &self,
        routing: &Routing,
        backend: &Backend,
        job: &Job,
        stake: Stake,
        deadline: Instant,
    ) -> Result<(Stake, Option<Hold>), Miss> {
        let (remote, session) = (Arc::clone(&stake.remote), Arc::clone(&stake.session));
        let Some((prices, money)) = remote.prices.zip(self.registry.money(routing)) else {
            return Ok((stake, None));
        };
        let refused = |reason| self.metrics.refused_for_budget(&backend.name, reason);
        let now = Timestamp::now();
        if remote.bound_violated() {
            refused(BudgetRefusal::BoundViolated);
            return Err(bound_violated(routing));
        }
        let amount = bound(&job.head, &job.body, &terms(routing, &remote)).and_then(|bound| bound.worst_case(&prices));
        let amount = amount.map_err(|Unbounded { field, message }| {
            refused(BudgetRefusal::Unbounded);
            Miss::inexpressible(&field, &message, RetryRule::NextBackend)
        })?;
        let no_money = |error| match error {
            NoMoney::Denied => {
                refused(BudgetRefusal::Exhausted);
                exceeded(routing, money, now)
            }
            NoMoney::NotYet | NoMoney::Closed => {
                refused(BudgetRefusal::NoLease);
                no_lease()
            }
        };
        match money.reserve(amount, prices, remote.violated(), now) {
            Ok(hold) => return Ok((stake, Some(hold))),
            // More than a whole window has: no controller needs to be asked.
            Err(NoMoney::NotYet) if limit(routing).is_some_and(|limit| amount > limit) => {
                return Err(no_money(NoMoney::Denied));
            }
            Err(NoMoney::NotYet) => drop(stake),
            Err(error) => return Err(no_money(error)),
        }
        let patience = patience(routing, backend).min(deadline.saturating_duration_since(Instant::now()));
        let hold = money.wait(amount, prices, remote.violated(), patience);
        let hold = hold.await.map_err(no_money)?;
        match self.stake(&remote, &session) {
            Ok(stake) => Ok((stake, Some(hold))),
            Err(miss) => {
                hold.release();
                Err(miss)
            }
        }
    }
}

/// What a window has.
fn limit(routing: &Routing) -> Option<NanoUsd> {
    Some(routing.snapshot.spec.budget.as_ref()?.limit.usd())
}

/// As long as in the queue when nobody else could answer.
fn patience(routing: &Routing, backend: &Backend) -> Duration {
    let queue = routing.snapshot.serving().queue_timeout();
    if routing.is_last(backend) {
        queue
    } else {
        queue.min(PATIENCE)
    }
}

/// There is money, but not here yet: the controller is busy or away, or it waits for others to give some back.
fn no_lease() -> Miss {
    let message = "no part of the budget has been granted to this replica yet".to_owned();
    Miss::unsent_for(InferenceError::Backpressure { message }, Duration::from_secs(1))
}

/// There is no money for the request.
fn exceeded(routing: &Routing, money: &Money, now: Timestamp) -> Miss {
    let end = money.window_end(now);
    let mut miss = Miss::unsent(InferenceError::BudgetExceeded {
        deployment: routing.snapshot.full_name(),
        window_end_unix_ms: end.map(Timestamp::as_millisecond),
    });
    let left = end.and_then(|end| Duration::try_from(now.duration_until(end)).ok());
    miss.classified.wait = left.filter(|left| *left <= SOON);
    miss
}

/// The backend reported more than was proved possible: no end of a window mends that, and other backends' bounds hold.
fn bound_violated(routing: &Routing) -> Miss {
    let mut miss = Miss::unsent(InferenceError::BudgetExceeded {
        deployment: routing.snapshot.full_name(),
        window_end_unix_ms: None,
    });
    miss.classified.retry = RetryRule::NextBackend;
    miss
}

fn terms(routing: &Routing, remote: &Remote) -> Terms {
    let price = remote.spec.price.as_ref();
    Terms {
        provider: remote.spec.provider,
        context_length: remote.spec.context_length,
        cache_write: price.is_some_and(|price| price.cache_write_input_per_million_tokens.is_some()),
        default_limit: configured_limit(routing).unwrap_or(DEFAULT_OUTPUT_LIMIT),
    }
}

#[cfg(test)]
mod tests;
