//! One provider's turn: leave of its circuits, a part of its rate limit, the money; then attempts, and what a failure allows next.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    ask::{OutputLimit, inexpressible, question},
    attempt::{Question, send},
    bound::DEFAULT_OUTPUT_LIMIT,
    head::Head,
    order::{Dispatcher, Job, Reply},
    outcome::{Miss, Progress},
    rewrite::asks_only_usage,
    settle::{Stake, Ticket},
    share::{Asked, Lines},
    target::{Target, Timers},
};
use crate::{
    error::{InferenceError, RetryRule},
    policy::circuit::Refused,
    runtime::{
        backends::{Backend, Hold, Part, Remote, Routing},
        remote::{google::TokenError, session::Session, wire::address::NoAddress},
    },
};

impl Dispatcher {
    /// Tries one provider: retries share the time of one attempt.
    pub(super) async fn remote(
        &self,
        routing: &Routing,
        backend: &Backend,
        remote: &Arc<Remote>,
        job: &Job,
    ) -> Result<Reply, Miss> {
        if !*self.registry.remote_gate.borrow() {
            let message = "the replica has not been registered by the controller yet".to_owned();
            return Err(Miss::unsent_for(
                InferenceError::Backpressure { message },
                Duration::from_secs(1),
            ));
        }
        let started = Instant::now();
        let (mut retries, mut rebuilt) = (0, false);
        let mut options = remote.takes_stream_options();
        let mut failed_with: Option<Miss> = None;
        remote.first_attempt();
        loop {
            // Retries share the time of one attempt: a request never takes longer than `total` at one backend.
            let timers = Timers::from(remote.timeouts()).after(started.elapsed());
            let (miss, ticket, used) = match self.once((routing, backend, remote), job, timers, options).await {
                Ok(reply) => {
                    if !options && remote.takes_stream_options() {
                        remote.refuses_stream_options();
                    }
                    return Ok(reply);
                }
                // What keeps a retry from being sent (its own failures opened the circuit, say) is not why the request failed.
                Err(Failed::Before(miss)) => return Err(failed_with.unwrap_or(*miss)),
                Err(Failed::During(failed)) => *failed,
            };
            // A probe is one call: what it comes to counts.
            if miss.classified.retry == RetryRule::RebuiltSession && !rebuilt && !ticket.is_probe() {
                ticket.fail_uncounted(&miss);
                remote.renew(&used);
                rebuilt = true;
                failed_with = Some(miss);
                continue;
            }
            let refuses_ours = miss.of_stream_options && options && asks_only_usage(&job.body, &job.head);
            // A probe is one call: the next one tries without, and tells whether that was it.
            if refuses_ours && ticket.is_probe() {
                remote.refuses_stream_options();
            }
            ticket.fail(&miss);
            if refuses_ours {
                options = false;
                failed_with = Some(miss);
                continue;
            }
            let remaining = remote.timeouts().total().saturating_sub(started.elapsed());
            let again = miss.classified.retry == RetryRule::SameBackend;
            let wait = again
                .then(|| remote.retry(retries, miss.classified.wait, remaining))
                .flatten();
            let Some(wait) = wait else { return Err(miss) };
            retries += 1;
            self.registry.errors.note(&backend.name, &miss.classified.error);
            self.metrics.retry(&backend.name);
            failed_with = Some(miss);
            tokio::time::sleep(wait).await;
        }
    }

    async fn once(
        &self,
        (routing, backend, remote): (&Routing, &Backend, &Arc<Remote>),
        job: &Job,
        timers: Timers,
        options: bool,
    ) -> Result<Reply, Failed> {
        let session = remote
            .session()
            .map_err(|unusable| Failed::before(Miss::at(Progress::Unsent, unusable.classified())))?;
        let (target, question, ticket) = self
            .prepare((routing, backend, remote), job, &session, timers, options)
            .await
            .map_err(Failed::before)?;
        match send(target, question, self.asker(routing)).await {
            Ok(answer) => Ok(Reply::begun(backend, answer, ticket)),
            Err(miss) => Err(Failed::During(Box::new((miss, ticket, session)))),
        }
    }

    /// Everything that can be refused before anything is sent. The money comes last: what is reserved is sent.
    async fn prepare(
        &self,
        (routing, backend, remote): (&Routing, &Backend, &Arc<Remote>),
        job: &Job,
        session: &Arc<Session>,
        timers: Timers,
        options: bool,
    ) -> Result<(Target, Question, Ticket), Miss> {
        let begun = Instant::now();
        fits(remote, &job.head)?;
        let address = remote.addresses.of(job.head.operation, job.head.stream);
        let uri = address.map_err(no_address)?.clone();
        let (stake, part) = self
            .admitted((routing, backend, remote), job, session, begun + timers.total)
            .await?;
        let credential = session.credential.headers().await;
        let credential = credential.map_err(|error| no_token(remote, session, &error))?;
        let question = question(remote, job, self.limit(routing, remote), options)?;
        let (stake, hold) = self.reserve(routing, backend, job, stake, begun + timers.total).await?;
        // What was waited for is part of the attempt's time.
        let (provider, timers) = (remote.provider.clone(), timers.after(begun.elapsed()));
        if timers.total.is_zero() {
            return Err(too_late(hold, begun));
        }
        let target = Target::provider(session, uri, credential, provider, timers, &job.id);
        let ticket =
            Ticket::new(Arc::clone(&backend.name), Arc::clone(&self.metrics), Some(stake), hold).with_part(part);
        Ok((target, question, ticket))
    }

