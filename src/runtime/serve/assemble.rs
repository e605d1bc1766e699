//! The front, put together from a configuration.

use std::sync::Arc;

use tokio::sync::watch;
use tracing::warn;

use super::ServeError;
use crate::runtime::{
    access::{Door, Verifier},
    backends::{Engine, Means, Money, Registry},
    config::{Identity, Snapshot},
    front::{Front, Lifecycle},
    metrics::Metrics,
    peer::{self, Peers},
    remote::session::client,
    request::{admission::Admission, local::LocalRoute, order::Dispatcher, share::Lines},
};

/// What a front is made of.
#[derive(Debug)]
pub struct Parts {
    /// The first configuration.
    pub snapshot: Arc<Snapshot>,
    /// Where keys are, and what addresses may be reached.
    pub means: Means,
    /// The own engine, if there is one.
    pub engine: Option<Engine>,
    /// The cluster, if there is one.
    pub cluster: Option<Cluster>,
}

/// What only a pod has.
#[derive(Debug)]
pub struct Cluster {
    /// Who this process is.
    pub identity: Identity,
    /// Opens when remote backends may be used.
    pub gate: watch::Receiver<bool>,
    /// Verifies tokens of callers and peers.
    pub verifier: Arc<Verifier>,
}

/// Puts it together.
pub fn front(parts: Parts) -> Result<Front, ServeError> {
    let Parts {
        snapshot,
        means,
        engine,
        cluster,
    } = parts;
    let (identity, gate, verifier) = match cluster {
        Some(Cluster {
            identity,
            gate,
            verifier,
        }) => (Some(identity), gate, Some(verifier)),
        None => (None, watch::channel(true).1, None),
    };
    // In a cluster the ledger is the controller's; alone, the process keeps its own.
    let money = if identity.is_some() { None } else { money(&snapshot)? };
    let peers = identity.as_ref().map(|own| Peers::new(&own.namespace, &own.deployment));
    let registry = Arc::new(Registry::new(Arc::clone(&snapshot), means.clone(), engine, gate, money));
    if identity.is_none() {
        registry.take_whole_limits();
    }
    let metrics = Arc::<Metrics>::default();
    Ok(Front {
        admission: Arc::new(Admission::new(Arc::clone(&metrics))),
        dispatcher: Dispatcher {
            registry: Arc::clone(&registry),
            metrics: Arc::clone(&metrics),
            local: LocalRoute::new(client(peer::CONNECT)?, peers),
            lines: Lines::default(),
        },
        door: Door::new(means.keys, verifier, &snapshot),
        registry,
        metrics,
        lifecycle: Arc::<Lifecycle>::default(),
        identity,
    })
}

fn money(snapshot: &Snapshot) -> Result<Option<Money>, ServeError> {
    let Some(budget) = &snapshot.spec.budget else {
        return Ok(None);
    };
    warn!("the budget is kept in memory: it starts anew with the process");
    Ok(Some(Money::new(budget, jiff::Timestamp::now())?))
}
