//! ServiceAccount tokens, verified offline against the keys that the API server publishes: no cluster-wide right is needed.

use std::{fs, path::Path, time::Duration};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Request;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{Jwk, JwkSet},
};
use kube::Client;
use serde::Deserialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tracing::warn;

use super::Denied;

const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// A token with an unknown key id makes us fetch keys, but not more often than this.
const REFETCH: Duration = Duration::from_secs(10);
/// After a fetch that failed the next one is made no sooner.
const RETRY: Duration = Duration::from_secs(1);
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
    fetched: Mutex<Option<Fetched>>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// The last fetch of the keys that came to an end.
#[derive(Clone, Copy, Debug)]
struct Fetched {
    at: Instant,
    succeeded: bool,
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
        self.refresh(id).await?;
        let found = self.keys.load().find(id).cloned();
        found.ok_or_else(|| Denied::Caller("the token is signed with a key that the cluster does not publish".into()))
    }

    /// One fetch at a time: who comes meanwhile waits for it, and a fetch that was given up counts for nothing.
    async fn refresh(&self, id: &str) -> Result<(), Denied> {
        let mut last = self.fetched.lock().await;
        match *last {
            _ if self.keys.load().find(id).is_some() => Ok(()),
            Some(Fetched { at, succeeded: true }) if at.elapsed() < REFETCH => Ok(()),
            Some(Fetched { at, succeeded: false }) if at.elapsed() < RETRY => {
                Err(Denied::Ourselves("the cluster's token keys cannot be fetched".into()))
            }
            _ => {
                let result = self.fetch().await;
                *last = Some(Fetched {
                    at: Instant::now(),
                    succeeded: result.is_ok(),
                });
                result
            }
        }
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

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use bytes::Bytes;
    use http::Response;
    use http_body_util::Full;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
    };
    use serde_json::{Value, json};

    use super::*;

    /// A cluster that publishes one key and counts who asks.
    struct Cluster {
        signer: EncodingKey,
        verifier: Verifier,
        asked: Arc<AtomicUsize>,
    }

    fn cluster() -> Cluster {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let encoded = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
        let key = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k1", "x": encoded(x), "y": encoded(y)});
        let published = json!({"keys": [key]}).to_string();
        let asked = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&asked);
        let api = tower::service_fn(move |request: Request<kube::client::Body>| {
            assert_eq!(request.uri().path(), "/openid/v1/jwks");
            counter.fetch_add(1, Ordering::Relaxed);
            let response = Response::new(Full::new(Bytes::from(published.clone())));
            async move { Ok::<_, std::convert::Infallible>(response) }
        });
        let verifier = Verifier {
            client: Client::new(api, "default"),
            issuer: "https://kubernetes.default.svc".into(),
            keys: ArcSwap::from_pointee(JwkSet { keys: Vec::new() }),
            fetched: Mutex::new(None),
        };
        let signer = EncodingKey::from_ec_der(pkcs8.as_ref());
        Cluster {
            signer,
            verifier,
            asked,
        }
    }

    fn claims() -> Value {
        json!({
            "iss": "https://kubernetes.default.svc", "aud": ["peer"], "sub": "system:serviceaccount:prod:assistant",
            "exp": jsonwebtoken::get_current_timestamp() + 600,
        })
    }

    impl Cluster {
        fn token(&self, kid: &str, claims: &Value) -> String {
            let header = Header {
                kid: Some(kid.into()),
                ..Header::new(Algorithm::ES256)
            };
            encode(&header, claims, &self.signer).unwrap()
        }

        async fn verify(&self, token: &str) -> Result<String, Denied> {
            self.verifier.verify(token, &["peer".to_owned()]).await
        }
    }

    #[tokio::test]
    async fn a_good_token_tells_its_subject_and_keys_are_fetched_once() {
        let cluster = cluster();
        for _ in 0..3 {
            let token = cluster.token("k1", &claims());
            assert_eq!(
                cluster.verify(&token).await.unwrap(),
                "system:serviceaccount:prod:assistant"
            );
        }
        assert_eq!(cluster.asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn every_claim_counts() {
        let cluster = cluster();
        for (claim, value) in [
            ("iss", json!("https://evil.example")),
            ("aud", json!(["other"])),
            ("aud", Value::Null),
            ("exp", json!(jsonwebtoken::get_current_timestamp() - 600)),
            ("exp", Value::Null),
            ("nbf", json!(jsonwebtoken::get_current_timestamp() + 600)),
            ("sub", Value::Null),
        ] {
            let mut wrong = claims();
            wrong[claim] = value.clone();
            if value.is_null() {
                wrong.as_object_mut().unwrap().remove(claim);
            }
            let denied = cluster.verify(&cluster.token("k1", &wrong)).await;
            assert!(matches!(denied, Err(Denied::Caller(_))), "{claim} {value}");
        }
    }

    #[tokio::test]
    async fn strangers_signatures_and_algorithms_are_refused() {
        let (ours, theirs) = (cluster(), cluster());
        let stolen = theirs.token("k1", &claims());
        let symmetric = encode(
            &Header {
                kid: Some("k1".into()),
                ..Header::default()
            },
            &claims(),
            &EncodingKey::from_secret(b"k"),
        );
        let (head, _) = ours
            .token("k1", &claims())
            .rsplit_once('.')
            .map(|(h, s)| (h.to_owned(), s.to_owned()))
            .unwrap();
        for token in [
            stolen,
            symmetric.unwrap(),
            format!("{head}."),
            "no.jwt.here".into(),
            String::new(),
        ] {
            assert!(matches!(ours.verify(&token).await, Err(Denied::Caller(_))), "{token}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_keys_are_fetched_but_not_for_every_token() {
        let cluster = cluster();
        for _ in 0..5 {
            let denied = cluster.verify(&cluster.token("k2", &claims())).await;
            assert!(matches!(denied, Err(Denied::Caller(_))));
        }
        assert_eq!(cluster.asked.load(Ordering::Relaxed), 1);
        tokio::time::advance(REFETCH).await;
        let _ = cluster.verify(&cluster.token("k2", &claims())).await;
        assert_eq!(cluster.asked.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_issuer_is_that_of_the_own_token() {
        let token = format!("e30.{}.x", URL_SAFE_NO_PAD.encode(r#"{"iss":"https://issuer"}"#));
        assert_eq!(issuer_of(&token).as_deref(), Some("https://issuer"));
        assert_eq!(issuer_of("nonsense"), None);
    }
}
