//! `serve`: puts the process together, runs it, drains it.

mod assemble;
mod cluster;
mod drain;
mod engine;
mod follow;
mod tend;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    policy::reach::AllowedAddresses,
    ports::{self, Bound},
};

use super::{
    access::TokenError,
    backends::{Means, UnknownZone},
    config::{self, ConfigError, IdentityError, Keys},
    front::{
        Front, Port,
        admin::{self, Admin},
    },
    local::OptionsError,
    remote::session::TlsError,
};
use assemble::Parts;
use drain::{Servers, Signals, drain};
use engine::Supervised;
pub use follow::{FollowOptions, follow};

/// Requests at remote backends may finish for so long when the engine was given up: the pod is replaced.
const LAST_REQUESTS: Duration = Duration::from_secs(30);

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
    /// Addresses that endpoints may have beyond ordinary ones. Absent: loopback beside a file, where whoever starts the process is the
    /// operator, and none in a pod.
    pub allowed: Option<AllowedAddresses>,
    /// Address of the Hugging Face hub, from which models are downloaded.
    pub hub: String,
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
    /// The engine's surroundings are wrong.
    #[error("the engine cannot be placed: {0}")]
    Engine(#[from] OptionsError),
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

/// Serves until SIGTERM or SIGINT and a drained queue, or until the engine is given up; gives the exit code.
pub async fn run(options: Options) -> Result<u8, ServeError> {
    ports::take_descriptors();
    let signals = Signals::new().map_err(ServeError::Signals)?;
    let shown = Admin::default();
    let shutdown = CancellationToken::new();
    let admin_port = bind(options.admin, "admin API").await?;
    let admin_server = ports::serve_probes(admin_port, admin::router(shown.clone()), shutdown.clone());
    let served = match options.file.clone() {
        Some(file) => alone(&options, &file, signals, &shown, &shutdown).await,
        None => cluster::serve(&options, signals, &shown, &shutdown).await,
    };
    shutdown.cancel();
    let _ = admin_server.await;
    served
}

/// Binds an address and says which one it became.
async fn bind(address: SocketAddr, port: &'static str) -> Result<Bound, ServeError> {
    let bound = Bound::at(address, port).await;
    bound.map_err(|error| ServeError::Listen { address, port, error })
}

/// A process that runs alone, from a file.
async fn alone(
    options: &Options,
    file: &Path,
    signals: Signals,
    shown: &Admin,
    shutdown: &CancellationToken,
) -> Result<u8, ServeError> {
    let snapshot = Arc::new(config::load(file)?);
    let backend = snapshot
        .spec
        .local()
        .map(|(name, local)| (name.to_owned(), local.clone()));
    let allowed = options.allowed.clone().unwrap_or_else(AllowedAddresses::loopback);
    let means = Means {
        keys: options.keys.clone().map_or(Keys::Environment, Keys::Directory),
        allowed,
        salt: String::new(),
    };
    let (own_engine, supervised) = engine::start(backend, Some(snapshot.model()), &means, &options.hub)?;
    let front = Arc::new(assemble::front(Parts {
        snapshot,
        means,
        engine: own_engine,
        cluster: None,
    })?);
    let code = open(options, &front, signals, supervised, shown, shutdown).await?;
    let routing = front.registry.routing();
    if let Some(account) = front
        .registry
        .money(&routing)
        .and_then(|m| m.status(jiff::Timestamp::now()))
    {
        info!(settled = %account.settled, uncertain = %account.uncertain, "the budget's account ends with the process");
    }
    Ok(code)
}

/// Opens the ports and serves until asked to end or until the engine is given up.
async fn open(
    options: &Options,
    front: &Arc<Front>,
    mut signals: Signals,
    mut supervised: Supervised,
    shown: &Admin,
    shutdown: &CancellationToken,
) -> Result<u8, ServeError> {
    let servers = ports(options, front).await?;
    tend::keys(front, shutdown.clone());
    tend::readiness(front);
    shown.show(Arc::clone(front));
    info!(model = front.registry.routing().snapshot.model(), "ready");
    let limit = || front.registry.routing().snapshot.serving().drain();
    let code = tokio::select! {
        () = signals.next() => {
            drain(&mut signals, front, servers, limit()).await;
            0
        }
        code = supervised.given_up() => {
            drain(&mut signals, front, servers, limit().min(LAST_REQUESTS)).await;
            code
        }
    };
    supervised.stop().await;
    Ok(code)
}

async fn ports(options: &Options, front: &Arc<Front>) -> Result<Servers, ServeError> {
    let closing = CancellationToken::new();
    let client = bind(options.address, "client API").await?;
    let mut running = vec![ports::serve(client, (Arc::clone(front), Port::Client), closing.clone())];
    if front.identity.is_some() && front.registry.engine.is_some() {
        let peer = bind(options.peer, "peer API").await?;
        running.push(ports::serve(peer, (Arc::clone(front), Port::Peer), closing.clone()));
    }
    Ok(Servers { closing, running })
}
