//! An engine that runs elsewhere.

use http::{Uri, uri::Scheme};

use super::{About, Readiness, Server, SetupError, openai};
use crate::api::LocalBackend;

/// The adapter: where it is, and nothing to start.
#[derive(Debug)]
pub struct External {
    /// Host as the spec writes it, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl External {
    pub(super) fn new(backend: &LocalBackend) -> Result<Self, SetupError> {
        let url = backend.url.clone().unwrap_or_default();
        Self::read(&url).ok_or(SetupError::NoAddress(url))
    }

    fn read(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let plain = uri.scheme() == Some(&Scheme::HTTP) && uri.path() == "/" && uri.query().is_none();
        let host = uri.host().filter(|_| plain)?;
        let port = match uri.authority()?.as_str().strip_prefix(host)? {
            "" => 80,
            // Not http's own reading: it takes the default port for one that is none.
            port => port.strip_prefix(':')?.parse().ok().filter(|&port| port > 0)?,
        };
        Some(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
        })
    }
}

impl Server for External {
    fn readiness(&self) -> Readiness {
        openai::UNKNOWN
    }

    fn about(&self, answer: &[u8], name: &str) -> About {
        openai::about(answer, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (url, host, port) in [
            ("http://engine.default.svc:8000", "engine.default.svc", 8000),
            ("http://engine/", "engine", 80),
            ("http://[::1]:8080", "::1", 8080),
        ] {
            let found = External::read(url).unwrap();
            assert_eq!((found.host.as_str(), found.port), (host, port), "{url}");
        }
        for url in [
            "https://engine",
            "http://engine/v1",
            "http://engine:0",
            "http://engine:99999",
            "engine:80",
            "",
        ] {
            assert!(External::read(url).is_none(), "{url}");
        }
    }
}
