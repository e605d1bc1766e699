//! Other pods with an engine: found through the headless Service, asked with a ServiceAccount token (design section 4).

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    sync::Mutex,
    time::Duration,
};

use http::HeaderValue;
use rand::seq::SliceRandom;
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
/// A peer that is there takes a connection within this time; a pod that is gone does not answer at all.
pub const CONNECT: Duration = Duration::from_secs(2);
const REMEMBERED: Duration = Duration::from_secs(1);
const LOOKUP: Duration = Duration::from_secs(2);

/// Other pods with an engine.
#[derive(Debug)]
pub struct Peers {
    host: String,
    port: u16,
    token: PathBuf,
    found: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
    /// Until when a peer is left alone.
    avoided: Mutex<HashMap<SocketAddr, Instant>>,
}

impl Peers {
    /// Peers of a deployment; `resolver` is the text of the pod's `/etc/resolv.conf`.
    #[must_use]
    pub fn new(namespace: &str, deployment: &str, resolver: &str) -> Self {
        Self::at(
            host(namespace, deployment, resolver),
            names::PORT_PEER,
            PathBuf::from(names::DIR_PEER_TOKEN).join(names::FILE_PEER_TOKEN),
        )
    }

    /// Peers behind a name, with the file of the token for them.
    #[must_use]
    pub fn at(host: String, port: u16, token: PathBuf) -> Self {
        Self {
            host,
            port,
            token,
            found: Mutex::new(None),
            avoided: Mutex::default(),
        }
    }

    /// Peers that are known already, and stay.
    #[cfg(test)]
    #[must_use]
    pub fn fixed(peers: Vec<SocketAddr>, token: PathBuf) -> Self {
        let found = Some((Instant::now() + Duration::from_secs(3_600), peers));
        Self {
            found: Mutex::new(found),
            ..Self::at(String::new(), 0, token)
        }
    }

    /// Other peers come.
    #[cfg(test)]
    pub fn come(&self, peers: Vec<SocketAddr>) {
        *lock(&self.found) = Some((Instant::now() + Duration::from_secs(3_600), peers));
    }

    /// Addresses of Ready local pods to try, in random order. A peer that failed of late is left out, but for the one that may be
    /// asked soonest when all of them did.
    pub async fn addresses(&self) -> Vec<SocketAddr> {
        self.choose(self.known().await)
    }

    async fn known(&self) -> Vec<SocketAddr> {
        let remembered = lock(&self.found).clone().filter(|(at, _)| at.elapsed() < REMEMBERED);
        match remembered {
            Some((_, addresses)) => addresses,
            None => self.look_up().await,
        }
    }

    fn choose(&self, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        addresses.shuffle(&mut rand::rng());
        let avoided = lock(&self.avoided);
        let now = Instant::now();
        let until = |address: &SocketAddr| avoided.get(address).copied().filter(|until| *until > now);
        let soonest = addresses.iter().copied().min_by_key(until);
        addresses.retain(|address| until(address).is_none());
        if addresses.is_empty() {
            addresses.extend(soonest);
        }
        addresses.truncate(TRIED);
        addresses
    }

    /// True when there is a peer that did not fail of late.
    pub async fn any(&self) -> bool {
        let addresses = self.known().await;
        let (avoided, now) = (lock(&self.avoided), Instant::now());
        addresses
            .iter()
            .any(|address| avoided.get(address).is_none_or(|until| *until <= now))
    }

    /// Leaves a peer alone for a while.
    pub fn note(&self, peer: SocketAddr, for_so_long: Duration) {
        let mut avoided = lock(&self.avoided);
        let now = Instant::now();
        avoided.retain(|_, until| *until > now);
        if !for_so_long.is_zero() {
            avoided.insert(peer, now + for_so_long);
        }
    }

    async fn look_up(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<_> = match timeout(LOOKUP, lookup_host((self.host.as_str(), self.port))).await {
            Ok(Ok(addresses)) => addresses.collect(),
            // A headless Service without Ready pods has no records.
            Ok(Err(_)) => Vec::new(),
            Err(_) => {
                warn!(host = self.host, "the name lookup of peers took longer than {LOOKUP:?}");
                Vec::new()
            }
        };
        addresses.retain(|address| !is_own(*address));
        *lock(&self.found) = Some((Instant::now(), addresses.clone()));
        addresses
    }

