//! ServiceAccount tokens, verified offline against the keys that the API server publishes: no cluster-wide right is needed.

use std::{fs, path::Path, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, errors::ErrorKind};
use kube::Client;
use serde::Deserialize;

use super::{Denied, published::Published};

/// Clocks of two machines may differ by so much, seconds.
const LEEWAY: u64 = 30;
/// What the API server signs with, of what can be verified here: never a symmetric algorithm, never none.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::ES384];
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
#[derive(Debug)]
pub struct Verifier {
    issuer: String,
    published: Arc<Published>,
}

impl Verifier {
    /// A verifier for tokens of the issuer of the own one.
    pub fn in_pod(client: Client) -> Result<Self, TokenError> {
        let token = fs::read_to_string(Path::new(OWN_TOKEN)).map_err(TokenError::OwnToken)?;
        let issuer = issuer_of(token.trim()).ok_or(TokenError::NoIssuer)?;
        Ok(Self::new(client, issuer))
    }

    /// A verifier for tokens of an issuer.
    #[must_use]
    pub fn new(client: Client, issuer: String) -> Self {
        Self {
            issuer,
            published: Arc::new(Published::new(client)),
        }
    }

    /// Checks signature, issuer, expiry and audience; returns the subject.
    pub async fn verify(&self, token: &str, audiences: &[String]) -> Result<String, Denied> {
        let header = decode_header(token).map_err(|_| Denied::Caller("the token is no JWT".into()))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(Denied::Caller(format!(
                "the token is signed with {:?}, not RS256, ES256 or ES384",
                header.alg
            )));
        }
        let id = header
            .kid
            .ok_or_else(|| Denied::Caller("the token names no key".into()))?;
        let key = self.published.key(&id).await?;
        subject(token, header.alg, &key, &self.issuer, audiences)
    }
}

fn subject(
    token: &str,
    algorithm: Algorithm,
    key: &DecodingKey,
    issuer: &str,
    audiences: &[String],
) -> Result<String, Denied> {
    let mut validation = Validation::new(algorithm);
    validation.set_audience(audiences);
    validation.set_issuer(&[issuer]);
    validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
    validation.validate_nbf = true;
    validation.leeway = LEEWAY;
    match decode::<Claims>(token, key, &validation) {
        Ok(claims) => Ok(claims.claims.sub),
        // The audience is the last that is looked at: all else about the token is good.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidAudience) => {
            Err(Denied::Forbidden("the token is for another audience".into()))
        }
        Err(error) => Err(Denied::Caller(format!("the token is refused: {error}"))),
    }
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

#[cfg(test)]
pub mod tests;
