//! Access tokens of a service account: minted one at a time, kept until shortly before they expire.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{ServiceAccount, secret};
use crate::runtime::remote::session::HttpClient;

const DEADLINE: Duration = Duration::from_secs(10);
/// A token is replaced this long before it expires, or at half its life when that is shorter.
const EARLY: Duration = Duration::from_secs(300);
/// Those who waited for a mint that failed get its error, and so do those who come this soon after.
const RETRY: Duration = Duration::from_secs(1);
const LARGEST_ANSWER: usize = 64 * 1024;
/// Characters of Google's own words in an error.
const LONGEST_REASON: usize = 200;

/// Why there is no access token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Google does not accept the service account or its key: nothing but another key helps.
    #[error("Google refused the service account: {0}")]
    Refused(String),
    /// No answer, or none that could be read: it may work later.
    #[error("no access token from Google: {0}")]
    Unreachable(String),
}

/// Mints access tokens.
#[derive(Debug)]
pub struct TokenSource {
    account: Box<ServiceAccount>,
    client: HttpClient,
    minted: RwLock<Option<Minted>>,
    /// Held while a token is minted; the last failure.
    minting: Mutex<Option<(Instant, TokenError)>>,
}

#[derive(Clone, Debug)]
struct Minted {
    token: Arc<SecretString>,
    renew: Instant,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(deserialize_with = "secret")]
    access_token: SecretString,
    expires_in: u64,
}

#[derive(Deserialize)]
struct Failure {
    error: String,
    error_description: Option<String>,
}

impl TokenSource {
    /// A source that has no token yet.
    #[must_use]
    pub fn new(account: Box<ServiceAccount>, client: HttpClient) -> Self {
        Self {
            account,
            client,
            minted: RwLock::new(None),
            minting: Mutex::new(None),
        }
    }

    /// A token that is valid for a while. One caller mints, the others wait for it, each for 10 s at most.
    pub async fn token(&self) -> Result<Arc<SecretString>, TokenError> {
        if let Some(token) = self.fresh() {
            return Ok(token);
        }
        let mut failed = self.minting.lock().await;
        if let Some(token) = self.fresh() {
            return Ok(token);
        }
        if let Some((at, error)) = failed.as_ref().filter(|(at, _)| at.elapsed() < RETRY) {
            tracing::debug!(?at, "a token was not to be had a moment ago");
            return Err(error.clone());
        }
        let minted = match timeout(DEADLINE, self.mint()).await {
            Ok(minted) => minted,
            Err(_) => Err(TokenError::Unreachable(format!("no answer within {DEADLINE:?}"))),
        };
        *failed = minted.as_ref().err().map(|error| (Instant::now(), error.clone()));
        minted
    }

    fn fresh(&self) -> Option<Arc<SecretString>> {
        let minted = self.minted.read().unwrap_or_else(PoisonError::into_inner);
        let minted = minted.as_ref().filter(|minted| Instant::now() < minted.renew)?;
        Some(Arc::clone(&minted.token))
    }

    async fn mint(&self) -> Result<Arc<SecretString>, TokenError> {
        let asked = Instant::now();
        let response = self.client.request(self.request()?).await;
        let response = response.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
        let body = body.map_err(|error| TokenError::Unreachable(format!("the answer cannot be read: {error}")))?;
        let answer = read(status, &body.to_bytes())?;
        let life = Duration::from_secs(answer.expires_in);
        let minted = Minted {
            token: Arc::new(answer.access_token),
            renew: asked
                + life
                    .saturating_sub(EARLY.min(life / 2))
                    .min(Duration::from_secs(86_400)),
        };
        let token = Arc::clone(&minted.token);
        *self.minted.write().unwrap_or_else(PoisonError::into_inner) = Some(minted);
        Ok(token)
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, TokenError> {
        let unusable = || TokenError::Refused("its key cannot sign".into());
        let now = jiff::Timestamp::now().as_second();
        let assertion = self.account.assertion(now).ok_or_else(unusable)?;
        let form = format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={}",
            assertion.expose_secret()
        );
        Request::builder()
            .method(Method::POST)
            .uri(self.account.token_uri.clone())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(form))
            .map_err(|error| TokenError::Unreachable(error.to_string()))
    }
}

fn unreachable(error: &hyper_util::client::legacy::Error) -> TokenError {
    let cause = std::error::Error::source(error).map(|source| format!(": {source}"));
    TokenError::Unreachable(format!("{error}{}", cause.unwrap_or_default()))
}