    /// Leave of the circuits, and a part of the rate limit. Who waits for the one holds no leave of the others: what they allowed may be
    /// over when the wait is.
    async fn admitted(
        &self,
        (routing, backend, remote): (&Routing, &Backend, &Arc<Remote>),
        job: &Job,
        session: &Arc<Session>,
        deadline: Instant,
    ) -> Result<(Stake, Option<Part>), Miss> {
        let stake = self.stake(remote, session)?;
        let tokens = match Lines::ask(remote, routing, job) {
            Asked::Unlimited => return Ok((stake, None)),
            Asked::Given(part) => return Ok((stake, Some(part))),
            Asked::Wait(tokens) => tokens,
        };
        drop(stake);
        let whose = (routing, backend, remote.as_ref());
        let part = self.lines.wait(whose, (job, tokens), deadline, &self.metrics).await?;
        Ok((self.stake(remote, session)?, part))
    }

    fn limit(&self, routing: &Routing, remote: &Remote) -> OutputLimit {
        let binding = remote.prices.is_some() && self.registry.money(routing).is_some();
        let default = configured_limit(routing).or_else(|| binding.then_some(DEFAULT_OUTPUT_LIMIT));
        OutputLimit { default, binding }
    }

    pub(super) fn stake(&self, remote: &Arc<Remote>, session: &Arc<Session>) -> Result<Stake, Miss> {
        let (endpoint, credential) = remote
            .admit()
            .map_err(|(_, refused)| self.circuit_open(remote, refused))?;
        Ok(Stake {
            remote: Arc::clone(remote),
            session: Arc::clone(session),
            endpoint,
            credential,
        })
    }

    fn circuit_open(&self, remote: &Remote, refused: Refused) -> Miss {
        let clock = self.registry.clock;
        let error = InferenceError::CircuitOpen {
            provider: remote.provider.clone(),
            opened_at_unix_ms: clock.unix_ms(refused.opened_at),
            retry_at_unix_ms: clock.unix_ms(refused.retry_at),
        };
        Miss::unsent_for(error, refused.retry_at.saturating_sub(clock.now()))
    }
}

enum Failed {
    /// Nothing was at stake yet.
    Before(Box<Miss>),
    /// The attempt's guard is to be told, and the session it went out with is known.
    During(Box<(Miss, Ticket, Arc<Session>)>),
}

impl Failed {
    fn before(miss: Miss) -> Self {
        Self::Before(Box::new(miss))
    }
}

/// What was waited for took all of the attempt's time: sent now, the request would be given up at once and paid for.
fn too_late(hold: Option<Hold>, begun: Instant) -> Miss {
    if let Some(hold) = hold {
        hold.release();
    }
    Miss::unsent(InferenceError::Timeout {
        elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// There is no access token. A service account that is refused is a refused key.
fn no_token(remote: &Remote, session: &Session, error: &TokenError) -> Miss {
    let message = error.to_string();
    let error = match error {
        TokenError::Refused(_) => InferenceError::Unauthorized { message },
        TokenError::Unreachable(_) => return Miss::unsent(InferenceError::NetworkError { message }),
    };
    let mut miss = Miss::unsent(error);
    remote.refuse_session(session, &miss.classified, None);
    miss.classified.retry = RetryRule::NextBackend;
    miss
}

fn no_address(error: &NoAddress) -> Miss {
    match error {
        NoAddress::Inexpressible(error) => inexpressible(error),
        NoAddress::BadEndpoint(_) => Miss::unsent(InferenceError::Internal {
            message: error.to_string(),
        }),
    }
}

pub(super) fn configured_limit(routing: &Routing) -> Option<u64> {
    let serving = routing.snapshot.spec.serving.as_ref()?;
    serving.default_max_tokens.map(u64::from)
}

/// An output limit alone above the context length can be refused before anything is sent; the prompt's tokens only the backend knows.
fn fits(remote: &Remote, head: &Head) -> Result<(), Miss> {
    let Some(length) = remote.spec.context_length.map(u64::from) else {
        return Ok(());
    };
    if head.output_limit.is_none_or(|limit| limit <= length) {
        return Ok(());
    }
    Err(Miss::unsent(InferenceError::ContextLengthExceeded {
        tokens: head.output_limit,
        max_tokens: Some(length),
    }))
}
