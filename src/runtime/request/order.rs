//! The backends in their order: who may take the request, what a failure allows next (design section 7).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderValue;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    ask::{OutputLimit, inexpressible, question},
    attempt::{Answer, Asker, Question, send},
    bound::{DEFAULT_OUTPUT_LIMIT, Terms, Unbounded, bound},
    head::Head,
    local::LocalRoute,
    outcome::{Miss, Progress},
    queue::Priority,
    settle::{Stake, Ticket},
    share::{Asked, Lines},
    target::{Target, Timers},
};
use crate::{
    error::{InferenceError, RetryRule},
    policy::circuit::Refused,
    runtime::{
        backends::{Backend, Hold, Kind, Money, NoMoney, Part, Registry, Remote, Routing},
        metrics::{BudgetRefusal, Metrics},
        remote::{google::TokenError, session::Session, wire::address::NoAddress},
    },
};

/// One request.
#[derive(Debug)]
pub struct Job {
    /// What was read of it.
    pub head: Head,
    /// Its body.
    pub body: Bytes,
    /// Its id.
    pub id: HeaderValue,
    /// Its priority, as the client wrote it.
    pub priority: Option<HeaderValue>,
    /// It came from a peer: only the own engine may answer.
    pub hop: bool,
}

impl Job {
    /// Its priority.
    #[must_use]
    pub fn priority(&self) -> Priority {
        let value = self.priority.as_ref().and_then(|value| value.to_str().ok());
        value.and_then(Priority::read).unwrap_or_default()
    }
}

/// An answer with the guard of the attempt that brought it.
#[derive(Debug)]
pub struct Reply {
    /// Who answered.
    pub backend: Arc<str>,
    /// The answer.
    pub answer: Answer,
    /// The guard.
    pub ticket: Ticket,
}

/// No backend could answer.
#[derive(Debug)]
pub struct Lost {
    /// The backend whose failure is told.
    pub backend: Arc<str>,
    /// The failure.
    pub miss: Miss,
}

/// Sends requests to backends.
#[derive(Debug)]
pub struct Dispatcher {
    /// The backends.
    pub registry: Arc<Registry>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The way to the own engine and to peers.
    pub local: LocalRoute,
    /// Who waits for a part of a rate limit.
    pub lines: Lines,
}

/// What earlier failures leave open.
#[derive(Debug, Default)]
struct Narrowed {
    /// Only backends that cost nothing.
    free_only: bool,
    /// Only backends with more context than this.
    longer_than: Option<u64>,
}

impl Narrowed {
    fn admits(&self, job: &Job, backend: &Backend) -> bool {
        let for_hops = !job.hop || matches!(backend.kind, Kind::Local(_));
        let longer = self
            .longer_than
            .is_none_or(|least| backend.context_length().is_some_and(|l| u64::from(l) > least));
        for_hops && longer && !(self.free_only && backend.is_paid())
    }

    /// Takes a failure in; true when nothing else may be tried.
    fn narrow(&mut self, backend: &Backend, miss: &Miss) -> bool {
        match miss.classified.retry {
            RetryRule::Never => return true,
            RetryRule::LongerContext => {
                let told = match miss.classified.error {
                    InferenceError::ContextLengthExceeded { max_tokens, .. } => max_tokens,
                    _ => None,
                };
                let length = told.or_else(|| backend.context_length().map(u64::from));
                // Nobody knows how long is long enough: the answer would be a guess.
                let Some(length) = length else { return true };
                self.longer_than = self.longer_than.max(Some(length));
            }
            RetryRule::FreeBackend => self.free_only = true,
            RetryRule::SameBackend | RetryRule::NextBackend | RetryRule::OtherReplica | RetryRule::RebuiltSession => {}
        }
        false
    }
}

impl Dispatcher {
    /// Tries the backends in order.
    pub async fn dispatch(&self, routing: &Routing, job: &Job) -> Result<Reply, Lost> {
        let mut narrowed = Narrowed::default();
        let mut told: Option<Lost> = None;
        for backend in &routing.backends {
            if !narrowed.admits(job, backend) {
                continue;
            }
            let miss = match self.attempt(routing, backend, job).await {
                Ok(reply) => return Ok(reply),
                Err(miss) => miss,
            };
            self.registry.errors.note(&backend.name, &miss.classified.error);
            let last = narrowed.narrow(backend, &miss);
            told = Some(worth_telling(
                told,
                Lost {
                    backend: Arc::clone(&backend.name),
                    miss,
                },
            ));
            if last {
                break;
            }
        }
        Err(told.unwrap_or_else(nobody))
    }

    async fn attempt(&self, routing: &Routing, backend: &Backend, job: &Job) -> Result<Reply, Miss> {
        match &backend.kind {
            Kind::Local(_) => self.local.attempt(self, routing, backend, job).await,
            Kind::Remote(remote) => self.remote(routing, backend, remote, job).await,
        }
    }

    /// Who asks, for the words of errors.
    #[must_use]
    pub fn asker(&self, routing: &Routing) -> Asker {
        Asker {
            deployment: routing.snapshot.full_name().into(),
            metrics: Arc::clone(&self.metrics),
        }
    }

