//! A remote backend: its spec, circuits, session and retry budget.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tracing::{info, warn};

use super::{Breaker, Leave, Signals};
use crate::{
    api::{CircuitScope, RemoteBackend, RemoteProvider, Timeouts},
    error::{InferenceError, Provider},
    policy::{
        circuit::{CircuitConfig, Refused},
        retry::{RetryBudget, RetryPolicy},
    },
    runtime::{
        clock::Clock,
        config::{KeyError, Keys},
        remote::{
            session::{Session, TlsError, client},
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
}

/// Why nothing can be sent.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unusable {
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// TLS cannot be set up.
    #[error("{0}")]
    Tls(String),
}

/// A remote backend.
#[derive(Debug)]
pub struct Remote {
    /// Its spec.
    pub spec: RemoteBackend,
    /// Its provider, as errors spell it.
    pub provider: Provider,
    /// Where it takes which operation.
    pub addresses: Addresses,
    name: String,
    health: Arc<Health>,
    keys: Keys,
    session: ArcSwap<Result<Arc<Session>, Unusable>>,
    signals: Arc<Signals>,
}

impl Remote {
    /// A backend that nothing is known of.
    #[must_use]
    pub fn new(name: &str, spec: &RemoteBackend, keys: &Keys, clock: Clock, signals: &Arc<Signals>) -> Self {
        let breaker = |scope: &str| {
            let label = format!("{name}/{scope}");
            Arc::new(Breaker::new(label, circuit_config(spec), clock, Arc::clone(signals)))
        };
        Self {
            spec: spec.clone(),
            provider: provider(spec.provider, name),
            addresses: Addresses::new(spec),
            name: name.to_owned(),
            health: Arc::new(Health {
                endpoint: breaker("Endpoint"),
                credential: breaker("Credential"),
                retries: Mutex::new(RetryBudget::new()),
                violated: Arc::default(),
            }),
            keys: keys.clone(),
            session: ArcSwap::from_pointee(build(spec, keys)),
            signals: Arc::clone(signals),
        }
    }

    /// The same backend with a changed spec: what is known of the endpoint stays, the session only while it fits.
    #[must_use]
    pub fn changed(&self, spec: &RemoteBackend, keys: &Keys, clock: Clock) -> Self {
        let fresh = Self::new(&self.name, spec, keys, clock, &self.signals);
        if spec.provider != self.spec.provider || spec.endpoint != self.spec.endpoint {
            return fresh;
        }
        self.health.endpoint.reconfigure(circuit_config(spec));
        self.health.credential.reconfigure(circuit_config(spec));
        let same_session =
            spec.credentials == self.spec.credentials && timeouts(spec).connect() == self.timeouts().connect();
        let session = if same_session {
            self.session.load_full()
        } else {
            fresh.session.load_full()
        };
        Self {
            health: Arc::clone(&self.health),
            session: ArcSwap::new(session),
            ..fresh
        }
    }

    /// The session in force.
    pub fn session(&self) -> Result<Arc<Session>, Unusable> {
        (**self.session.load()).clone()
    }

    /// Reads the key anew and builds a new session; requests in flight finish on the old one.
    pub fn rebuild(&self) {
        self.session.store(Arc::new(build(&self.spec, &self.keys)));
    }

    /// Reads the key; a changed one gives a new session and earns the credential circuit one probe.
    pub fn refresh_key(&self) {
        let Some(credentials) = &self.spec.credentials else {
            return;
        };
        let found = self.keys.read(&credentials.secret);
        let unchanged = match (&**self.session.load(), &found) {
            (Ok(session), Ok(key)) => session.same_key(Some(key)),
            (Err(Unusable::Key(before)), Err(now)) => before == now,
            _ => false,
        };
        if unchanged {
            return;
        }
        match &found {
            Ok(_) => info!(backend = self.name, "the key changed: new session, one probe"),
            Err(error) => warn!(backend = self.name, %error, "the key is gone"),
        }
        self.rebuild();
        self.health.credential.earn_probe();
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

    /// The key was refused.
    pub fn refuse_credential(&self, error: &InferenceError) {
        self.health.credential.open_now(error.kind());
    }

    /// Both circuits for status and metrics.
    #[must_use]
    pub fn circuits(&self) -> [(CircuitScope, &Breaker); 2] {
        [
            (CircuitScope::Endpoint, &self.health.endpoint),
            (CircuitScope::Credential, &self.health.credential),
        ]
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
    pub fn timeouts(&self) -> Timeouts {
        timeouts(&self.spec)
    }
}

fn timeouts(spec: &RemoteBackend) -> Timeouts {
    spec.timeouts.clone().unwrap_or_default()
}

fn circuit_config(spec: &RemoteBackend) -> CircuitConfig {
    spec.circuit_breaker
        .as_ref()
        .map_or_else(CircuitConfig::default, CircuitConfig::from)
}

fn build(spec: &RemoteBackend, keys: &Keys) -> Result<Arc<Session>, Unusable> {
    let key = spec.credentials.as_ref().map(|c| keys.read(&c.secret)).transpose()?;
    let client = client(timeouts(spec).connect()).map_err(|error: TlsError| Unusable::Tls(error.to_string()))?;
    Ok(Arc::new(Session { client, key }))
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
