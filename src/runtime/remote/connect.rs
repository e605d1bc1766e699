//! Connections to providers: the policy of [`crate::policy::reach`] is held against the address that is dialled, whatever the name
//! resolved to a moment before. Redirects need no such check: the client follows none.

use std::{
    error::Error,
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use arc_swap::ArcSwapOption;
use http::Uri;
use hyper_util::{
    client::legacy::connect::{
        HttpConnector,
        dns::{GaiResolver, Name},
    },
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower::Service;

use super::classify::Classified;
use crate::{
    error::{CircuitRule, InferenceError},
    policy::reach::{AllowedAddresses, Special},
};

type BoxError = Box<dyn Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// The endpoint's address is refused by the policy. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the endpoint's host {host} is {}{special}, which the operator does not allow (flag --allow-endpoint-addresses, chart value endpoints.allowAddresses)",
    .address.map(|a| format!("at {a}, ")).unwrap_or_default()
)]
pub struct NotAllowed {
    /// Host as the endpoint writes it.
    pub host: String,
    /// The address it resolved to, when that is what is refused.
    pub address: Option<IpAddr>,
    /// What is wrong with it.
    pub special: Special,
}

impl NotAllowed {
    /// A fault of the deployment's configuration: the next backend may answer, and no circuit learns from it.
    #[must_use]
    pub fn classified(&self) -> Classified {
        let message = self.to_string();
        Classified {
            circuit: CircuitRule::Ignored,
            ..InferenceError::Forbidden { message }.into()
        }
    }
}

/// The refusal among the causes of a client's error, if it is one.
#[must_use]
pub fn refused_address<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a NotAllowed> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref() {
            return Some(refused);
        }
        cause = error.source();
    }
    None
}

/// What a client may reach, and whether its last connection was refused for it.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Absent for the own engine and peers, which are on loopback and at addresses of pods.
    allowed: Option<AllowedAddresses>,
    refused: Arc<ArcSwapOption<NotAllowed>>,
}

impl Reach {
    /// A provider: ordinary addresses, and those that the operator allows.
    #[must_use]
    pub fn provider(allowed: AllowedAddresses) -> Self {
        Self {
            allowed: Some(allowed),
            refused: Arc::default(),
        }
    }

    /// The refusal of the last connection.
    #[must_use]
    pub fn refused(&self) -> Option<Arc<NotAllowed>> {
        self.refused.load_full()
    }

    /// What is wrong with an endpoint before any name is resolved: an address in it, or a name that says enough.
    pub fn check(&self, endpoint: &Uri) -> Result<(), NotAllowed> {
        let (Some(allowed), Some(host)) = (&self.allowed, endpoint.host()) else {
            return Ok(());
        };
        let special = match literal(host) {
            Some(address) => allowed.refuses(address),
            None => allowed.refuses_name(host),
        };
        match special {
            None => Ok(()),
            Some(special) => Err(NotAllowed {
                host: host.to_owned(),
                address: None,
                special,
            }),
        }
    }

    /// The addresses that may be dialled; an error when there were some and none is left.
    fn filter(&self, name: &str, found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, NotAllowed> {
        let Some(allowed) = &self.allowed else {
            return Ok(found.collect());
        };
        let mut refused = None;
        let mut kept = Vec::new();
        for address in found {
            match allowed.refuses(address.ip()) {
                None => kept.push(address),
                Some(special) => refused = Some((address.ip(), special)),
            }
        }
        match refused {
            Some((address, special)) if kept.is_empty() => Err(NotAllowed {
                host: name.to_owned(),
                address: Some(address),
                special,
            }),
            _ => Ok(kept),
        }
    }

    fn remember<T>(&self, outcome: &Result<T, BoxError>) {
        match outcome {
            Ok(_) => self.refused.store(None),
            Err(error) => {
                if let Some(refused) = refused_address(error.as_ref()) {
                    self.refused.store(Some(Arc::new(refused.clone())));
                }
            }
        }
    }
}

/// An address in the place of a name, exactly as hyper's connector recognises one: it asks no resolver then.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    let v4 = bare.parse::<Ipv4Addr>().map(IpAddr::from);
    v4.or_else(|_| bare.parse::<Ipv6Addr>().map(IpAddr::from)).ok()
}

