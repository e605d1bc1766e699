//! A pod that follows the leader of its group: its engine is a part of the leader's, and nobody sends this process requests.

use std::{env, net::SocketAddr, time::Duration};

use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{ServeError, bind, drain::Signals, engine};
use crate::{
    api::names,
    policy::reach::AllowedAddresses,
    ports,
    runtime::{backends::Means, config::Keys, front::admin, local::ENV_GROUP_LEADER},
};

/// How often is looked whether the leader is still there, and how long a look may take.
const LOOK: Duration = Duration::from_secs(1);

/// What `follow` is told.
#[derive(Clone, Debug)]
pub struct FollowOptions {
    /// Address of the probes.
    pub admin: SocketAddr,
    /// Addresses that may be connected to beyond ordinary ones.
    pub allowed: AllowedAddresses,
    /// Address of the Hugging Face hub, from which models are downloaded.
    pub hub: String,
}

/// Runs the pod's part of the engine until it ends, or until this process is asked to end and the leader is gone; gives the exit code.
///
/// # Errors
/// When it cannot begin.
pub async fn follow(options: FollowOptions) -> Result<u8, ServeError> {
    let mut signals = Signals::new().map_err(ServeError::Signals)?;
    let shutdown = CancellationToken::new();
    let port = bind(options.admin, "admin API").await?;
    let server = ports::serve_probes(port, admin::follower(), shutdown.clone());
    let means = Means {
        keys: Keys::Directory(names::DIR_KEYS.into()),
        allowed: options.allowed,
        salt: String::new(),
    };
    let (_engine, mut supervised) = engine::start(engine::from_template()?, None, &means, &options.hub)?;
    let asked = async {
        signals.next().await;
        info!("asked to end: the leader's requests need this part of the engine until it is gone");
        leader_is_gone().await;
    };
    let code = tokio::select! {
        () = asked => 0,
        code = supervised.given_up() => code,
    };
    supervised.stop().await;
    shutdown.cancel();
    let _ = server.await;
    Ok(code)
}

/// It drains when it is asked to end, and its admin port is there until it has.
async fn leader_is_gone() {
    let Ok(leader) = env::var(ENV_GROUP_LEADER) else { return };
    while let Ok(Ok(_)) = timeout(LOOK, TcpStream::connect((leader.as_str(), names::PORT_ADMIN))).await {
        sleep(LOOK).await;
    }
}