    async fn remote(
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
        let mut failed_with: Option<Miss> = None;
        remote.first_attempt();
        loop {
            // Retries share the time of one attempt: a request never takes longer than `total` at one backend.
            let timers = Timers::from(&remote.timeouts()).after(started.elapsed());
            let (miss, ticket, used) = match self.once(routing, backend, remote, job, timers).await {
                Ok(reply) => return Ok(reply),
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
            ticket.fail(&miss);
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
        routing: &Routing,
        backend: &Backend,
        remote: &Arc<Remote>,
        job: &Job,
        timers: Timers,
    ) -> Result<Reply, Failed> {
        let session = remote
            .session()
            .map_err(|unusable| Failed::before(Miss::at(Progress::Unsent, unusable.classified())))?;
        let (target, question, mut ticket) = self
            .prepare((routing, backend, remote), job, &session, timers)
            .await
            .map_err(Failed::before)?;
        match send(target, question, self.asker(routing)).await {
            Ok(answer) => {
                ticket.begun();
                Ok(Reply {
                    backend: Arc::clone(&backend.name),
                    answer,
                    ticket,
                })
            }
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
    ) -> Result<(Target, Question, Ticket), Miss> {
        let begun = Instant::now();
        fits(remote, &job.head)?;
        let address = remote.addresses.of(job.head.operation, job.head.stream);
        let uri = address.map_err(no_address)?.clone();
        let (stake, part) = self
            .admitted((routing, backend, remote), job, session, Instant::now() + timers.total)
            .await?;
        let credential = session.credential.headers().await;
        let credential = credential.map_err(|error| no_token(remote, session, &error))?;
        let question = question(remote, job, self.limit(routing, remote))?;
        let (stake, hold) = self.reserve(routing, backend, job, stake).await?;
        // What was waited for is part of the attempt's time.
        let (provider, timers) = (remote.provider.clone(), timers.after(begun.elapsed()));
        let target = Target::provider(session.client.clone(), uri, credential, provider, timers, &job.id);
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

    fn stake(&self, remote: &Arc<Remote>, session: &Arc<Session>) -> Result<Stake, Miss> {
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

    /// Sets the worst case aside. While that takes time, the leave of the circuits is given back: a probe must not wait for money.
    async fn reserve(
        &self,
        routing: &Routing,
        backend: &Backend,
        job: &Job,
        stake: Stake,
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
            Err(NoMoney::NotYet) => drop(stake),
            Err(error) => return Err(no_money(error)),
        }
        let hold = money.wait(amount, prices, remote.violated(), patience(routing, backend));
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

/// How long a request waits for money before another backend is asked.
const PATIENCE: Duration = Duration::from_secs(5);

/// As long as in the queue when nobody else could answer.
fn patience(routing: &Routing, backend: &Backend) -> Duration {
    let last = routing.backends.last().is_some_and(|last| last.name == backend.name);
    let queue = routing.snapshot.serving().queue_timeout();
    if last { queue } else { queue.min(PATIENCE) }
}

/// There is money, but not here yet: the controller is busy or away, or it waits for others to give some back.
fn no_lease() -> Miss {
    let message = "no part of the budget has been granted to this replica yet".to_owned();
    Miss::unsent_for(InferenceError::Backpressure { message }, Duration::from_secs(1))
}

/// A window's end that is nearer than this is worth waiting for; clients sleep for as long as they are told.
const SOON: Duration = Duration::from_secs(3_600);

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

/// There is no access token. A service account that is refused is a refused key.
fn no_token(remote: &Remote, session: &Session, error: &TokenError) -> Miss {
    let message = error.to_string();
    let error = match error {
        TokenError::Refused(_) => InferenceError::Unauthorized { message },
        TokenError::Unreachable(_) => return Miss::unsent(InferenceError::NetworkError { message }),
    };
    remote.refuse_session(session, &error, None, None);
    let mut miss = Miss::unsent(error);
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

fn configured_limit(routing: &Routing) -> Option<u64> {
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

/// Of two failures the client is told the one that a backend answered with; among refusals of ours the one that passes by itself, and of
/// two open circuits the one that is probed first.
fn worth_telling(before: Option<Lost>, now: Lost) -> Lost {
    let open = |lost: &Lost| match lost.miss.classified.error {
        InferenceError::CircuitOpen { retry_at_unix_ms, .. } => Some(retry_at_unix_ms),
        _ => None,
    };
    let rank = |lost: &Lost| match lost.miss.progress {
        Progress::Sent | Progress::Answered => 2,
        Progress::Unsent if lost.miss.classified.error.contract().retry_after => 1,
        Progress::Unsent => 0,
    };
    match before {
        Some(before) if rank(&before) > rank(&now) => before,
        Some(before) if open(&before).zip(open(&now)).is_some_and(|(before, now)| before <= now) => before,
        _ => now,
    }
}

fn nobody() -> Lost {
    let message = "no backend of this endpoint may take the request".to_owned();
    Lost {
        backend: "".into(),
        miss: Miss::unsent_for(InferenceError::Backpressure { message }, Duration::from_secs(1)),
    }
}
