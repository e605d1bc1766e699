//! A remote backend: its spec, circuits, session and retry budget.

use std::{
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use http::Uri;
use secrecy::{ExposeSecret, SecretString};
use tracing::{info, warn};

use super::{Breaker, Lasting, Leave, Share, Signals};
use crate::{
    api::{CircuitScope, RemoteBackend, RemoteProvider, Timeouts, conditions::reason},
    error::{InferenceError, Provider},
    policy::{
        circuit::{Refused, marks},
        pricing::Prices,
        reach::AllowedAddresses,
        retry::{RetryBudget, RetryPolicy},
    },
    runtime::{
        clock::Clock,
        config::{KeyError, Keys},
        remote::{
            auth::CredentialError,
            classify::Classified,
            connect::{NotAllowed, Reach},
            session::{Session, SessionError},
            wire::address::Addresses,
        },
        sync::lock,
    },
};

/// What outlives a change of the spec as long as provider and endpoint stay.
#[derive(Debug)]
struct Health {
    endpoint: Arc<Breaker>,
    credential: Arc<Breaker>,
    retries: Mutex<RetryBudget>,
    violated: Arc<AtomicBool>,
    /// It refused a stream that was asked for its usage, and took the same one without.
    refuses_stream_options: AtomicBool,
    limited: Lasting,
}

/// More than one in so many attempts that were refused with 429 are most of them.
const LIMITED: u32 = 2;

/// Why nothing can be sent.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unusable {
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The endpoint's address is one that the operator does not allow.
    #[error(transparent)]
    Endpoint(#[from] NotAllowed),
    /// The key is none of this provider's.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// TLS cannot be set up.
    #[error("{0}")]
    Tls(String),
}

impl Unusable {
    /// The failure of a request that would have gone there. Nothing was sent, and no circuit learns from it.
    #[must_use]
    pub fn classified(&self) -> Classified {
        let message = self.to_string();
        match self {
            Self::Key(_) | Self::Credential(_) => InferenceError::Unauthorized { message }.into(),
            Self::Endpoint(refused) => refused.classified(),
            Self::Tls(_) => InferenceError::Internal { message }.into(),
        }
    }

    /// The reason in the backend's report.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Key(_) | Self::Credential(_) => reason::CREDENTIALS_MISSING,
            Self::Endpoint(_) => reason::ENDPOINT_NOT_ALLOWED,
            Self::Tls(_) => reason::INTERNAL_ERROR,
        }
    }
}

/// What sessions are made with, the same for all backends of a process.
#[derive(Clone, Debug)]
pub struct Means {
    /// Where keys are.
    pub keys: Keys,
    /// Addresses that the operator allows beyond ordinary ones.
    pub allowed: AllowedAddresses,
    /// What hashes of keys are salted with: the deployment's UID; empty outside a cluster, where they go nowhere.
    pub salt: String,
}

impl Means {
    /// What a key is known by to other replicas.
    fn mark(&self, key: Option<&SecretString>) -> Option<String> {
        key.map(|key| marks::key_hash(&self.salt, key.expose_secret()))
    }
}

type InForce = Result<Arc<Session>, Unusable>;

/// A remote backend.
#[derive(Debug)]
pub struct Remote {
    /// Its spec.
    pub spec: RemoteBackend,
    /// Its provider, as errors spell it.
    pub provider: Provider,
    /// Where it takes which operation.
    pub addresses: Addresses,
    /// What its endpoint is known by to other replicas.
    pub target: String,
    /// What its tokens cost, when they cost anything.
    pub prices: Option<Prices>,
    /// Its part of the rate limit; `None` when there is none.
    pub share: Option<Arc<Share>>,
    name: String,
    health: Arc<Health>,
    means: Means,
    session: ArcSwap<InForce>,
    /// Held while a session is built, so that many refusals at once build one.
    building: Mutex<()>,
    signals: Arc<Signals>,
}

impl Remote {
    /// A backend that nothing is known of.
    #[must_use]
    pub fn new(name: &str, spec: &RemoteBackend, means: &Means, clock: Clock, signals: &Arc<Signals>) -> Self {
        let breaker = |scope: &str| {
            let label = format!("{name}/{scope}");
            Arc::new(Breaker::new(label, spec.into(), clock, Arc::clone(signals)))
        };
        let session = build(spec, means);
        let credential = breaker("Credential");
        credential.rekey(session.as_ref().ok().and_then(|s| means.mark(s.key.as_ref())));
        let share = |limit| Arc::new(Share::new(limit, clock, Arc::clone(signals)));
        Self {
            spec: spec.clone(),
            provider: provider(spec.provider, name),
            addresses: Addresses::new(spec),
            target: marks::target(spec),
            prices: spec
                .price
                .as_ref()
                .map(Prices::from)
                .filter(|prices| !prices.are_free()),
            share: spec.rate_limit.as_ref().map(share),
            name: name.to_owned(),
            health: Arc::new(Health {
                endpoint: breaker("Endpoint"),
                credential,
                retries: Mutex::new(RetryBudget::new()),
                violated: Arc::default(),
                refuses_stream_options: AtomicBool::default(),
                limited: Lasting::new(LIMITED, clock),
            }),
            means: means.clone(),
            session: ArcSwap::from_pointee(session),
            building: Mutex::default(),
            signals: Arc::clone(signals),
        }
    }

