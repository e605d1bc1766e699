//! The choke point: access, body, admission, backends. Every route passes through it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header, request::Parts};
use http_body::Body;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use rand::random;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::future::FutureExt;

use super::{
    Lifecycle, Outgoing,
    answer::{BACKEND, Rejection},
    route::{NoRoute, Route},
};
use crate::{
    error::{ErrorKind, InferenceError},
    ports::Answers,
    runtime::{
        access::{Denied, Door},
        backends::{Registry, Routing},
        config::Identity,
        metrics::{Metrics, NO_BACKEND},
        request::{
            admission::{Admission, Shed, TurnedAway},
            attempt::{Answer, Whole},
            body::{self, BodyError, Received},
            head::{self, Operation},
            hold::Bounds,
            order::{Dispatcher, Job, Lost, Reply},
            queue::{Limits, Priority},
            relay::{Journey, Relay, shut_down},
            target::{HOP, PRIORITY, REQUEST_ID},
        },
    },
};

/// What a stream is.
const EVENTS: &str = "text/event-stream";
/// Seconds after which the client gives up, as OpenAI's own libraries for Python and JavaScript send them.
static PATIENCE: [HeaderName; 2] = [
    HeaderName::from_static("x-stainless-read-timeout"),
    HeaderName::from_static("x-stainless-timeout"),
];

/// The front of the process.
#[derive(Debug)]
pub struct Front {
    /// The backends.
    pub registry: Arc<Registry>,
    /// The queue.
    pub admission: Arc<Admission>,
    /// Sends requests to backends.
    pub dispatcher: Dispatcher,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Who may ask.
    pub door: Door,
    /// Whether the process takes requests.
    pub lifecycle: Arc<Lifecycle>,
    /// Who this process is; `None` outside a cluster.
    pub identity: Option<Identity>,
}

/// The port that a request came in at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Clients.
    Client,
    /// Peers.
    Peer,
}

impl Port {
    const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Peer => "peer",
        }
    }
}

impl Answers for (Arc<Front>, Port) {
    type Body = Outgoing;

    async fn answer(&self, request: Request<Incoming>) -> Response<Outgoing> {
        let (front, port) = self;
        // On the heap: the connection would keep room for it between requests.
        Box::pin(front.handle(*port, request)).await
    }
}

impl Front {
    /// Answers a request that came in at a port.
    pub async fn handle(&self, port: Port, request: Request<Incoming>) -> Response<Outgoing> {
        let (parts, body) = request.into_parts();
        let id = request_id(&parts.headers);
        let mut journey = Journey::new(Arc::clone(&self.metrics), id.clone());
        let mut body = Some(body);
        let answered = self.answer(port, parts, &mut body, &id, &mut journey).await;
        self.note(port, &answered);
        if let Some(unread) = body.filter(|body| !body.is_end_stream()) {
            body::ignore(unread);
        }
        let mut response = match answered {
            Ok(answered) => self.respond(answered, journey, &id),
            Err(rejection) => {
                journey.end(rejection.outcome());
                rejection.into_response(&id)
            }
        };
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }

    /// What becomes of a peer's request is the peer's to note: it asks elsewhere.
    fn note(&self, port: Port, answered: &Result<Answered, Rejection>) {
        let turned_away = match answered {
            Ok(Answered::Reply(_)) => false,
            Err(rejection) if rejection.outcome() == ErrorKind::Backpressure.as_str() => true,
            Ok(Answered::Json(_)) | Err(_) => return,
        };
        if port == Port::Client {
            self.registry.turned_away.note(turned_away);
        }
    }

