//! Google's credentials: an API key, an access token, or a service account that access tokens are minted for.

mod token;

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Uri;
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
pub use token::{TokenError, TokenSource};

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Seconds that an assertion is valid; Google allows no more.
const LIFETIME: i64 = 3_600;
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

/// What a Secret holds.
#[derive(Debug)]
pub enum GoogleKey {
    /// Sent as `x-goog-api-key`.
    ApiKey(SecretString),
    /// An OAuth access token, sent as a bearer token until it expires.
    AccessToken(SecretString),
    /// Access tokens come from a [`TokenSource`].
    ServiceAccount(Box<ServiceAccount>),
}

/// The JSON of a service account is wrong. No value of it is in the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GoogleKeyError {
    /// It begins as JSON and is none, or a field has another type.
    #[error("the key begins with {{ but is no JSON of a service account: line {line} column {column} is wrong")]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// A field is missing or empty.
    #[error("the service account has no {0}: use the file that `gcloud iam service-accounts keys create` writes")]
    Missing(&'static str),
    /// Credentials of another type.
    #[error("type is not service_account: other credentials cannot be used")]
    Type,
    /// The key cannot be used to sign.
    #[error("private_key is no RSA key of at least 2048 bits in PEM")]
    PrivateKey,
    /// Tokens would be asked for in the clear.
    #[error("token_uri must be an https:// address")]
    TokenUri,
}

/// A service account and its key.
pub struct ServiceAccount {
    email: String,
    key_id: Option<String>,
    key: RsaKeyPair,
    token_uri: Uri,
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccount")
            .field("email", &self.email)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "type")]
    kind: Option<String>,
    client_email: Option<String>,
    #[serde(default, deserialize_with = "maybe_secret")]
    private_key: Option<SecretString>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'static str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

impl GoogleKey {
    /// Tells by its form what a key is.
    pub fn read(key: &SecretString) -> Result<Self, GoogleKeyError> {
        let text = key.expose_secret().trim();
        if text.starts_with('{') {
            return ServiceAccount::read(text).map(|account| Self::ServiceAccount(Box::new(account)));
        }
        let secret = SecretString::from(text);
        Ok(if text.starts_with("ya29.") {
            Self::AccessToken(secret)
        } else {
            Self::ApiKey(secret)
        })
    }
}

impl ServiceAccount {
    fn read(text: &str) -> Result<Self, GoogleKeyError> {
        let file: File = serde_json::from_str(text).map_err(|error| GoogleKeyError::Json {
            line: error.line(),
            column: error.column(),
        })?;
        if present("type", file.kind)? != "service_account" {
            return Err(GoogleKeyError::Type);
        }
        let key = file.private_key.ok_or(GoogleKeyError::Missing("private_key"))?;
        Ok(Self {
            email: present("client_email", file.client_email)?,
            key_id: file.private_key_id,
            key: key_pair(&key).ok_or(GoogleKeyError::PrivateKey)?,
            token_uri: token_uri(file.token_uri.as_deref().unwrap_or(TOKEN_URI)).ok_or(GoogleKeyError::TokenUri)?,
        })
    }

    /// A signed assertion (RFC 7523) to exchange for an access token. `now` is seconds since 1970 UTC.
    fn assertion(&self, now: i64) -> Option<SecretString> {
        let header = Header {
            alg: "RS256",
            typ: "JWT",
            kid: self.key_id.as_deref(),
        };
        let claims = Claims {
            iss: &self.email,
            scope: SCOPE,
            aud: &self.token_uri.to_string(),
            iat: now,
            exp: now.saturating_add(LIFETIME),
        };
        let mut token = format!("{}.{}", part(&header)?, part(&claims)?);
        let mut signature = vec![0; self.key.public().modulus_len()];
        let random = SystemRandom::new();
        self.key
            .sign(&RSA_PKCS1_SHA256, &random, token.as_bytes(), &mut signature)
            .ok()?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&signature, &mut token);
        Some(token.into())
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

fn maybe_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}

fn part(value: &impl Serialize) -> Option<String> {
    serde_json::to_vec(value).ok().map(|json| URL_SAFE_NO_PAD.encode(json))
}

fn present(name: &'static str, value: Option<String>) -> Result<String, GoogleKeyError> {
    value.filter(|v| !v.is_empty()).ok_or(GoogleKeyError::Missing(name))
}

fn key_pair(pem: &SecretString) -> Option<RsaKeyPair> {
    match PrivateKeyDer::from_pem_slice(pem.expose_secret().as_bytes()).ok()? {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok(),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok(),
        _ => None,
    }
}

/// An address that a key may be used with: `https`, or this machine.
fn token_uri(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let host = uri.host()?;
    let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let safe = match uri.scheme_str()? {
        "https" => true,
        "http" => local,
        _ => false,
    };
    safe.then_some(uri)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const PEM: &str = include_str!("../../../tests/data/throwaway-test-rsa-2048.pem");

    fn file() -> Value {
        json!({"type": "service_account", "client_email": "a@b.iam.gserviceaccount.com", "private_key": PEM,
            "private_key_id": "k1", "token_uri": "https://oauth2.googleapis.com/token"})
    }

    fn read(file: &Value) -> Result<GoogleKey, GoogleKeyError> {
        GoogleKey::read(&file.to_string().into())
    }

    #[test]
    fn a_key_is_told_by_its_form() {
        assert!(matches!(read(&file()), Ok(GoogleKey::ServiceAccount(_))));
        assert!(
            matches!(GoogleKey::read(&" ya29.abc\n".into()), Ok(GoogleKey::AccessToken(key)) if key.expose_secret() == "ya29.abc")
        );
        assert!(
            matches!(GoogleKey::read(&"AIzaSy".into()), Ok(GoogleKey::ApiKey(key)) if key.expose_secret() == "AIzaSy")
        );
    }

    #[test]
    fn what_is_wrong_is_named_and_nothing_is_shown() {
        for (field, value, expected) in [
            ("type", Value::Null, GoogleKeyError::Missing("type")),
            ("type", json!("authorized_user"), GoogleKeyError::Type),
            ("client_email", json!(""), GoogleKeyError::Missing("client_email")),
            ("private_key", Value::Null, GoogleKeyError::Missing("private_key")),
            ("private_key", json!("hunter2"), GoogleKeyError::PrivateKey),
            (
                "token_uri",
                json!("http://oauth2.googleapis.com/token"),
                GoogleKeyError::TokenUri,
            ),
            (
                "token_uri",
                json!("http://127.0.0.1.evil.example/token"),
                GoogleKeyError::TokenUri,
            ),
        ] {
            let mut file = file();
            file[field] = value;
            assert_eq!(read(&file).unwrap_err(), expected, "{field}");
        }
        let error = GoogleKey::read(&"{\"private_key\": hunter2}".into()).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let shown = format!("{:?}", read(&file()).unwrap());
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
}
