//! A cluster that signs and publishes, and tokens of every wrong kind.

#![allow(
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    reason = "helpers of tests, which fail by panicking"
)]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use jsonwebtoken::{EncodingKey, Header, encode};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    super::published::{FRESH, REFETCH},
    *,
};

const ISSUER: &str = "https://kubernetes.default.svc";

/// One signing key and what is published of it.
pub struct Signer {
    key: EncodingKey,
    id: &'static str,
    published: Value,
}

/// A new key.
pub fn signer(id: &'static str) -> Signer {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let encoded = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    Signer {
        key: EncodingKey::from_ec_der(pkcs8.as_ref()),
        id,
        published: json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id, "x": encoded(x), "y": encoded(y)}),
    }
}

impl Signer {
    /// A token.
    pub fn sign(&self, claims: &Value) -> String {
        let header = Header {
            kid: Some(self.id.into()),
            ..Header::new(Algorithm::ES256)
        };
        encode(&header, claims, &self.key).unwrap()
    }
}

/// A cluster that publishes keys, counts who asks, and may be away.
pub struct Cluster {
    /// Verifies against it.
    pub verifier: Arc<Verifier>,
    keys: Arc<Mutex<Option<Vec<Value>>>>,
    asked: Arc<AtomicUsize>,
}

/// A cluster that publishes these.
pub fn cluster(signers: &[&Signer]) -> Cluster {
    let keys = Arc::new(Mutex::new(None));
    let asked = Arc::<AtomicUsize>::default();
    let (counter, published) = (Arc::clone(&asked), Arc::clone(&keys));
    let api = tower::service_fn(move |request: Request<kube::client::Body>| {
        assert_eq!(request.uri().path(), "/openid/v1/jwks");
        counter.fetch_add(1, Ordering::Relaxed);
        let (status, body) = match &*published.lock().unwrap() {
            Some(keys) => (StatusCode::OK, json!({"keys": keys}).to_string()),
            None => (StatusCode::SERVICE_UNAVAILABLE, "{}".to_owned()),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let cluster = Cluster {
        verifier: Arc::new(Verifier::new(Client::new(api, "default"), ISSUER.into())),
        keys,
        asked,
    };
    cluster.publish(signers);
    cluster
}

impl Cluster {
    fn publish(&self, signers: &[&Signer]) {
        let unknown =
            json!({"kty": "EC", "crv": "P-521", "alg": "ES512", "use": "sig", "kid": "other", "x": "AA", "y": "AA"});
        let keys = signers.iter().map(|signer| signer.published.clone());
        *self.keys.lock().unwrap() = Some(std::iter::once(unknown).chain(keys).collect());
    }

    fn go_away(&self) {
        *self.keys.lock().unwrap() = None;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    async fn verify(&self, token: &str) -> Result<String, Denied> {
        self.verifier.verify(token, &["peer".to_owned()]).await
    }
}

/// Claims of a good token.
pub fn claims(audience: &str, subject: &str) -> Value {
    json!({"iss": ISSUER, "aud": [audience], "sub": subject, "exp": jsonwebtoken::get_current_timestamp() + 600})
}

fn good() -> Value {
    claims("peer", "system:serviceaccount:prod:assistant")
}

#[tokio::test]
async fn a_good_token_tells_its_subject_and_keys_are_fetched_once() {
    let signer = signer("k1");
    let cluster = cluster(&[&signer]);
    for _ in 0..3 {
        let subject = cluster.verify(&signer.sign(&good())).await;
        assert_eq!(subject.unwrap(), "system:serviceaccount:prod:assistant");
    }
    assert_eq!(cluster.asked(), 1);
}

#[tokio::test]
async fn every_claim_counts() {
    let signer = signer("k1");
    let cluster = cluster(&[&signer]);
    let now = jsonwebtoken::get_current_timestamp();
    for (claim, value, reason) in [
        ("iss", json!("https://evil.example"), "invalid"),
        ("iss", Value::Null, "invalid"),
        ("aud", json!(["other"]), "forbidden"),
        ("aud", Value::Null, "invalid"),
        ("exp", json!(now - 40), "invalid"),
        ("exp", Value::Null, "invalid"),
        ("nbf", json!(now + 40), "invalid"),
        ("sub", Value::Null, "invalid"),
    ] {
        let mut wrong = good();
        wrong[claim] = value.clone();
        if value.is_null() {
            wrong.as_object_mut().unwrap().remove(claim);
        }
        let denied = cluster.verify(&signer.sign(&wrong)).await.unwrap_err();
        println!("{claim} = {value}: {} ({denied})", denied.reason());
        assert_eq!(denied.reason(), reason, "{claim} {value}");
    }
    for (claim, value) in [("exp", now - 20), ("nbf", now + 20)] {
        let mut skewed = good();
        skewed[claim] = json!(value);
        assert!(
            cluster.verify(&signer.sign(&skewed)).await.is_ok(),
            "clocks differ: {claim}"
        );
    }
    let mut both = good();
    both["aud"] = json!(["other"]);
    both["exp"] = json!(now - 600);
    assert_eq!(
        cluster.verify(&signer.sign(&both)).await.unwrap_err().reason(),
        "invalid"
    );
}

#[tokio::test]
async fn strangers_signatures_and_algorithms_are_refused() {
    let (ours, theirs) = (signer("k1"), signer("k1"));
    let cluster = cluster(&[&ours]);
    let symmetric = Header {
        kid: Some("k1".into()),
        ..Header::default()
    };
    let symmetric = encode(&symmetric, &good(), &EncodingKey::from_secret(b"k")).unwrap();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"k1"}"#);
    let claims = URL_SAFE_NO_PAD.encode(good().to_string());
    let signed = ours.sign(&good());
    let (head, _) = signed.rsplit_once('.').unwrap();
    let mut forged = good();
    forged["sub"] = json!("system:serviceaccount:prod:other");
    let forged = URL_SAFE_NO_PAD.encode(forged.to_string());
    let parts: Vec<_> = signed.split('.').collect();
    for token in [
        theirs.sign(&good()),
        symmetric,
        format!("{none}.{claims}."),
        format!("{head}."),
        format!("{}.{forged}.{}", parts[0], parts[2]),
        "no.jwt.here".into(),
        String::new(),
    ] {
        assert!(
            matches!(cluster.verify(&token).await, Err(Denied::Caller(_))),
            "{token}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_keys_are_fetched_but_not_for_every_token() {
    let (known, stranger) = (signer("k1"), signer("k2"));
    let cluster = cluster(&[&known]);
    for _ in 0..500 {
        let denied = cluster.verify(&stranger.sign(&good())).await;
        assert!(matches!(denied, Err(Denied::Caller(_))));
    }
    assert_eq!(cluster.asked(), 1, "500 tokens of a stranger");
    tokio::time::advance(REFETCH).await;
    let _ = cluster.verify(&stranger.sign(&good())).await;
    assert_eq!(cluster.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rotation_is_followed_and_a_withdrawn_key_refused() {
    let (old, new) = (signer("k1"), signer("k2"));
    let cluster = cluster(&[&old]);
    assert!(cluster.verify(&old.sign(&good())).await.is_ok());
    cluster.publish(&[&old, &new]);
    tokio::time::advance(REFETCH).await;
    assert!(
        cluster.verify(&new.sign(&good())).await.is_ok(),
        "the new key is fetched when it is met"
    );
    assert!(cluster.verify(&old.sign(&good())).await.is_ok(), "both are published");
    cluster.publish(&[&new]);
    let withdrawn = Instant::now();
    while cluster.verify(&old.sign(&good())).await.is_ok() {
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    println!(
        "a withdrawn key is refused after {:?}, {} fetches in all",
        withdrawn.elapsed(),
        cluster.asked()
    );
    assert!(withdrawn.elapsed() <= FRESH + std::time::Duration::from_secs(2));
    assert!(cluster.verify(&new.sign(&good())).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn without_the_api_server_known_keys_still_open_and_unknown_ones_are_not_the_callers_fault() {
    let (known, unknown) = (signer("k1"), signer("k2"));
    let cluster = cluster(&[&known]);
    assert!(cluster.verify(&known.sign(&good())).await.is_ok());
    cluster.go_away();
    for _ in 0..100 {
        tokio::time::advance(std::time::Duration::from_secs(60)).await;
        assert!(cluster.verify(&known.sign(&good())).await.is_ok());
        tokio::task::yield_now().await;
    }
    println!("100 minutes without the API server: {} fetches", cluster.asked());
    assert!(cluster.asked() > 10);
    let denied = cluster.verify(&unknown.sign(&good())).await.unwrap_err();
    assert_eq!(denied.reason(), "unavailable");
}

#[test]
fn the_issuer_is_that_of_the_own_token() {
    let token = format!("e30.{}.x", URL_SAFE_NO_PAD.encode(r#"{"iss":"https://issuer"}"#));
    assert_eq!(issuer_of(&token).as_deref(), Some("https://issuer"));
    assert_eq!(issuer_of("nonsense"), None);
}