/// A resolver that leaves out what may not be dialled.
#[derive(Clone, Debug)]
pub struct Filtered<R> {
    resolver: R,
    reach: Reach,
}

impl<R> Service<Name> for Filtered<R>
where
    R: Service<Name>,
    R::Response: Iterator<Item = SocketAddr>,
    R::Error: Into<BoxError>,
    R::Future: Send + 'static,
{
    type Response = vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.resolver.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let reach = self.reach.clone();
        let host = name.as_str().to_owned();
        let resolving = self.resolver.call(name);
        Box::pin(async move {
            let found = resolving.await.map_err(Into::into)?;
            Ok(reach.filter(&host, found)?.into_iter())
        })
    }
}

/// A TCP connector that dials only what may be dialled.
#[derive(Clone, Debug)]
pub struct Guarded<R = GaiResolver> {
    http: HttpConnector<Filtered<R>>,
    reach: Reach,
}

impl Guarded {
    /// With the system's resolver; `adjust` sets the connector's options.
    pub fn new(reach: Reach, adjust: impl FnOnce(&mut HttpConnector<Filtered<GaiResolver>>)) -> Self {
        let mut guarded = Self::with_resolver(GaiResolver::new(), reach);
        adjust(&mut guarded.http);
        guarded
    }
}

impl<R: Clone> Guarded<R> {
    fn with_resolver(resolver: R, reach: Reach) -> Self {
        let resolver = Filtered {
            resolver,
            reach: reach.clone(),
        };
        let mut http = HttpConnector::new_with_resolver(resolver);
        // https comes through here too.
        http.enforce_http(false);
        Self { http, reach }
    }
}

