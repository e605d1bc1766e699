//! Who may ask: everybody, holders of a key, or ServiceAccounts.

mod published;
mod token;

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tracing::warn;

use crate::{
    api::{Access, AccessType, names},
    runtime::config::{Identity, KeyError, Keys, Snapshot},
};

#[cfg(test)]
pub use token::tests as token_tests;
pub use token::{TokenError, Verifier};

/// Why a caller is turned away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No key or token.
    #[error("no key: send it as `Authorization: Bearer KEY`")]
    Missing,
    /// A wrong key or token.
    #[error("{0}")]
    Caller(String),
    /// A good token, but not of one who may ask here.
    #[error("{0}")]
    Forbidden(String),
    /// We cannot tell: our own side of the check is missing.
    #[error("the endpoint cannot check callers: {0}")]
    Ourselves(String),
}

impl Denied {
    /// The label of a metric.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Caller(_) => "invalid",
            Self::Forbidden(_) => "forbidden",
            Self::Ourselves(_) => "unavailable",
        }
    }
}

/// The check of one port's callers.
#[derive(Debug)]
pub struct Door {
    keys: Keys,
    key: ArcSwap<Option<Result<SecretString, KeyError>>>,
    verifier: Option<Arc<Verifier>>,
}

impl Door {
    /// A door for a configuration. Without a verifier no ServiceAccount gets in.
    #[must_use]
    pub fn new(keys: Keys, verifier: Option<Arc<Verifier>>, snapshot: &Snapshot) -> Self {
        let door = Self {
            keys,
            key: ArcSwap::from_pointee(None),
            verifier,
        };
        door.refresh(snapshot);
        door
    }

    /// Reads the callers' key again.
    pub fn refresh(&self, snapshot: &Snapshot) {
        let reference = snapshot
            .spec
            .access
            .as_ref()
            .and_then(|a| a.api_key.as_ref())
            .map(|a| &a.secret);
        let key = reference.map(|r| self.keys.read(r));
        if let Some(Err(error)) = &key
            && !matches!(self.key.load().as_ref(), Some(Err(before)) if before == error)
        {
            warn!(%error, "callers cannot be checked: they are all refused");
        }
        self.key.store(Arc::new(key));
    }

    /// Lets a client in or not.
    pub async fn check(&self, headers: &HeaderMap, access: Option<&Access>) -> Result<(), Denied> {
        let Some(access) = access else { return Ok(()) };
        match (access.r#type, &access.service_account) {
            (AccessType::None, _) => Ok(()),
            (AccessType::ApiKey, _) => self.check_key(headers),
            (AccessType::ServiceAccount, Some(rule)) => {
                let verifier = self
                    .verifier
                    .as_ref()
                    .ok_or_else(|| Denied::Ourselves("there is no cluster here".into()))?;
                let claimed = verifier.verify(credential(headers)?, &rule.audiences).await?;
                match &rule.subjects {
                    Some(subjects) if !subjects.contains(&claimed) => Err(Denied::Forbidden(format!(
                        "{claimed} is not among the subjects that may ask"
                    ))),
                    _ => Ok(()),
                }
            }
            (AccessType::ServiceAccount, None) => {
                Err(Denied::Ourselves("spec.access.serviceAccount is missing".into()))
            }
        }
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let expected = self.key.load();
        let expected = match expected.as_ref() {
            Some(Ok(key)) => key,
            // Who is not known yet is not told where keys are; the log is.
            Some(Err(_)) => return Err(Denied::Ourselves("their key cannot be read".into())),
            None => return Err(Denied::Ourselves("spec.access.apiKey is missing".into())),
        };
        if same(credential(headers)?, expected.expose_secret()) {
            return Ok(());
        }
        Err(Denied::Caller("the key is wrong".into()))
    }

    /// Lets a peer in or not: a token for this deployment's peers, of this deployment's own ServiceAccount.
    pub async fn check_peer(&self, headers: &HeaderMap, identity: &Identity) -> Result<(), Denied> {
        let verifier = self
            .verifier
            .as_ref()
            .ok_or_else(|| Denied::Ourselves("there is no cluster here".into()))?;
        let audience = names::peer_audience(&identity.deployment_uid);
        let claimed = verifier.verify(credential(headers)?, &[audience]).await?;
        let own = format!("system:serviceaccount:{}:{}", identity.namespace, identity.deployment);
        if claimed == own {
            return Ok(());
        }
        Err(Denied::Forbidden(format!("{claimed} is no peer")))
    }
}

fn credential(headers: &HeaderMap) -> Result<&str, Denied> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, credential) = value.and_then(|value| value.split_once(' ')).ok_or(Denied::Missing)?;
    if scheme.eq_ignore_ascii_case("bearer") && !credential.trim().is_empty() {
        Ok(credential.trim())
    } else {
        Err(Denied::Missing)
    }
}

/// Compares without telling by its time where they differ: hashes of equal length, every byte read.
fn same(given: &str, expected: &str) -> bool {
    let (given, expected) = (Sha256::digest(given), Sha256::digest(expected));
    given
        .iter()
        .zip(expected.iter())
        .fold(0, |different, (a, b)| different | (a ^ b))
        == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ApiKeyAccess, InferenceDeploymentSpec, SecretKeyRef};

    fn snapshot(access: Option<Access>) -> Snapshot {
        Snapshot {
            namespace: "default".into(),
            name: "assistant".into(),
            generation: None,
            spec: InferenceDeploymentSpec {
                access,
                ..InferenceDeploymentSpec::default()
            },
            released: false,
        }
    }

    fn with_key() -> Access {
        let secret = SecretKeyRef {
            name: "callers".into(),
            key: "key".into(),
        };
        Access {
            r#type: AccessType::ApiKey,
            api_key: Some(ApiKeyAccess { secret }),
            service_account: None,
        }
    }

    fn bearer(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[tokio::test]
    async fn a_key_opens_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::Directory(folder.path().to_owned());
        let (snapshot, access) = (snapshot(Some(with_key())), with_key());
        let door = Door::new(keys, None, &snapshot);
        let denied = door.check(&bearer("Bearer right"), Some(&access)).await.unwrap_err();
        assert!(matches!(denied, Denied::Ourselves(_)), "no key of ours: closed");
        std::fs::create_dir(folder.path().join("callers")).unwrap();
        std::fs::write(folder.path().join("callers/key"), "right\n").unwrap();
        door.refresh(&snapshot);
        for (value, opens) in [
            ("Bearer right", true),
            ("bearer right", true),
            ("Bearer wrong", false),
            ("Bearer ", false),
            ("Basic right", false),
            ("right", false),
        ] {
            assert_eq!(
                door.check(&bearer(value), Some(&access)).await.is_ok(),
                opens,
                "{value}"
            );
        }
        assert!(matches!(
            door.check(&HeaderMap::new(), Some(&access)).await,
            Err(Denied::Missing)
        ));
        std::fs::write(folder.path().join("callers/key"), "next\n").unwrap();
        door.refresh(&snapshot);
        assert!(
            door.check(&bearer("Bearer next"), Some(&access)).await.is_ok(),
            "rotated"
        );
        assert!(door.check(&bearer("Bearer right"), Some(&access)).await.is_err());
    }

    #[tokio::test]
    async fn without_access_everybody_may_ask() {
        let door = Door::new(Keys::Environment, None, &snapshot(None));
        assert_eq!(door.check(&HeaderMap::new(), None).await, Ok(()));
    }
}