    /// The same backend with a changed spec: what is known of the endpoint stays, the session only while it fits. Another key earns
    /// the credential circuit one probe.
    #[must_use]
    pub fn changed(&self, spec: &RemoteBackend, means: &Means, clock: Clock) -> Self {
        let mut fresh = Self::new(&self.name, spec, means, clock, &self.signals);
        if let (Some(share), Some(limit)) = (&self.share, &spec.rate_limit) {
            share.limit(limit);
            fresh.share = Some(Arc::clone(share));
        }
        if spec.provider != self.spec.provider || spec.endpoint != self.spec.endpoint {
            return fresh;
        }
        if !self.is_bound_as(spec) {
            self.health.violated.store(false, Ordering::Relaxed);
            self.health.refuses_stream_options.store(false, Ordering::Relaxed);
        }
        self.health.endpoint.reconfigure(spec.into());
        self.health.credential.reconfigure(spec.into());
        let same_key = spec.credentials == self.spec.credentials;
        let session = if same_key && timeouts(spec).connect() == self.timeouts().connect() {
            self.session.load_full()
        } else {
            fresh.session.load_full()
        };
        let changed = Self {
            health: Arc::clone(&self.health),
            session: ArcSwap::new(session),
            ..fresh
        };
        changed.follow_key();
        changed
    }

    /// Whether the bounds of requests are what they were: all that a bound which was violated may have been wrong in.
    fn is_bound_as(&self, spec: &RemoteBackend) -> bool {
        let terms = |spec: &RemoteBackend| {
            (
                spec.model.clone(),
                spec.context_length,
                spec.output_limit_field,
                spec.price.clone(),
            )
        };
        terms(spec) == terms(&self.spec)
    }

    /// Another key in force earns its circuit one probe. A key that is gone earns nothing.
    fn follow_key(&self) {
        if let Ok(session) = &**self.session.load() {
            self.health.credential.rekey(self.means.mark(session.key.as_ref()));
        }
    }

    fn has_key_of(&self, session: &Session) -> bool {
        let own = self.session.load();
        matches!(&**own, Ok(own) if own.same_key(session.key.as_ref()))
    }

    /// The session in force.
    pub fn session(&self) -> InForce {
        (**self.session.load()).clone()
    }

    /// Why nothing can be sent, as far as it is known before a request tries.
    #[must_use]
    pub fn unusable(&self) -> Option<Unusable> {
        match &**self.session.load() {
            Ok(session) => session.refused().map(|refused| Unusable::Endpoint((*refused).clone())),
            Err(unusable) => Some(unusable.clone()),
        }
    }

    /// The provider refused the key of `used`: builds a new session with the key read anew. Of many requests that were refused at once
    /// the first builds it, and the others find it: the next attempt of each goes out with [`Self::session`].
    pub fn renew(&self, used: &Arc<Session>) {
        let _building = lock(&self.building);
        if self.in_force(used) {
            self.session.store(Arc::new(build(&self.spec, &self.means)));
            self.follow_key();
        }
    }

    fn in_force(&self, session: &Arc<Session>) -> bool {
        matches!(&**self.session.load(), Ok(now) if Arc::ptr_eq(now, session))
    }

    /// Reads the key; a changed one gives a new session and earns the credential circuit one probe. A key that is gone blocks the
    /// backend until there is one again.
    pub fn refresh_key(&self) {
        let Some(credentials) = &self.spec.credentials else {
            return;
        };
        let found = self.means.keys.read(&credentials.secret);
        let _building = lock(&self.building);
        let unchanged = match (&**self.session.load(), &found) {
            (Ok(session), Ok(key)) => session.same_key(Some(key)),
            (Err(Unusable::Key(before)), Err(now)) => before == now,
            // Neither has to do with the key; the spec mends the one, nothing the other.
            (Err(Unusable::Endpoint(_) | Unusable::Tls(_)), _) => true,
            _ => false,
        };
        if unchanged {
            return;
        }
        match &found {
            Ok(_) => info!(backend = self.name, "the key changed: new session, one probe"),
            Err(error) => warn!(backend = self.name, %error, "the key is gone"),
        }
        let session = found
            .map_err(Unusable::Key)
            .and_then(|key| with_key(&self.spec, &self.means, Some(key)));
        self.session.store(Arc::new(session));
        self.follow_key();
        self.signals.urgent();
    }

