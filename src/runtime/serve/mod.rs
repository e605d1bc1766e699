//! `serve`: puts the process together, runs it, drains it.

mod assemble;
mod cluster;
mod drain;
mod listen;
mod tend;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    access::TokenError,
    backends::UnknownZone,
    config::{self, ConfigError, IdentityError, Keys},
    front::{
        Front, Port,
        admin::{self, Admin},
    },
    remote::session::TlsError,
};
use assemble::Parts;

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
    /// The cluster cannot be reached.
    #[error("cannot set up the client of the API server: {0}")]
    Kube(String),
    /// Tokens of peers and callers cannot be verified.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The pod's own template is wrong.
    #[error("the environment variable INFERENCE_LOCAL_BACKEND holds no local backend: {0}")]
    LocalBackend(String),
    /// A budget that cannot be kept.
    #[error(transparent)]
    Budget(#[from] UnknownZone),
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
    let shown = Admin::default();
    let shutdown = CancellationToken::new();
    let admin_port = listen::bind(options.admin, "admin API").await?;
    let admin_server = listen::serve(admin_port, admin::router(shown.clone()), shutdown.clone());
    let served = match options.file.clone() {
        Some(file) => alone(&options, &file, signals, &shown, &shutdown).await,
        None => cluster::serve(&options, signals, &shown, &shutdown).await,
    };
    shutdown.cancel();
    let _ = admin_server.await;
    served
}

/// A process that runs alone, from a file.
async fn alone(
    options: &Options,
    file: &std::path::Path,
    signals: drain::Signals,
    shown: &Admin,
    shutdown: &CancellationToken,
) -> Result<(), ServeError> {
    let front = Arc::new(assemble::front(Parts {
        snapshot: Arc::new(config::load(file)?),
        keys: options.keys.clone().map_or(Keys::Environment, Keys::Directory),
        engine: None,
        cluster: None,
    })?);
    open(options, &front, signals, shown, shutdown).await
}

/// Opens the client port and serves until drained.
async fn open(
    options: &Options,
    front: &Arc<Front>,
    signals: drain::Signals,
    shown: &Admin,
    shutdown: &CancellationToken,
) -> Result<(), ServeError> {
    let closing = CancellationToken::new();
    let servers = ports(options, front, &closing).await?;
    tend::keys(front, shutdown.clone());
    tend::readiness(front);
    shown.show(Arc::clone(front));
    info!(model = front.registry.routing().snapshot.model(), "ready");
    drain::until_done(signals, front, &closing, servers).await;
    Ok(())
}

async fn ports(
    options: &Options,
    front: &Arc<Front>,
    closing: &CancellationToken,
) -> Result<Vec<JoinHandle<()>>, ServeError> {
    let client = listen::bind(options.address, "client API").await?;
    let mut servers = vec![listen::serve(client, front.router(Port::Client), closing.clone())];
    if front.identity.is_some() && front.registry.engine.is_some() {
        let peer = listen::bind(options.peer, "peer API").await?;
        servers.push(listen::serve(peer, front.router(Port::Peer), closing.clone()));
    }
    Ok(servers)
}
