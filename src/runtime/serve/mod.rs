//! `serve`: puts the process together, runs it, drains it.

mod drain;
mod listen;
mod tend;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    access::Door,
    backends::{Money, Registry},
    config::{self, ConfigError, IdentityError, Keys, Snapshot},
    front::{
        Front, Lifecycle, Port,
        admin::{self, Admin},
    },
    metrics::Metrics,
    remote::session::{TlsError, client},
    request::{admission::Admission, local::LocalRoute, order::Dispatcher},
};
use crate::api::Timeouts;

/// What `serve` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration; the cluster's own object when absent.
    pub file: Option<PathBuf>,
    /// Folder of keys.
    pub keys: Option<PathBuf>,
    /// Address of the API.
    pub address: SocketAddr,
    /// Address of probes, metrics and status.
    pub admin: SocketAddr,
    /// Address for peers.
    pub peer: SocketAddr,
}

/// Why the process cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The file is no configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Not in a pod of the controller's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A budget that cannot be kept.
    #[error("{0}")]
    Budget(String),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} for the {port}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What for.
        port: &'static str,
        /// Why.
        error: io::Error,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}

/// Serves until SIGTERM or SIGINT and a drained queue.
pub async fn run(options: Options) -> Result<(), ServeError> {
    let signals = drain::Signals::new().map_err(ServeError::Signals)?;
    let client_port = listen::bind(options.address, "client API").await?;
    let admin_port = listen::bind(options.admin, "admin API").await?;
    let shutdown = CancellationToken::new();
    let shown = Admin::default();
    let admin_server = listen::serve(admin_port, admin::router(shown.clone()), shutdown.clone());

    let front = Arc::new(from_file(&options)?);
    shown.show(Arc::clone(&front));
    let closing = CancellationToken::new();
    let client_server = listen::serve(client_port, front.router(Port::Client), closing.clone());
    tend::keys(&front, shutdown.clone());
    front.lifecycle.configured();
    info!(model = front.registry.routing().snapshot.model(), "ready");

    drain::until_done(signals, &front, &closing, client_server).await;
    shutdown.cancel();
    let _ = admin_server.await;
    Ok(())
}

/// The front of a process that runs alone.
fn from_file(options: &Options) -> Result<Front, ServeError> {
    let path = options.file.clone().unwrap_or_default();
    let snapshot = Arc::new(config::load(&path)?);
    let keys = options.keys.clone().map_or(Keys::Environment, Keys::Directory);
    let money = money(&snapshot)?;
    let (_, open) = watch::channel(true);
    let registry = Arc::new(Registry::new(Arc::clone(&snapshot), keys.clone(), None, open, money));
    let metrics = Arc::<Metrics>::default();
    Ok(Front {
        admission: Arc::new(Admission::new(Arc::clone(&metrics))),
        dispatcher: Dispatcher {
            registry: Arc::clone(&registry),
            metrics: Arc::clone(&metrics),
            local: LocalRoute::new(client(Timeouts::default().connect())?, None),
        },
        door: Door::new(keys, None, &snapshot),
        registry,
        metrics,
        lifecycle: Arc::<Lifecycle>::default(),
        identity: None,
    })
}

fn money(snapshot: &Snapshot) -> Result<Option<Money>, ServeError> {
    let Some(budget) = &snapshot.spec.budget else {
        return Ok(None);
    };
    warn!("the budget is kept in memory: it starts anew with the process");
    let money = Money::new(budget, jiff::Timestamp::now()).map_err(|error| ServeError::Budget(error.to_string()))?;
    Ok(Some(money))
}
