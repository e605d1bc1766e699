//! Other pods with an engine: found through the headless Service, asked with a ServiceAccount token (design section 4).

use std::{io, net::SocketAddr, path::PathBuf, sync::Mutex, time::Duration};

use http::HeaderValue;
use secrecy::SecretString;
use tokio::{
    net::lookup_host,
    time::{Instant, timeout},
};
use tracing::warn;

use crate::{
    api::names,
    runtime::{remote::session::bearer, sync::lock},
};

/// Peers that one request tries at most.
const TRIED: usize = 3;
const REMEMBERED: Duration = Duration::from_secs(1);
const LOOKUP: Duration = Duration::from_secs(2);

/// Other pods with an engine.
#[derive(Debug)]
pub struct Peers {
    host: String,
    port: u16,
    token: PathBuf,
    found: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

impl Peers {
    /// Peers of a deployment.
    #[must_use]
    pub fn new(namespace: &str, deployment: &str) -> Self {
        Self {
            host: format!("{deployment}{}.{namespace}.svc", names::PEER_SERVICE_SUFFIX),
            port: names::PORT_PEER,
            token: PathBuf::from(names::DIR_PEER_TOKEN).join(names::FILE_PEER_TOKEN),
            found: Mutex::new(None),
        }
    }

    /// Addresses of Ready local pods to try, in random order.
    pub async fn addresses(&self) -> Vec<SocketAddr> {
        let remembered = lock(&self.found).clone().filter(|(at, _)| at.elapsed() < REMEMBERED);
        let mut addresses = match remembered {
            Some((_, addresses)) => addresses,
            None => self.look_up().await,
        };
        if !addresses.is_empty() {
            let first = rand::random_range(0..addresses.len());
            addresses.rotate_left(first);
        }
        addresses.truncate(TRIED);
        addresses
    }

    async fn look_up(&self) -> Vec<SocketAddr> {
        let addresses = match timeout(LOOKUP, lookup_host((self.host.as_str(), self.port))).await {
            Ok(Ok(addresses)) => addresses.collect(),
            // A headless Service without Ready pods has no records.
            Ok(Err(_)) => Vec::new(),
            Err(_) => {
                warn!(host = self.host, "the name lookup of peers took longer than {LOOKUP:?}");
                Vec::new()
            }
        };
        *lock(&self.found) = Some((Instant::now(), addresses.clone()));
        addresses
    }

    /// The token that peers verify. Read every time: the kubelet renews it.
    pub async fn authorization(&self) -> io::Result<HeaderValue> {
        let token = tokio::fs::read_to_string(&self.token).await?;
        bearer(&SecretString::from(token.trim())).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}