    async fn answer(
        &self,
        port: Port,
        parts: Parts,
        body: &mut Option<Incoming>,
        id: &HeaderValue,
        journey: &mut Journey,
    ) -> Result<Answered, Rejection> {
        let routing = self.registry.routing();
        if let Err(denied) = self.admit_caller(port, &parts.headers, &routing).await {
            self.metrics.refused(port.label(), denied.reason());
            return Err(denied.into());
        }
        let route = Route::find(&parts.method, parts.uri.path()).map_err(|none| match none {
            NoRoute::Path => Rejection::no_path(parts.uri.path()),
            NoRoute::Method(wanted) => Rejection::wrong_method(wanted),
        })?;
        let model = routing.snapshot.model();
        match route {
            Route::Models => Ok(Answered::Json(json!({"object": "list", "data": [model_object(model)]}))),
            Route::Model(asked) if percent_decode_str(asked).eq(model.bytes()) => {
                Ok(Answered::Json(model_object(model)))
            }
            Route::Model(asked) => Err(Rejection::unknown_model(asked, model)),
            Route::Infer(operation) => {
                let priority = priority(parts.headers.get(PRIORITY))?;
                let Received { bytes, room } = self.body(body.take(), priority).await?;
                let job = job(port, operation, &parts, bytes, id, &routing)?;
                let patience = patience(&parts.headers);
                // Headers keep the connection's buffer, which would be made anew for as long as the request takes.
                drop(parts);
                let answered = self.infer(routing, &job, priority, patience, journey).await;
                drop((job, room));
                answered
            }
        }
    }

    async fn admit_caller(&self, port: Port, headers: &HeaderMap, routing: &Routing) -> Result<(), Denied> {
        let access = routing.snapshot.spec.access.as_ref();
        match (port, &self.identity) {
            (Port::Client, _) => return self.door.check(headers, access).await,
            (Port::Peer, Some(identity)) => self.door.check_peer(headers, identity).await?,
            (Port::Peer, None) => return Err(Denied::Ourselves("there are no peers outside a cluster".into())),
        }
        if headers.contains_key(HOP) {
            return Ok(());
        }
        Err(Denied::Forbidden("a peer's request carries x-inference-hop".into()))
    }

    async fn body(&self, body: Option<Incoming>, priority: Priority) -> Result<Received, Rejection> {
        let Some(body) = body else {
            return Ok(Received::default());
        };
        body::read(body, &self.admission.bodies)
            .await
            .map_err(|error| match error {
                BodyError::NoRoom => self.shed(self.admission.turned_away(Shed::Memory, priority)),
                BodyError::TooLarge | BodyError::TooSlow | BodyError::Broken(_) => error.into(),
            })
    }

    fn shed(&self, away: TurnedAway) -> Rejection {
        let wait = Duration::from_secs(away.retry_after);
        let error = InferenceError::from(away);
        self.registry.errors.note(NO_BACKEND, &error);
        Rejection::new(error.into(), Some(wait))
    }

    /// Until a backend answers, or none can. A request that waits for local pods to come back has no turn meanwhile, and then comes before
    /// the bounds that hold for new ones: all that wait come at once.
    async fn infer(
        &self,
        mut routing: Arc<Routing>,
        job: &Job,
        priority: Priority,
        patience: Duration,
        journey: &mut Journey,
    ) -> Result<Answered, Rejection> {
        let begun = Instant::now();
        let mut waited = None;
        loop {
            let spent = waited.map_or(Duration::ZERO, |_| begun.elapsed());
            let limits = limits(&routing, patience.saturating_sub(spent), waited);
            let slot = self.admission.enter(priority, limits).await;
            journey.admitted(slot.map_err(|away| self.shed(away))?);
            // Dropped before its end an attempt books what was reserved as uncertain: that must come before the process's last report.
            let cut = &self.lifecycle.cut;
            let dispatched = self.dispatcher.dispatch(&routing, job).with_cancellation_token(cut);
            let lost = match dispatched.await.ok_or_else(cut_off)? {
                Ok(reply) => {
                    journey.answered_by(&reply.backend);
                    return Ok(Answered::Reply(Box::new(reply)));
                }
                Err(lost) => lost,
            };
            let Some(bounds) = held(&routing, &lost, begun, patience) else {
                journey.lost(&lost.backend, lost.miss.classified.error.kind().as_str());
                return Err(Rejection::from(&lost));
            };
            journey.waits();
            let came = self.dispatcher.hold(bounds).with_cancellation_token(cut).await;
            came.ok_or_else(cut_off)?
                .map_err(|reason| self.shed(self.admission.turned_away(reason, priority)))?;
            waited = Some(bounds);
            routing = self.registry.routing();
        }
    }

