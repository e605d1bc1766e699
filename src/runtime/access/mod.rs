//! Who may ask: everybody, holders of a key, or ServiceAccounts.

mod token;

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::{
    api::{Access, AccessType, names},
    runtime::config::{Identity, KeyError, Keys, Snapshot},
};

pub use token::{TokenError, Verifier};

/// Why a caller is turned away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No or a wrong key or token.
    #[error("{0}")]
    Caller(String),
    /// We cannot tell: our own side of the check is missing.
    #[error("the endpoint cannot check callers: {0}")]
    Ourselves(String),
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
        self.key.store(Arc::new(reference.map(|r| self.keys.read(r))));
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
                    Some(subjects) if !subjects.contains(&claimed) => Err(Denied::Caller(format!(
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
            Some(Err(error)) => return Err(Denied::Ourselves(error.to_string())),
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
        Err(Denied::Caller(format!("{claimed} is no peer: {own} is")))
    }
}

fn credential(headers: &HeaderMap) -> Result<&str, Denied> {
    let missing = || Denied::Caller("no key: send it as `Authorization: Bearer KEY`".into());
    let value = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(missing)?
        .to_str()
        .map_err(|_| missing())?;
    let (scheme, credential) = value.split_once(' ').ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(credential.trim())
    } else {
        Err(missing())
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
            Err(Denied::Caller(_))
        ));
    }

    #[tokio::test]
    async fn without_access_everybody_may_ask() {
        let door = Door::new(Keys::Environment, None, &snapshot(None));
        assert_eq!(door.check(&HeaderMap::new(), None).await, Ok(()));
    }
}
