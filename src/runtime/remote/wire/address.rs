//! Where a provider's API takes an operation.

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Dialect, Inexpressible, gemini};
use crate::{api::RemoteBackend, runtime::request::head::Operation};

/// What a path segment may hold as it is (RFC 3986 unreserved, and `/` of names such as `tunedModels/x`).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');
/// The version of Azure's API when the spec names none; it has everything that is translated here.
const AZURE_VERSION: &str = "2024-10-21";

/// An operation has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// The provider has no such operation.
    #[error(transparent)]
    Inexpressible(#[from] Inexpressible),
    /// The endpoint is no URL, which the schema excludes.
    #[error("the endpoint {0} is no address")]
    BadEndpoint(String),
}

type Address = Result<Uri, NoAddress>;

/// The address of every operation, made once a spec.
#[derive(Clone, Debug)]
pub struct Addresses {
    chat: Address,
    chat_stream: Address,
    completions: Address,
    embeddings: Address,
}

impl Addresses {
    /// Of a backend.
    #[must_use]
    pub fn new(spec: &RemoteBackend) -> Self {
        let address = |operation, stream| {
            let text = address(spec, operation, stream)?;
            text.parse().map_err(|_| NoAddress::BadEndpoint(spec.endpoint.clone()))
        };
        Self {
            chat: address(Operation::Chat, false),
            chat_stream: address(Operation::Chat, true),
            completions: address(Operation::Completions, false),
            embeddings: address(Operation::Embeddings, false),
        }
    }

    /// Of an operation.
    pub const fn of(&self, operation: Operation, stream: bool) -> Result<&Uri, &NoAddress> {
        let found = match (operation, stream) {
            (Operation::Chat, false) => &self.chat,
            (Operation::Chat, true) => &self.chat_stream,
            (Operation::Completions, _) => &self.completions,
            (Operation::Embeddings, _) => &self.embeddings,
        };
        found.as_ref()
    }
}

fn address(spec: &RemoteBackend, operation: Operation, stream: bool) -> Result<String, NoAddress> {
    let base = spec.endpoint.trim_end_matches('/');
    let model = utf8_percent_encode(&spec.model, ESCAPED);
    Ok(match Dialect::of(spec.provider) {
        Dialect::OpenAi => format!("{base}{}", operation.path()),
        Dialect::Azure => azure(spec, base, operation),
        // The route for what Anthropic does not have is refused by the translation, with the reason.
        Dialect::Anthropic => format!("{}/messages", versioned(base, "v1")),
        Dialect::Gemini => {
            let method = gemini::method(operation, stream, is_vertex(&spec.endpoint))?;
            let folder = if spec.model.contains('/') { "" } else { "models/" };
            format!("{}/{folder}{model}{method}", versioned(base, "v1beta"))
        }
    })
}

/// A bare host gets the API's version; an endpoint with a path is taken as it is.
fn versioned(base: &str, version: &str) -> String {
    let (_, host_and_path) = base.split_once("://").unwrap_or(("", base));
    if host_and_path.contains('/') {
        base.to_owned()
    } else {
        format!("{base}/{version}")
    }
}

/// Azure's API of version 1 takes the deployment as `model`; the older ones have it in the path.
fn azure(spec: &RemoteBackend, base: &str, operation: Operation) -> String {
    let version = spec.api_version.as_deref();
    if base.ends_with("/openai/v1") {
        let query = version.map(|v| format!("?api-version={v}")).unwrap_or_default();
        return format!("{base}{}{query}", operation.path());
    }
    let base = base.strip_suffix("/openai").unwrap_or(base);
    let deployment = utf8_percent_encode(&spec.model, ESCAPED);
    let version = version.unwrap_or(AZURE_VERSION);
    format!(
        "{base}/openai/deployments/{deployment}{}?api-version={version}",
        operation.path()
    )
}

/// Vertex has the project in its path, AI Studio has none.
#[must_use]
pub fn is_vertex(endpoint: &str) -> bool {
    endpoint.contains("/projects/")
        || endpoint.contains("/publishers/")
        || endpoint.contains("aiplatform.googleapis.com")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn addresses(provider: &str, endpoint: &str, model: &str, version: Option<&str>) -> Addresses {
        let spec = json!({"provider": provider, "endpoint": endpoint, "model": model, "apiVersion": version});
        Addresses::new(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn every_provider_has_its_paths() {
        let vertex =
            "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/europe-west4/publishers/google";
        for (provider, endpoint, model, version, expected) in [
            (
                "OpenAI",
                "https://api.openai.com/v1/",
                "gpt",
                None,
                "https://api.openai.com/v1/chat/completions".to_owned(),
            ),
            (
                "Anthropic",
                "https://api.anthropic.com",
                "c",
                None,
                "https://api.anthropic.com/v1/messages".to_owned(),
            ),
            (
                "Anthropic",
                "https://gw/anthropic/v1",
                "c",
                None,
                "https://gw/anthropic/v1/messages".to_owned(),
            ),
            (
                "AzureOpenAI",
                "https://r.openai.azure.com",
                "my gpt",
                None,
                format!(
                    "https://r.openai.azure.com/openai/deployments/my%20gpt/chat/completions?api-version={AZURE_VERSION}"
                ),
            ),
            (
                "AzureOpenAI",
                "https://r.openai.azure.com/openai/v1",
                "gpt",
                Some("preview"),
                "https://r.openai.azure.com/openai/v1/chat/completions?api-version=preview".to_owned(),
            ),
        ] {
            let found = addresses(provider, endpoint, model, version);
            assert_eq!(
                found.of(Operation::Chat, false).unwrap(),
                &expected.parse::<Uri>().unwrap()
            );
        }
        let gemini = addresses("Gemini", "https://generativelanguage.googleapis.com", "gemini-3", None);
        let stream = gemini.of(Operation::Chat, true).unwrap().to_string();
        assert_eq!(
            stream,
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-3:streamGenerateContent?alt=sse"
        );
        let on_vertex = addresses("Gemini", vertex, "gemini-3", None);
        let whole = on_vertex.of(Operation::Chat, false).unwrap().to_string();
        assert_eq!(whole, format!("{vertex}/models/gemini-3:generateContent"));
    }

    #[test]
    fn what_gemini_does_not_have_is_said() {
        let gemini = addresses("Gemini", "https://generativelanguage.googleapis.com", "g", None);
        assert!(matches!(
            gemini.of(Operation::Completions, false),
            Err(NoAddress::Inexpressible(_))
        ));
    }
}
