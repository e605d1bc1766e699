//! The front, put together from a configuration.

use std::{path::PathBuf, sync::Arc};

use tokio::sync::watch;
use tracing::warn;

use super::ServeError;
use crate::{
    policy::budget::journal::{Process, boot_id},
    runtime::{
        access::{Door, Verifier},
        backends::{Engine, Journal, Leased, Means, Money, Registry, Signals, kernel},
        clock::Clock,
        config::{Identity, Snapshot},
        front::{Front, Lifecycle},
        metrics::Metrics,
        peer::{self, Peers},
        remote::session::client,
        request::{admission::Admission, local::LocalRoute, order::Dispatcher, share::Lines},
    },
};

/// Where the kubelet tells a pod how names are looked up.
const RESOLVER: &str = "/etc/resolv.conf";

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
    /// This start of the process.
    pub boot: u64,
    /// Folder of the budget's journal.
    pub journal: PathBuf,
}

/// Puts it together.
pub fn front(parts: Parts) -> Result<Front, ServeError> {
    let Parts {
        snapshot,
        means,
        engine,
        cluster,
    } = parts;
    let (identity, gate, verifier, wallet) = match cluster {
        Some(Cluster {
            identity,
            gate,
            verifier,
            boot,
            journal,
        }) => (Some(identity), gate, Some(verifier), Wallet::Leased(boot, journal)),
        None => (None, watch::channel(true).1, None, alone(&snapshot)?),
    };
    // Where it cannot be read the name is looked up as it can be.
    let resolver = std::fs::read_to_string(RESOLVER).unwrap_or_default();
    let peers = identity
        .as_ref()
        .map(|own| Peers::new(&own.namespace, &own.deployment, &resolver));
    let registry = Arc::new(Registry::new(
        Arc::clone(&snapshot),
        means.clone(),
        engine,
        gate,
        |clock, signals| wallet.open(clock, signals),
    ));
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

/// Where the money comes from: in a cluster from the controller's ledger; alone, the process keeps an account of its own.
enum Wallet {
    Alone(Option<Money>),
    Leased(u64, PathBuf),
}

fn alone(snapshot: &Snapshot) -> Result<Wallet, ServeError> {
    let Some(budget) = &snapshot.spec.budget else {
        return Ok(Wallet::Alone(None));
    };
    warn!("the budget is kept in memory: it starts anew with the process");
    Ok(Wallet::Alone(Some(Money::alone(budget, jiff::Timestamp::now())?)))
}

impl Wallet {
    fn open(self, clock: Clock, signals: &Arc<Signals>) -> Option<Money> {
        let (boot, folder) = match self {
            Self::Alone(money) => return money,
            Self::Leased(boot, folder) => (boot, folder),
        };
        let journal = kernel()
            .map_err(Into::into)
            .and_then(|kernel| Journal::open(&folder, Process { kernel, boot }));
        if let Err(error) = &journal {
            warn!(%error, "no journal of the budget: if this process is killed, all that was granted to it is uncertain");
        }
        let leased = Leased::new(boot_id(boot), journal.ok(), clock, Arc::clone(signals));
        Some(Money::leased(Arc::new(leased)))
    }
}
