//! The local backend: the own engine while it is usable, else a peer's, one hop at most (design section 4).

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use http::HeaderValue;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use super::{
    admission::{Admission, Shed},
    attempt::{Question, send},
    hold::Hold,
    order::{Dispatcher, Job, Reply},
    outcome::{Miss, Progress},
    queue::Limits,
    rewrite::{Wanted, rewrite},
    settle::Ticket,
    target::{OwnEngine, Target, Timers},
};
use crate::{
    api::OutputLimitField,
    error::{ErrorKind, InferenceError, RetryRule},
    runtime::{
        backends::{Backend, Kind, Routing},
        config::Snapshot,
        local::{EngineTarget, EngineView},
        peer::Peers,
        remote::{session::HttpClient, wire::Reader},
        sync::lock,
    },
};

/// A peer that is busy and does not say for how long is left alone for this time.
const BUSY: Duration = Duration::from_secs(1);
/// And for no longer than this, whatever it says.
const MOST_BUSY: Duration = Duration::from_secs(5);
/// A peer that cannot be reached, or breaks off, is left alone for this time.
const LOST: Duration = Duration::from_secs(5);

/// The way to the own engine and to peers.
#[derive(Debug)]
pub struct LocalRoute {
    /// Client for loopback and peers.
    pub client: HttpClient,
    /// Other pods with an engine; none outside a cluster.
    pub peers: Option<Peers>,
    places: Mutex<(Weak<EngineTarget>, Arc<Semaphore>)>,
    /// Who is next at the engine: the first in line waits for a place, the others by priority behind it.
    line: Arc<Admission>,
    /// Requests that wait for a local pod to come back.
    pub hold: Hold,
}

impl LocalRoute {
    /// A way.
    #[must_use]
    pub fn new(client: HttpClient, peers: Option<Peers>) -> Self {
        Self {
            client,
            peers,
            places: Mutex::new((Weak::new(), Arc::new(Semaphore::new(0)))),
            line: Arc::new(Admission::line()),
            hold: Hold::default(),
        }
    }

    /// Tries the own engine, then peers. Until the answer has ended the backend is wanted.
    pub async fn attempt(
        &self,
        dispatcher: &Dispatcher,
        routing: &Routing,
        backend: &Backend,
        job: &Job,
    ) -> Result<Reply, Miss> {
        let used = dispatcher.registry.demand.begin();
        let mut reply = self.anywhere(dispatcher, routing, backend, job).await?;
        reply.ticket.uses(used);
        Ok(reply)
    }

    async fn anywhere(
        &self,
        dispatcher: &Dispatcher,
        routing: &Routing,
        backend: &Backend,
        job: &Job,
    ) -> Result<Reply, Miss> {
        let own = self.own(dispatcher, routing, backend, job).await;
        let miss = match own {
            Ok(reply) => return Ok(reply),
            Err(miss) => miss,
        };
        match &self.peers {
            Some(peers) if !job.hop && !ends(&miss) => {
                self.peer(peers, dispatcher, routing, backend, job)
                    .await
                    .map_err(|there| {
                        // One without a token for peers is not helped by a peer that comes.
                        let asked = |there: &Miss| {
                            there.progress != Progress::Unsent
                                || there.classified.error.kind() == ErrorKind::Backpressure
                        };
                        let unreached = !there.as_ref().is_some_and(asked);
                        let asleep = unreached && dispatcher.registry.engine.is_none() && routing.snapshot.comes_back();
                        // A peer that was not reached says less than the own engine.
                        Miss {
                            asleep,
                            ..there.unwrap_or(miss)
                        }
                    })
            }
            _ => Err(miss),
        }
    }

    async fn own(
        &self,
        dispatcher: &Dispatcher,
        routing: &Routing,
        backend: &Backend,
        job: &Job,
    ) -> Result<Reply, Miss> {
        let engine = usable(dispatcher, routing)?;
        let place = self.place(&engine.target, dispatcher, routing, job).await?;
        let in_flight = engine.activity.begin();
        let named = engine.target.model.clone();
        let target = Target::own(&self.client, engine, job.head.operation, timers(backend), &job.id);
        let target = target.ok_or_else(|| Miss::unsent(no_address("the own engine")))?;
        let wanted = Wanted {
            model: named.as_deref().unwrap_or_else(|| routing.snapshot.model()),
            output_limit: routing.snapshot.serving().default_max_tokens.map(u64::from),
            limit_field: OutputLimitField::MaxTokens,
            sole: false,
            stream_options: true,
        };
        let body = rewrite(&job.body, &job.head, wanted);
        let ticket = Ticket::new(Arc::clone(&backend.name), Arc::clone(&dispatcher.metrics), None, None)
            .with_place((place, in_flight));
        reply(
            dispatcher,
            routing,
            backend,
            job,
            target,
            body,
            ticket,
            job.head.include_usage,
        )
        .await
    }

    /// A place at the engine, which would queue without bound by itself. The queue in front lets in more requests than an engine may
    /// have places, so priority and the predicted wait count here as well.
    async fn place(
        &self,
        target: &Arc<EngineTarget>,
        dispatcher: &Dispatcher,
        routing: &Routing,
        job: &Job,
    ) -> Result<OwnedSemaphorePermit, Miss> {
        let places = self.places(target);
        let priority = job.priority();
        let serving = routing.snapshot.serving();
        let limits = Limits {
            concurrent: 1,
            capacity: serving.max_concurrent(),
            timeout: serving.queue_timeout(),
        };
        let until = Instant::now() + limits.timeout;
        let taken = || {
            dispatcher.metrics.shed(Shed::Engine.as_str());
            let away = self.line.turned_away(Shed::Engine, priority);
            let wait = Duration::from_secs(away.retry_after);
            Miss::unsent_for(away.into(), wait)
        };
        let first = self.line.enter(priority, limits).await.map_err(|_| taken())?;
        let place = timeout_at(until, places.acquire_owned()).await;
        drop(first);
        place.ok().and_then(Result::ok).ok_or_else(taken)
    }

