//! The local backend: the own engine while it is usable, else a peer's, one hop at most (design section 4).

use std::sync::{Arc, Mutex, Weak};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    attempt::{Question, send},
    order::{Dispatcher, Job, Reply},
    outcome::Miss,
    rewrite::{LimitField, Wanted, rewrite},
    settle::Ticket,
    target::{OwnEngine, Target},
};
use crate::{
    error::{InferenceError, RetryRule},
    runtime::{
        backends::{Backend, Routing},
        local::{EngineTarget, EngineView},
        peer::Peers,
        remote::{session::HttpClient, wire::Reader},
        sync::lock,
    },
};

/// The way to the own engine and to peers.
#[derive(Debug)]
pub struct LocalRoute {
    /// Client for loopback and peers.
    pub client: HttpClient,
    /// Other pods with an engine; none outside a cluster.
    pub peers: Option<Peers>,
    places: Mutex<(Weak<EngineTarget>, Arc<Semaphore>)>,
}

impl LocalRoute {
    /// A way.
    #[must_use]
    pub fn new(client: HttpClient, peers: Option<Peers>) -> Self {
        Self {
            client,
            peers,
            places: Mutex::new((Weak::new(), Arc::new(Semaphore::new(0)))),
        }
    }

    /// Tries the own engine, then peers.
    pub async fn attempt(
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
        let ends = matches!(miss.classified.retry, RetryRule::Never | RetryRule::LongerContext);
        match &self.peers {
            Some(peers) if !job.hop && !ends => {
                self.peer(peers, dispatcher, routing, backend, job)
                    .await
                    .map_err(|there| {
                        // A peer that was not reached says less than the own engine.
                        there.unwrap_or(miss)
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
        let engine = usable(dispatcher)?;
        let place = self.place(&engine.target, routing).await?;
        let in_flight = engine.activity.begin();
        let target = Target::own(&self.client, engine, job.head.operation, &job.id);
        let target = target.ok_or_else(|| Miss::unsent(no_address("the own engine")))?;
        let wanted = Wanted {
            model: routing.snapshot.model(),
            output_limit: routing.snapshot.serving().default_max_tokens.map(u64::from),
            limit_field: LimitField::of(None, job.head.operation),
            binding: false,
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

    /// A place at the engine, which would queue without bound by itself.
    async fn place(&self, target: &Arc<EngineTarget>, routing: &Routing) -> Result<OwnedSemaphorePermit, Miss> {
        let places = {
            let mut held = lock(&self.places);
            if !std::ptr::eq(held.0.as_ptr(), Arc::as_ptr(target)) {
                let places = usize::try_from(target.parallel.max(1)).unwrap_or(1);
                *held = (Arc::downgrade(target), Arc::new(Semaphore::new(places)));
            }
            Arc::clone(&held.1)
        };
        let patience = routing.snapshot.serving().queue_timeout();
        match timeout(patience, places.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Miss::unsent(InferenceError::Backpressure {
                message: "all places of the engine are taken".into(),
            })),
        }
    }

    /// Tries peers one after another. `None` when no peer was reached.
    async fn peer(
        &self,
        peers: &Peers,
        dispatcher: &Dispatcher,
        routing: &Routing,
        backend: &Backend,
        job: &Job,
    ) -> Result<Reply, Option<Miss>> {
        let mut told = None;
        for address in peers.addresses().await {
            let authorization = peers.authorization().await.map_err(|error| {
                let message = format!("the token for peers cannot be read: {error}");
                Some(Miss::unsent(InferenceError::Backpressure { message }))
            })?;
            let Some(target) = Target::peer(&self.client, address, job.head.operation, &job.id, authorization) else {
                continue;
            };
            let target = match &job.priority {
                Some(priority) => target.with_header(super::target::PRIORITY, priority.clone()),
                None => target,
            };
            let ticket = Ticket::new(Arc::clone(&backend.name), Arc::clone(&dispatcher.metrics), None, None);
            match reply(
                dispatcher,
                routing,
                backend,
                job,
                target,
                job.body.clone(),
                ticket,
                // The peer leaves out what was not asked for.
                true,
            )
            .await
            {
                Ok(reply) => return Ok(reply),
                Err(miss) if miss.classified.retry == RetryRule::Never => return Err(Some(miss)),
                Err(miss) => told = Some(miss),
            }
        }
        Err(told)
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
        reader: Reader::OpenAi { include_usage },
    };
    match send(target, question, dispatcher.asker(routing)).await {
        Ok(answer) => Ok(Reply {
            backend: Arc::clone(&backend.name),
            answer,
            ticket,
        }),
        Err(miss) => {
            ticket.fail(&miss);
            Err(miss)
        }
    }
}

fn usable(dispatcher: &Dispatcher) -> Result<OwnEngine, Miss> {
    let unavailable = |message: &str| {
        Miss::unsent(InferenceError::Backpressure {
            message: message.to_owned(),
        })
    };
    let Some(own) = &dispatcher.registry.engine else {
        return Err(unavailable("no local pod is ready"));
    };
    match &*own.view.borrow() {
        EngineView::Ready(target) => Ok(OwnEngine {
            target: Arc::clone(target),
            view: own.view.clone(),
            activity: Arc::clone(&own.activity),
        }),
        EngineView::Loading => Err(unavailable("the engine loads the model")),
        EngineView::Restarting(error) | EngineView::Failed(error) => Err(Miss::unsent(error.clone())),
    }
}

fn no_address(of: &str) -> InferenceError {
    InferenceError::Internal {
        message: format!("the address of {of} is no URL"),
    }
}
