//! What a provider knows us by: the headers of a session's key.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};

use super::session::{Session, bearer};
use crate::api::RemoteProvider;

/// The version of Anthropic's API that is spoken.
const ANTHROPIC_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");
const VERSION_HEADER: HeaderName = HeaderName::from_static("anthropic-version");

/// The headers, sensitive ones marked; none without a key.
#[must_use]
pub fn headers(session: &Session, provider: RemoteProvider) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(2);
    if provider == RemoteProvider::Anthropic {
        headers.insert(VERSION_HEADER, ANTHROPIC_VERSION);
    }
    let Some(key) = &session.key else { return headers };
    let (name, value) = match provider {
        RemoteProvider::OpenAI | RemoteProvider::LiteLLM | RemoteProvider::OpenAICompatible => {
            (header::AUTHORIZATION, bearer(key))
        }
        RemoteProvider::Anthropic => (HeaderName::from_static("x-api-key"), plain(key)),
        RemoteProvider::AzureOpenAI => (HeaderName::from_static("api-key"), plain(key)),
        RemoteProvider::Gemini => (HeaderName::from_static("x-goog-api-key"), plain(key)),
    };
    if let Some(value) = value {
        headers.insert(name, value);
    }
    headers
}

fn plain(key: &SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(key.expose_secret()).ok()?;
    value.set_sensitive(true);
    Some(value)
}
