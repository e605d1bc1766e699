//! What a provider knows us by: the headers of a session's key.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};

use super::{
    google::{GoogleKey, GoogleKeyError, TokenError, TokenSource},
    session::{HttpClient, bearer, sensitive},
};
use crate::api::RemoteProvider;

/// The version of Anthropic's API that is spoken.
const ANTHROPIC_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");
const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const API_KEY: HeaderName = HeaderName::from_static("api-key");
const GOOGLE_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// A key that its provider cannot be shown. No value of it is in the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// A file where a key is wanted.
    #[error("the key is a JSON file, which only provider Gemini takes; this one wants the key alone")]
    Json,
    /// It is no value of a header.
    #[error("the key cannot be sent in a header")]
    Header,
    /// A service account that is none.
    #[error(transparent)]
    Google(#[from] GoogleKeyError),
}

/// What goes out with every request of a session: the common headers and its key's.
#[derive(Debug)]
pub enum Credential {
    /// The same headers every time, the key among them marked sensitive.
    Fixed(HeaderMap),
    /// Access tokens of a service account, minted when they are needed.
    Google(Box<TokenSource>),
}

impl Credential {
    /// Of a provider and its key, if there is one.
    pub fn new(
        provider: RemoteProvider,
        key: Option<&SecretString>,
        client: &HttpClient,
    ) -> Result<Self, CredentialError> {
        let mut headers = common_headers();
        if provider == RemoteProvider::Anthropic {
            headers.insert(VERSION, ANTHROPIC_VERSION);
        }
        let Some(key) = key else {
            return Ok(Self::Fixed(headers));
        };
        let (name, value) = match provider {
            RemoteProvider::Gemini => match GoogleKey::read(key)? {
                GoogleKey::ApiKey(key) => (GOOGLE_KEY, sensitive(key.expose_secret())),
                GoogleKey::AccessToken(token) => (header::AUTHORIZATION, bearer(&token)),
                GoogleKey::ServiceAccount(account) => {
                    return Ok(Self::Google(Box::new(TokenSource::new(account, client.clone()))));
                }
            },
            _ if key.expose_secret().starts_with('{') => return Err(CredentialError::Json),
            RemoteProvider::Anthropic => (X_API_KEY, sensitive(key.expose_secret())),
            RemoteProvider::AzureOpenAI => (API_KEY, sensitive(key.expose_secret())),
            RemoteProvider::OpenAI | RemoteProvider::LiteLLM | RemoteProvider::OpenAICompatible => {
                (header::AUTHORIZATION, bearer(key))
            }
        };
        headers.insert(name, value.ok_or(CredentialError::Header)?);
        Ok(Self::Fixed(headers))
    }

    /// The headers of one request. Only a service account has to ask for them, once an hour.
    pub async fn headers(&self) -> Result<HeaderMap, TokenError> {
        match self {
            Self::Fixed(headers) => Ok(headers.clone()),
            Self::Google(source) => {
                let token = source.token().await?;
                let unusable = || TokenError::Refused("the access token cannot be sent in a header".into());
                let value = bearer(&token).ok_or_else(unusable)?;
                let mut headers = common_headers();
                headers.insert(header::AUTHORIZATION, value);
                Ok(headers)
            }
        }
    }
}

/// The headers of every request to a backend, with room for more.
#[must_use]
pub fn common_headers() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("inference-operator/", env!("CARGO_PKG_VERSION"))),
    );
    headers
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runtime::remote::session::client;

    fn credential(provider: RemoteProvider, key: &str) -> Result<Credential, CredentialError> {
        let client = client(Duration::from_secs(1)).unwrap();
        Credential::new(provider, Some(&SecretString::from(key)), &client)
    }

    #[test]
    fn every_provider_has_a_header_of_its_own() {
        for (provider, key, name, value) in [
            (RemoteProvider::OpenAI, "k", "authorization", "Bearer k"),
            (RemoteProvider::LiteLLM, "k", "authorization", "Bearer k"),
            (RemoteProvider::OpenAICompatible, "k", "authorization", "Bearer k"),
            (RemoteProvider::Anthropic, "k", "x-api-key", "k"),
            (RemoteProvider::AzureOpenAI, "k", "api-key", "k"),
            (RemoteProvider::Gemini, "AIza", "x-goog-api-key", "AIza"),
            (RemoteProvider::Gemini, "ya29.t", "authorization", "Bearer ya29.t"),
        ] {
            let Ok(Credential::Fixed(headers)) = credential(provider, key) else {
                panic!("{provider:?}");
            };
            assert_eq!(headers[name], value, "{provider:?}");
            assert!(headers[name].is_sensitive());
            let versions = usize::from(provider == RemoteProvider::Anthropic);
            assert_eq!(
                headers.len(),
                common_headers().len() + 1 + versions,
                "nothing else: {provider:?}"
            );
        }
    }

    #[test]
    fn a_file_is_a_key_of_gemini_alone() {
        let file = r#"{"type": "service_account"}"#;
        assert_eq!(
            credential(RemoteProvider::OpenAI, file).unwrap_err(),
            CredentialError::Json
        );
        let missing = credential(RemoteProvider::Gemini, file).unwrap_err();
        assert!(
            matches!(missing, CredentialError::Google(GoogleKeyError::Missing(_))),
            "{missing}"
        );
    }
}