    fn respond(&self, answered: Answered, mut journey: Journey, id: &HeaderValue) -> Response<Outgoing> {
        let reply = match answered {
            Answered::Json(value) => {
                journey.end("success");
                return with_type(Outgoing::whole(value.to_string()), "application/json");
            }
            Answered::Reply(reply) => *reply,
        };
        let Reply {
            backend,
            answer,
            mut ticket,
        } = reply;
        let name = HeaderValue::from_str(&backend);
        let mut response = match answer {
            Answer::Whole(Whole { body, chunk, events }) => {
                ticket.report(chunk.usage);
                journey.end(ticket.succeed(chunk.finish));
                with_type(Outgoing::whole(body), if events { EVENTS } else { "application/json" })
            }
            Answer::Stream(live) => {
                let relay = Relay {
                    live,
                    ticket,
                    journey,
                    backend,
                    registry: Arc::clone(&self.registry),
                    cut: Box::pin(self.lifecycle.cut.clone().cancelled_owned()),
                    id: id.to_str().unwrap_or_default().to_owned(),
                };
                let mut response = with_type(Outgoing::Stream(Box::pin(relay.into_stream())), EVENTS);
                response
                    .headers_mut()
                    .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                response
            }
        };
        if let Ok(name) = name {
            response.headers_mut().insert(BACKEND, name);
        }
        response
    }
}

fn job(
    port: Port,
    operation: Operation,
    parts: &Parts,
    body: Bytes,
    id: &HeaderValue,
    routing: &Routing,
) -> Result<Job, Rejection> {
    let head = head::read(operation, &body)?;
    let served = routing.snapshot.model();
    if head.model != served {
        return Err(Rejection::unknown_model(&head.model, served));
    }
    Ok(Job {
        head,
        body,
        id: id.clone(),
        priority: parts.headers.get(PRIORITY).cloned(),
        hop: port == Port::Peer,
    })
}

fn cut_off() -> Rejection {
    Rejection::new(shut_down().into(), None)
}

/// How long the client waits for an answer, when it says so.
fn patience(headers: &HeaderMap) -> Duration {
    let told = PATIENCE
        .iter()
        .find_map(|name| headers.get(name)?.to_str().ok()?.parse().ok());
    let patience = told.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    patience.unwrap_or(Duration::MAX)
}

/// The bounds of the queue for one request: it waits no longer in the queue than its client for an answer. Those that `waited` for local
/// pods have room for all of them, and the rest of their time.
fn limits(routing: &Routing, patience: Duration, waited: Option<Bounds>) -> Limits {
    let serving = routing.snapshot.serving();
    let rest = waited.map_or(Duration::ZERO, |held| {
        held.until.saturating_duration_since(Instant::now())
    });
    Limits {
        concurrent: serving.max_concurrent(),
        capacity: serving
            .queue_capacity()
            .saturating_add(waited.map_or(0, |held| held.capacity)),
        timeout: serving.queue_timeout().max(rest).min(patience),
    }
}

/// The bounds within which a request that nobody could take waits for local pods to come back; `None` when that would not help.
fn held(routing: &Routing, lost: &Lost, begun: Instant, patience: Duration) -> Option<Bounds> {
    let terms = routing.snapshot.spec.scale_to_zero.as_ref()?;
    lost.may_wait().then(|| Bounds {
        capacity: terms.hold_capacity(),
        until: begun + terms.hold_timeout().min(patience),
    })
}

enum Answered {
    Json(Value),
    Reply(Box<Reply>),
}

fn with_type(body: Outgoing, kind: &'static str) -> Response<Outgoing> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn model_object(model: &str) -> Value {
    json!({"id": model, "object": "model", "created": 0, "owned_by": "inference-operator"})
}

fn priority(header: Option<&HeaderValue>) -> Result<Priority, Rejection> {
    let Some(value) = header else {
        return Ok(Priority::default());
    };
    value
        .to_str()
        .ok()
        .and_then(Priority::read)
        .ok_or_else(Rejection::unknown_priority)
}

/// The client's id when it is short and visible, else one of ours.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|value| {
        let bytes = value.as_bytes();
        (1..=128).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    });
    let own = || HeaderValue::from_str(&format!("req-{:016x}", random::<u64>()));
    // A copy: a clone would keep the connection's buffer.
    given
        .and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok())
        .or_else(|| own().ok())
        .unwrap_or_else(|| HeaderValue::from_static("req"))
}
