//! The backends in their order: who may take the request, what a failure allows next (design section 7).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderValue;

use super::{
    admission::Shed,
    attempt::{Answer, Asker},
    head::Head,
    hold::Bounds,
    local::LocalRoute,
    outcome::{Miss, Progress},
    queue::Priority,
    settle::Ticket,
    share::Lines,
};
use crate::{
    error::{InferenceError, RetryRule},
    runtime::{
        backends::{Backend, Kind, Registry, Routing},
        metrics::Metrics,
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

impl Reply {
    /// The first content of an answer, or all of it, has come.
    #[must_use]
    pub fn begun(backend: &Backend, answer: Answer, mut ticket: Ticket) -> Self {
        ticket.begun();
        Self {
            backend: Arc::clone(&backend.name),
            answer,
            ticket,
        }
    }
}

/// No backend could answer.
#[derive(Debug)]
pub struct Lost {
    /// The backend whose failure is told.
    pub backend: Arc<str>,
    /// The failure.
    pub miss: Miss,
    /// A local pod will come back that could answer.
    pub asleep: bool,
}

impl Lost {
    /// True when the request may wait for the pod: what was said of it elsewhere is not the last word.
    #[must_use]
    pub const fn may_wait(&self) -> bool {
        self.asleep && !matches!(self.miss.classified.retry, RetryRule::Never | RetryRule::LongerContext)
    }
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
        let mut asleep = false;
        for backend in &routing.backends {
            if !narrowed.admits(job, backend) {
                continue;
            }
            let miss = match self.attempt(routing, backend, job).await {
                Ok(reply) => return Ok(reply),
                Err(miss) => miss,
            };
            if !miss.asleep {
                self.registry.errors.note(&backend.name, &miss.classified.error);
            }
            asleep |= miss.asleep;
            let ends = narrowed.narrow(backend, &miss);
            let lost = Lost {
                backend: Arc::clone(&backend.name),
                miss,
                asleep: false,
            };
            told = Some(worth_telling(told, lost));
            if ends {
                break;
            }
        }
        let told = told.unwrap_or_else(nobody);
        Err(Lost { asleep, ..told })
    }

    async fn attempt(&self, routing: &Routing, backend: &Backend, job: &Job) -> Result<Reply, Miss> {
        match &backend.kind {
            // On the heap: every request's future would keep room for it, and it needs twice as much as that of a provider.
            Kind::Local(_) => Box::pin(self.local.attempt(self, routing, backend, job)).await,
            Kind::Remote(remote) => self.remote(routing, backend, remote, job).await,
        }
    }

    /// Waits until a local pod is back that can be asked. So long it is wanted.
    ///
    /// # Errors
    /// Why the request waits no longer.
    pub async fn hold(&self, bounds: Bounds) -> Result<(), Shed> {
        let _wanted = self.registry.demand.begin();
        let Some(peers) = &self.local.peers else {
            return Err(Shed::Off);
        };
        let comes_back = || self.registry.routing().snapshot.comes_back();
        self.local.hold.wait(peers, bounds, &self.metrics, comes_back).await
    }

    /// Who asks, for the words of errors.
    #[must_use]
    pub fn asker(&self, routing: &Routing) -> Asker {
        Asker {
            deployment: Arc::clone(&routing.deployment),
            metrics: Arc::clone(&self.metrics),
        }
    }
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
        asleep: false,
    }
}