    /// Leave of both circuits.
    pub fn admit(&self) -> Result<(Leave, Leave), (CircuitScope, Refused)> {
        let credential = self
            .health
            .credential
            .admit()
            .map_err(|r| (CircuitScope::Credential, r))?;
        let endpoint = self.health.endpoint.admit().map_err(|r| (CircuitScope::Endpoint, r))?;
        Ok((endpoint, credential))
    }

    /// The key of `used` was refused, perhaps to the request with `leave`. That says nothing of another key which has come into force
    /// meanwhile.
    pub fn refuse_session(&self, used: &Session, refusal: &Classified, leave: Option<Leave>) {
        if !self.has_key_of(used) {
            return;
        }
        let (kind, said) = (refusal.error.kind(), refusal.said());
        if let Some(leave) = leave {
            leave.failed(kind, refusal.wait, &said);
        }
        self.health.credential.open_now(kind, &said);
    }

    /// Both circuits for status and metrics.
    #[must_use]
    pub fn circuits(&self) -> [(CircuitScope, &Breaker); 2] {
        [
            (CircuitScope::Endpoint, &self.health.endpoint),
            (CircuitScope::Credential, &self.health.credential),
        ]
    }

    /// One of them.
    #[must_use]
    pub fn breaker(&self, scope: CircuitScope) -> Arc<Breaker> {
        match scope {
            CircuitScope::Endpoint => Arc::clone(&self.health.endpoint),
            CircuitScope::Credential => Arc::clone(&self.health.credential),
        }
    }

    /// Set once a report exceeded its reservation.
    #[must_use]
    pub fn violated(&self) -> &Arc<AtomicBool> {
        &self.health.violated
    }

    /// True when a report exceeded its reservation: the bound does not hold for this backend.
    #[must_use]
    pub fn bound_violated(&self) -> bool {
        self.health.violated.load(Ordering::Relaxed)
    }

    /// Whether streams are asked for their usage.
    #[must_use]
    pub fn takes_stream_options(&self) -> bool {
        self.spec.knows_stream_options() && !self.health.refuses_stream_options.load(Ordering::Relaxed)
    }

    /// A stream was refused for its `stream_options`, and the same one without them was not.
    pub fn refuses_stream_options(&self) {
        if !self.health.refuses_stream_options.swap(true, Ordering::Relaxed) {
            info!(backend = self.name, "it refuses stream_options: streams go out without");
        }
    }

    /// Attempts that the provider limited, among all that ended.
    #[must_use]
    pub fn limited(&self) -> &Lasting {
        &self.health.limited
    }

    /// A request is sent for the first time.
    pub fn first_attempt(&self) {
        lock(&self.health.retries).deposit();
    }

    /// The wait before retry number `attempt`, when policy and retry budget allow one.
    #[must_use]
    pub fn retry(&self, attempt: u32, asked: Option<Duration>, remaining: Duration) -> Option<Duration> {
        let policy = self
            .spec
            .retry
            .as_ref()
            .map_or_else(RetryPolicy::default, RetryPolicy::from);
        let wait = policy.next(attempt, asked, remaining, crate::runtime::clock::jitter())?;
        lock(&self.health.retries).withdraw().then_some(wait)
    }

    /// The timers.
    #[must_use]
    pub fn timeouts(&self) -> &Timeouts {
        timeouts(&self.spec)
    }
}

fn timeouts(spec: &RemoteBackend) -> &Timeouts {
    static DEFAULT: LazyLock<Timeouts> = LazyLock::new(Timeouts::default);
    spec.timeouts.as_ref().unwrap_or(&DEFAULT)
}

fn build(spec: &RemoteBackend, means: &Means) -> InForce {
    let key = spec.credentials.as_ref().map(|c| means.keys.read(&c.secret));
    with_key(spec, means, key.transpose()?)
}

fn with_key(spec: &RemoteBackend, means: &Means, key: Option<SecretString>) -> InForce {
    let reach = Reach::provider(means.allowed.clone());
    // Names are held against the policy when they are resolved; an address is wrong at once. What is no URI the schema excludes.
    if let Ok(endpoint) = spec.endpoint.parse::<Uri>() {
        reach.check(&endpoint)?;
    }
    let session = Session::new(spec.provider, timeouts(spec).connect(), reach, key);
    session.map(Arc::new).map_err(|error| match error {
        SessionError::Tls(error) => Unusable::Tls(error.to_string()),
        SessionError::Credential(error) => Unusable::Credential(error),
    })
}

fn provider(provider: RemoteProvider, backend: &str) -> Provider {
    match provider {
        RemoteProvider::OpenAI => Provider::OpenAi,
        RemoteProvider::Anthropic => Provider::Anthropic,
        RemoteProvider::Gemini => Provider::Gemini,
        RemoteProvider::AzureOpenAI => Provider::AzureOpenAi,
        RemoteProvider::LiteLLM => Provider::LiteLlm,
        RemoteProvider::OpenAICompatible => Provider::Custom(backend.to_owned()),
    }
}

#[cfg(test)]
mod tests;