    fn places(&self, target: &Arc<EngineTarget>) -> Arc<Semaphore> {
        let mut held = lock(&self.places);
        if !std::ptr::eq(held.0.as_ptr(), Arc::as_ptr(target)) {
            let places = usize::try_from(target.parallel.max(1)).unwrap_or(1);
            *held = (Arc::downgrade(target), Arc::new(Semaphore::new(places)));
        }
        Arc::clone(&held.1)
    }

    /// Tries peers one after another, all of them within the time of one attempt. `None` when no peer was reached.
    async fn peer(
        &self,
        peers: &Peers,
        dispatcher: &Dispatcher,
        routing: &Routing,
        backend: &Backend,
        job: &Job,
    ) -> Result<Reply, Option<Miss>> {
        let mut told = None;
        let started = Instant::now();
        for address in peers.addresses().await {
            let authorization = peers.authorization().await.map_err(|error| {
                let message = format!("the token for peers cannot be read: {error}");
                Some(Miss::unsent(InferenceError::Backpressure { message }))
            })?;
            let Some(target) = self.peer_target(address, job, authorization, timers(backend).after(started.elapsed()))
            else {
                continue;
            };
            let ticket = Ticket::new(Arc::clone(&backend.name), Arc::clone(&dispatcher.metrics), None, None);
            let body = job.body.clone();
            // The peer leaves out what was not asked for.
            match reply(dispatcher, routing, backend, job, target, body, ticket, true).await {
                Ok(reply) => return Ok(reply),
                Err(miss) => {
                    peers.note(address, avoided(&miss));
                    if ends(&miss) {
                        return Err(Some(miss));
                    }
                    told = Some(miss);
                }
            }
        }
        Err(told)
    }

    /// `None` when the time of the attempt is over.
    fn peer_target(&self, peer: SocketAddr, job: &Job, authorization: HeaderValue, timers: Timers) -> Option<Target> {
        if timers.total.is_zero() {
            return None;
        }
        let target = Target::peer(&self.client, peer, job.head.operation, timers, &job.id, authorization)?;
        Some(match &job.priority {
            Some(priority) => target.with_header(super::target::PRIORITY, priority.clone()),
            None => target,
        })
    }
}

fn timers(backend: &Backend) -> Timers {
    match &backend.kind {
        Kind::Local(local) => Timers::from(&local.timeouts),
        Kind::Remote(remote) => Timers::from(remote.timeouts()),
    }
}

/// No other pod with the same model may answer what this failure says no to.
const fn ends(miss: &Miss) -> bool {
    matches!(miss.classified.retry, RetryRule::Never | RetryRule::LongerContext)
}

/// How long a peer that failed like this is left alone.
fn avoided(miss: &Miss) -> Duration {
    match (miss.progress, miss.classified.wait) {
        _ if ends(miss) => Duration::ZERO,
        // It answered: it is there and busy.
        (Progress::Answered, wait) => wait.unwrap_or(BUSY).min(MOST_BUSY),
        (Progress::Unsent | Progress::Sent, _) => LOST,
    }
}

#[allow(clippy::too_many_arguments, reason = "one call that both ways share")]
async fn reply(
    dispatcher: &Dispatcher,
    routing: &Routing,
    backend: &Backend,
    job: &Job,
    target: Target,
    body: bytes::Bytes,
    ticket: Ticket,
    include_usage: bool,
) -> Result<Reply, Miss> {
    let question = Question {
        body,
        stream: job.head.stream,
        reader: Reader::openai(include_usage, job.head.choices.into()),
    };
    match send(target, question, dispatcher.asker(routing)).await {
        Ok(answer) => Ok(Reply::begun(backend, answer, ticket)),
        Err(miss) => {
            ticket.fail(&miss);
            Err(miss)
        }
    }
}

/// Why a GPU-less pod may have nobody to hop to.
fn nobody(snapshot: &Snapshot) -> &'static str {
    if snapshot.spec.replicas() == 0 {
        "spec.replicas is 0: there are no local pods"
    } else if snapshot.released {
        "the budget does not pay for GPUs: there are no local pods"
    } else {
        "no local pod is ready"
    }
}

fn usable(dispatcher: &Dispatcher, routing: &Routing) -> Result<OwnEngine, Miss> {
    let unavailable = |message: &str| {
        Miss::unsent(InferenceError::Backpressure {
            message: message.to_owned(),
        })
    };
    let Some(own) = &dispatcher.registry.engine else {
        return Err(unavailable(nobody(&routing.snapshot)));
    };
    match &*own.view.borrow() {
        EngineView::Ready(target) => Ok(OwnEngine {
            target: Arc::clone(target),
            view: own.view.clone(),
            activity: Arc::clone(&own.activity),
        }),
        EngineView::Loading => Err(unavailable("the engine loads the model")),
        EngineView::Downloading(_) => Err(unavailable("the model is being downloaded")),
        EngineView::Restarting(error) | EngineView::Failed(error) | EngineView::NoModel(_, error) => {
            Err(Miss::unsent(error.clone()))
        }
    }
}

fn no_address(of: &str) -> InferenceError {
    InferenceError::Internal {
        message: format!("the address of {of} is no URL"),
    }
}