    /// The token that peers verify. Read every time: the kubelet renews it.
    pub async fn authorization(&self) -> io::Result<HeaderValue> {
        let token = tokio::fs::read_to_string(&self.token).await?;
        bearer(&SecretString::from(token.trim())).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// The full name of the Service, where the kubelet tells the cluster's domain. A shorter one is tried in every domain of the node first: a
/// stranger's there would be shown prompts and the token.
fn host(namespace: &str, deployment: &str, resolver: &str) -> String {
    let own = format!("{namespace}.svc.");
    let service = format!("{deployment}{}", names::PEER_SERVICE_SUFFIX);
    let domains = resolver.lines().filter_map(|line| line.trim().strip_prefix("search"));
    let mut domains = domains.flat_map(str::split_whitespace);
    match domains.find(|domain| domain.starts_with(&own)) {
        Some(domain) => format!("{service}.{}.", domain.trim_end_matches('.')),
        None => format!("{service}.{namespace}.svc"),
    }
}

/// True when the address is one of this pod's own, which is among the Ready ones while its engine is being rebuilt: a hop to it would
/// be lost. The kernel sends from the address itself then; connecting a datagram socket sends nothing.
fn is_own(address: SocketAddr) -> bool {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(address)?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> Peers {
        Peers::at("localhost".into(), 1, PathBuf::new())
    }

    fn pods(count: u8) -> Vec<SocketAddr> {
        (1..=count).map(|n| SocketAddr::from(([10, 0, 0, n], 8001))).collect()
    }

    #[test]
    fn peers_are_looked_up_by_their_full_name() {
        let resolver = "nameserver 10.0.0.10\nsearch team.svc.k8s.example svc.k8s.example k8s.example corp.example\noptions ndots:5\n";
        assert_eq!(host("team", "chat", resolver), "chat-local.team.svc.k8s.example.");
        assert_eq!(host("other", "chat", resolver), "chat-local.other.svc");
        assert_eq!(host("team", "chat", ""), "chat-local.team.svc");
    }

    #[test]
    fn requests_are_spread_over_the_peers() {
        let peers = peers();
        let mut firsts: HashMap<SocketAddr, u32> = HashMap::new();
        for _ in 0..4_000 {
            let chosen = peers.choose(pods(8));
            assert_eq!(chosen.len(), TRIED);
            *firsts.entry(chosen[0]).or_default() += 1;
        }
        println!(
            "first choices of 4000 over 8 peers: {:?}",
            firsts.values().collect::<Vec<_>>()
        );
        assert_eq!(firsts.len(), 8);
        assert!(firsts.values().all(|count| (350..=650).contains(count)));
    }

    #[tokio::test(start_paused = true)]
    async fn peers_that_failed_are_left_alone_for_a_while() {
        let peers = peers();
        let pods = pods(3);
        peers.note(pods[0], Duration::from_secs(5));
        for _ in 0..50 {
            assert!(!peers.choose(pods.clone()).contains(&pods[0]));
        }
        peers.note(pods[1], Duration::from_secs(1));
        peers.note(pods[2], Duration::from_secs(3));
        assert_eq!(
            peers.choose(pods.clone()),
            [pods[1]],
            "all failed: the one whose time is over first"
        );
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(peers.choose(pods.clone()).len(), 3);
        peers.note(pods[1], Duration::ZERO);
        assert!(
            lock(&peers.avoided).is_empty(),
            "nothing is kept of peers that are gone"
        );
    }

    #[test]
    fn the_own_pod_is_no_peer() {
        // Of documentation's addresses none is ours.
        for (address, own) in [
            ("127.0.0.1:8001", true),
            ("192.0.2.1:8001", false),
            ("[2001:db8::1]:8001", false),
        ] {
            assert_eq!(is_own(address.parse().unwrap()), own, "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_the_own_pod_alone_has_no_peers() {
        assert_eq!(peers().addresses().await, []);
    }
}