impl<R> Service<Uri> for Guarded<R>
where
    R: Service<Name> + Clone + Send + Sync + 'static,
    R::Response: Iterator<Item = SocketAddr>,
    R::Error: Into<BoxError>,
    R::Future: Send + 'static,
{
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let reach = self.reach.clone();
        let checked = reach.check(&uri);
        let connecting = self.http.call(uri);
        Box::pin(async move {
            let connected = match checked {
                // The connector has not been polled: it has dialled nobody.
                Err(refused) => Err(refused.into()),
                Ok(()) => connecting.await.map_err(Into::into),
            };
            reach.remember(&connected);
            connected
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A resolver that gives other addresses every time it is asked.
    #[derive(Clone)]
    struct Rebinding(Arc<std::sync::Mutex<vec::IntoIter<Vec<&'static str>>>>);

    impl Rebinding {
        fn new(answers: Vec<Vec<&'static str>>) -> Self {
            Self(Arc::new(std::sync::Mutex::new(answers.into_iter())))
        }
    }

    impl Service<Name> for Rebinding {
        type Response = vec::IntoIter<SocketAddr>;
        type Error = std::convert::Infallible;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Name) -> Self::Future {
            let found = self.0.lock().unwrap().next().expect("asked more often than answered");
            let found: Vec<SocketAddr> = found
                .iter()
                .map(|ip| (ip.parse::<IpAddr>().unwrap(), 0).into())
                .collect();
            std::future::ready(Ok(found.into_iter()))
        }
    }

    fn guarded(allowed: &str, answers: Vec<Vec<&'static str>>) -> Guarded<Rebinding> {
        Guarded::with_resolver(Rebinding::new(answers), Reach::provider(allowed.parse().unwrap()))
    }

    async fn dial(guarded: &mut Guarded<Rebinding>, uri: &str) -> Result<SocketAddr, BoxError> {
        let stream = guarded.call(uri.parse().unwrap()).await?;
        Ok(stream.inner().peer_addr().unwrap())
    }

    fn special(outcome: Result<SocketAddr, BoxError>) -> Special {
        let error = outcome.unwrap_err();
        refused_address(error.as_ref())
            .unwrap_or_else(|| panic!("{error}"))
            .special
    }

    #[tokio::test]
    async fn addresses_in_the_endpoint_are_refused_before_anything_is_dialled() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"] {
            let mut guarded = guarded("", vec![]);
            assert_eq!(
                special(dial(&mut guarded, &format!("http://{host}:{port}/v1")).await),
                Special::Loopback
            );
            assert!(guarded.reach.refused().is_some());
        }
        let mut allowed = guarded("127.0.0.0/8", vec![]);
        let peer = dial(&mut allowed, &format!("http://127.0.0.1:{port}/v1"))
            .await
            .unwrap();
        assert_eq!(peer.port(), port);
        let (accepted, _) = listener.accept().await.unwrap();
        drop(accepted);
    }

    #[tokio::test]
    async fn a_name_that_moves_to_a_refused_address_is_refused_then() {
        let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let uri = format!("http://gateway.example:{}/v1", listener.local_addr().unwrap().port());
        let answers = vec![vec!["127.0.0.2"], vec!["169.254.169.254"], vec!["127.0.0.2"]];
        let mut guarded = guarded("127.0.0.2", answers);
        dial(&mut guarded, &uri).await.unwrap();
        assert_eq!(guarded.reach.refused(), None);
        assert_eq!(special(dial(&mut guarded, &uri).await), Special::Metadata);
        let refused = guarded.reach.refused().unwrap();
        assert_eq!(refused.address, Some("169.254.169.254".parse().unwrap()));
        assert!(
            refused.to_string().contains("gateway.example is at 169.254.169.254"),
            "{refused}"
        );
        dial(&mut guarded, &uri).await.unwrap();
        assert_eq!(guarded.reach.refused(), None, "a connection clears it");
    }

    #[tokio::test]
    async fn of_several_addresses_only_the_allowed_ones_are_dialled() {
        // Somebody else may have that port of the other address.
        let (listener, other) = loop {
            let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            if let Ok(other) = TcpListener::bind(("127.0.0.1", port)).await {
                break (listener, other);
            }
        };
        let port = listener.local_addr().unwrap().port();
        let answers = vec![vec!["127.0.0.1", "::1", "169.254.169.254", "127.0.0.2"]];
        let mut guarded = guarded("127.0.0.2", answers);
        let peer = dial(&mut guarded, &format!("http://gateway.example:{port}/v1"))
            .await
            .unwrap();
        assert_eq!(peer.ip().to_string(), "127.0.0.2");
        drop(other);
    }

    #[tokio::test]
    async fn names_and_numbers_in_disguise_are_refused_by_the_systems_resolver_too() {
        let reach = Reach::provider(AllowedAddresses::default());
        let mut guarded = Guarded::new(reach, |_| ());
        for host in ["localhost", "0x7f.1", "2130706433", "0177.0.0.1"] {
            let uri = format!("http://{host}:9/v1").parse().unwrap();
            let error = guarded.call(uri).await.unwrap_err();
            let refused = refused_address(error.as_ref()).unwrap_or_else(|| panic!("{host}: {error:?}"));
            assert_eq!(refused.special, Special::Loopback, "{host}");
        }
    }

    #[test]
    fn a_refusal_goes_to_the_next_backend_and_teaches_no_circuit() {
        let refused = NotAllowed {
            host: "[::1]".into(),
            address: None,
            special: Special::Loopback,
        };
        let classified = refused.classified();
        assert_eq!(classified.circuit, CircuitRule::Ignored);
        assert_eq!(classified.retry, crate::error::RetryRule::NextBackend);
        assert!(
            classified.error.to_string().contains("--allow-endpoint-addresses"),
            "{}",
            classified.error
        );
    }
}