/// Bodies are not shown but for the two fields of an OAuth error (RFC 6749, section 5.2).
fn read(status: StatusCode, body: &[u8]) -> Result<Answer, TokenError> {
    if status.is_success() {
        let answer = serde_json::from_slice(body);
        return answer.map_err(|_| TokenError::Unreachable("the answer is no access token".into()));
    }
    let reason = match serde_json::from_slice::<Failure>(body) {
        Ok(failure) => {
            let text = format!("{}: {}", failure.error, failure.error_description.unwrap_or_default());
            text.chars().filter(|c| !c.is_control()).take(LONGEST_REASON).collect()
        }
        Err(_) => format!("status {}", status.as_u16()),
    };
    match status.as_u16() {
        400 | 401 | 403 => Err(TokenError::Refused(reason)),
        _ => Err(TokenError::Unreachable(reason)),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use axum::{Router, extract::State, routing::post};
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
    use ring::{rsa::PublicKeyComponents, signature::KeyPair};
    use secrecy::ExposeSecret;
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    use super::*;
    use crate::runtime::remote::{google::GoogleKey, session};

    const PEM: &str = include_str!("../../../../tests/data/throwaway-test-rsa-2048.pem");

    #[derive(Clone)]
    struct Server {
        calls: Arc<AtomicUsize>,
        uri: String,
        status: StatusCode,
        reply: Value,
    }

    fn account(uri: &str) -> Box<ServiceAccount> {
        let file = json!({"type": "service_account", "client_email": "a@b.example", "private_key": PEM,
            "private_key_id": "k1", "token_uri": uri});
        match GoogleKey::read(&file.to_string().into()).unwrap() {
            GoogleKey::ServiceAccount(account) => account,
            other => panic!("{other:?}"),
        }
    }

    fn verified(assertion: &str, uri: &str) -> Value {
        let account = account(uri);
        let key = PublicKeyComponents::<Vec<u8>>::from(account.key.public_key());
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[uri]);
        validation.set_issuer(&["a@b.example"]);
        let key = DecodingKey::from_rsa_raw_components(&key.n, &key.e);
        decode::<Value>(assertion, &key, &validation).unwrap().claims
    }

    async fn answer(State(server): State<Server>, form: String) -> (StatusCode, String) {
        let number = server.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let assertion = form.split_once("&assertion=").unwrap().1;
        assert!(form.starts_with("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&"));
        let claims = verified(assertion, &server.uri);
        assert_eq!(claims["scope"], "https://www.googleapis.com/auth/cloud-platform");
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3_600);
        (
            server.status,
            server.reply.to_string().replace("NUMBER", &number.to_string()),
        )
    }

    async fn serve(status: StatusCode, reply: Value) -> (TokenSource, Arc<AtomicUsize>) {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let uri = format!("http://{}/token", listener.local_addr().unwrap());
        let calls = Arc::new(AtomicUsize::new(0));
        let server = Server {
            calls: Arc::clone(&calls),
            uri: uri.clone(),
            status,
            reply,
        };
        let router = Router::new().route("/token", post(answer)).with_state(server);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let client = session::client(Duration::from_secs(5)).unwrap();
        (TokenSource::new(account(&uri), client), calls)
    }

    #[tokio::test]
    async fn a_token_is_minted_once_and_again_before_it_expires() {
        let (source, calls) = serve(
            StatusCode::OK,
            json!({"access_token": "ya29.NUMBER", "expires_in": 3_600}),
        )
        .await;
        let tokens = futures::future::join_all((0..8).map(|_| source.token())).await;
        assert!(tokens.iter().all(|t| t.as_ref().unwrap().expose_secret() == "ya29.1"));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(3_290)).await;
        assert_eq!(source.token().await.unwrap().expose_secret(), "ya29.1");
        tokio::time::advance(Duration::from_secs(20)).await;
        tokio::time::resume();
        assert_eq!(source.token().await.unwrap().expose_secret(), "ya29.2");
        assert!(!format!("{source:?}").contains("ya29"));
    }

    #[tokio::test]
    async fn failures_are_typed_and_not_repeated_at_once() {
        let refusal = json!({"error": "invalid_grant", "error_description": "Invalid JWT Signature."});
        let (source, calls) = serve(StatusCode::BAD_REQUEST, refusal).await;
        let refused = TokenError::Refused("invalid_grant: Invalid JWT Signature.".into());
        assert_eq!(source.token().await.unwrap_err(), refused);
        assert_eq!(source.token().await.unwrap_err(), refused);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        let (source, _) = serve(StatusCode::SERVICE_UNAVAILABLE, json!({})).await;
        assert_eq!(
            source.token().await.unwrap_err(),
            TokenError::Unreachable("status 503".into())
        );
        let (source, _) = serve(StatusCode::OK, json!({"access_token": "x".repeat(LARGEST_ANSWER)})).await;
        assert!(matches!(source.token().await, Err(TokenError::Unreachable(_))));
    }
}
