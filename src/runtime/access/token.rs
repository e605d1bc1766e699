//! ServiceAccount tokens, verified offline against the keys that the API server publishes: no cluster-wide right is needed.

use std::{fs, path::Path, sync::Mutex, time::Duration};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Request;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{Jwk, JwkSet},
};
use kube::Client;
use serde::Deserialize;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::Denied;
use crate::runtime::sync::lock;

const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// A token with an unknown key id makes us fetch keys, but not more often than this.
const REFETCH: Duration = Duration::from_secs(10);
/// Every pod that may talk to the API server has a token of its own here; it names the issuer.
const OWN_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Why tokens cannot be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The own token cannot be read.
    #[error("cannot read the own token {OWN_TOKEN}: {0}")]
    OwnToken(std::io::Error),
    /// The own token names no issuer.
    #[error("the own token {OWN_TOKEN} names no issuer")]
    NoIssuer,
}

#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
}

/// Verifies tokens.
pub struct Verifier {
    client: Client,
    issuer: String,
    keys: ArcSwap<JwkSet>,
    fetched: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier for tokens of the issuer of the own one.
    pub fn in_pod(client: Client) -> Result<Self, TokenError> {
        let token = fs::read_to_string(Path::new(OWN_TOKEN)).map_err(TokenError::OwnToken)?;
        let issuer = issuer_of(token.trim()).ok_or(TokenError::NoIssuer)?;
        Ok(Self {
            client,
            issuer,
            keys: ArcSwap::from_pointee(JwkSet { keys: Vec::new() }),
            fetched: Mutex::new(None),
        })
    }

    /// Checks signature, issuer, expiry and audience; returns the subject.
    pub async fn verify(&self, token: &str, audiences: &[String]) -> Result<String, Denied> {
        let header = decode_header(token).map_err(|_| Denied::Caller("the token is no JWT".into()))?;
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
            return Err(Denied::Caller(format!(
                "the token is signed with {:?}, not RS256 or ES256",
                header.alg
            )));
        }
        let id = header
            .kid
            .ok_or_else(|| Denied::Caller("the token names no key".into()))?;
        let key = self.key(&id).await?;
        subject(token, header.alg, &key, &self.issuer, audiences)
    }

    async fn key(&self, id: &str) -> Result<Jwk, Denied> {
        if let Some(key) = self.keys.load().find(id) {
            return Ok(key.clone());
        }
        if self.may_fetch() {
            self.fetch().await?;
        }
        let found = self.keys.load().find(id).cloned();
        found.ok_or_else(|| Denied::Caller("the token is signed with a key that the cluster does not publish".into()))
    }

    fn may_fetch(&self) -> bool {
        let mut fetched = lock(&self.fetched);
        let may = fetched.is_none_or(|at| at.elapsed() >= REFETCH);
        if may {
            *fetched = Some(Instant::now());
        }
        may
    }

    async fn fetch(&self) -> Result<(), Denied> {
        let failed = |error: String| {
            warn!(error, "cannot fetch the cluster's token keys");
            Denied::Ourselves("the cluster's token keys cannot be fetched".into())
        };
        let request = Request::get("/openid/v1/jwks")
            .body(Vec::new())
            .map_err(|e| failed(e.to_string()))?;
        match timeout(CALL_DEADLINE, self.client.request::<JwkSet>(request)).await {
            Ok(Ok(keys)) => {
                self.keys.store(keys.into());
                Ok(())
            }
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("no answer within {CALL_DEADLINE:?}"))),
        }
    }
}

fn subject(token: &str, algorithm: Algorithm, key: &Jwk, issuer: &str, audiences: &[String]) -> Result<String, Denied> {
    let key = DecodingKey::from_jwk(key).map_err(|_| Denied::Caller("the token's key cannot be used".into()))?;
    let mut validation = Validation::new(algorithm);
    validation.set_audience(audiences);
    validation.set_issuer(&[issuer]);
    validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
    validation.validate_nbf = true;
    let claims = decode::<Claims>(token, &key, &validation)
        .map_err(|error| Denied::Caller(format!("the token is refused: {error}")))?;
    Ok(claims.claims.sub)
}

/// `iss` of the own token, which the kubelet put there: it needs no check.
fn issuer_of(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Issuer>(&payload).ok().map(|claims| claims.iss)
}
