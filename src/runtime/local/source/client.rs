//! Requests for files: redirects are followed, and a token is shown to the hub alone.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use secrecy::SecretString;
use tokio::time::timeout;

use super::{
    address::{follow, same_origin, shown},
    error::SourceError,
};
use crate::{
    api::SecretKeyRef,
    policy::reach::AllowedAddresses,
    runtime::remote::{
        classify::asked_wait,
        connect::{Reach, refused_address},
        session::{HttpClient, TlsError, bearer, download_client},
    },
};

/// Redirects of one request.
const REDIRECTS: usize = 5;
/// Bytes that the hub's list of a repository may have.
const LISTING: usize = 64 * 1024 * 1024;
/// Characters of what a server says that are repeated.
const SAID: usize = 200;

/// How long a server may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To a connection.
    pub connect: Duration,
    /// From the request to the head of the answer, and between two pieces of a body.
    pub silence: Duration,
}

/// A token, and where it came from.
#[derive(Clone, Debug)]
pub struct Token {
    /// It.
    pub value: SecretString,
    /// Its place.
    pub secret: SecretKeyRef,
}

/// What a body is wanted from on.
#[derive(Clone, Copy, Debug)]
pub struct From<'a> {
    /// The first byte.
    pub start: u64,
    /// The version that was begun with, if the server named it.
    pub version: Option<&'a HeaderValue>,
}

/// A client for one source.
#[derive(Clone)]
pub struct Client {
    http: HttpClient,
    patience: Patience,
    /// Shown to this origin only.
    token: Option<(Uri, Arc<Token>)>,
}

impl Client {
    /// A client that dials only what `allowed` lets it.
    pub fn new(allowed: AllowedAddresses, patience: Patience, token: Option<(Uri, Token)>) -> Result<Self, TlsError> {
        Ok(Self {
            http: download_client(patience.connect, Reach::provider(allowed))?,
            patience,
            token: token.map(|(origin, token)| (origin, Arc::new(token))),
        })
    }

    /// The whole of a small answer.
    pub async fn listing(&self, uri: &Uri, what: &str) -> Result<Bytes, SourceError> {
        let answer = self.get(uri, what, None).await?;
        let body = Limited::new(answer.into_body(), LISTING).collect();
        match timeout(self.patience.silence, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) => Err(interrupted(what, format!("the answer was cut: {error}"))),
            Err(_) => Err(self.silent(what)),
        }
    }

    /// The answer with a body, 200 or 206.
    pub async fn get(&self, uri: &Uri, what: &str, from: Option<From<'_>>) -> Result<Response<Incoming>, SourceError> {
        let mut at = uri.clone();
        for _ in 0..=REDIRECTS {
            let answer = self.ask(&at, what, from).await?;
            let Some(location) = location(&answer) else {
                return self.judge(answer, &at, what);
            };
            at = follow(&at, &location).ok_or_else(|| SourceError::Redirect {
                what: what.to_owned(),
                why: "redirected to what is no http or https address, or from https to http".to_owned(),
            })?;
        }
        Err(SourceError::Redirect {
            what: what.to_owned(),
            why: format!("more than {REDIRECTS} redirects"),
        })
    }

    async fn ask(&self, uri: &Uri, what: &str, from: Option<From<'_>>) -> Result<Response<Incoming>, SourceError> {
        let request = self.request(uri, from).map_err(|error| SourceError::Answer {
            what: what.to_owned(),
            why: error.to_string(),
        })?;
        match timeout(self.patience.silence, self.http.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => match refused_address(&error) {
                Some(refused) => Err(refused.clone().into()),
                None => Err(interrupted(
                    what,
                    format!("no answer of {}: {}", shown(uri), causes(&error)),
                )),
            },
            Err(_) => Err(self.silent(what)),
        }
    }

    fn request(&self, uri: &Uri, from: Option<From<'_>>) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::get(uri)
            .header(
                header::USER_AGENT,
                concat!("inference-operator/", env!("CARGO_PKG_VERSION")),
            )
            // A range of compressed bytes is none of the file's.
            .header(header::ACCEPT_ENCODING, "identity");
        let token = self.token.as_ref().filter(|(origin, _)| same_origin(origin, uri));
        if let Some(value) = token.and_then(|(_, token)| bearer(&token.value)) {
            request = request.header(header::AUTHORIZATION, value);
        }
        if let Some(From { start, version }) = from {
            request = request.header(header::RANGE, format!("bytes={start}-"));
            if let Some(version) = version {
                request = request.header(header::IF_RANGE, version);
            }
        }
        request.body(Full::default())
    }

    /// Machine fields first, then the status (design section 5).
    fn judge(&self, answer: Response<Incoming>, uri: &Uri, what: &str) -> Result<Response<Incoming>, SourceError> {
        let status = answer.status();
        if matches!(
            status,
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE
        ) {
            return Ok(answer);
        }
        let (code, said) = (
            text(answer.headers(), "x-error-code"),
            text(answer.headers(), "x-error-message"),
        );
        let absent = matches!(code.as_str(), "RepoNotFound" | "RevisionNotFound" | "EntryNotFound");
        let what = what.to_owned();
        Err(match status.as_u16() {
            // Whoever shows no token is told of a private repository that he must show one, and of none the same.
            401 if absent => SourceError::Refused {
                what,
                status: 401,
                said,
                secret: self.secret(),
            },
            _ if absent => SourceError::NotFound { what, said },
            401 | 403 => SourceError::Refused {
                what,
                status: status.as_u16(),
                said,
                secret: self.secret(),
            },
            404 | 410 => SourceError::NotFound { what, said },
            408 | 425 | 429 | 500..=599 => SourceError::Interrupted {
                what,
                why: format!("{} answers with status {status}", shown(uri)),
                wait: asked_wait(answer.headers()),
            },
            _ => SourceError::Answer {
                what,
                why: format!("{} answers with status {status}", shown(uri)),
            },
        })
    }

    fn secret(&self) -> Option<SecretKeyRef> {
        self.token.as_ref().map(|(_, token)| token.secret.clone())
    }

    /// Nothing came for too long.
    pub fn silent(&self, what: &str) -> SourceError {
        interrupted(
            what,
            format!("nothing came for {} s", self.patience.silence.as_secs_f32()),
        )
    }

    /// How long a body may be silent.
    pub const fn silence(&self) -> Duration {
        self.patience.silence
    }
}

/// Worth another try.
pub fn interrupted(what: &str, why: String) -> SourceError {
    SourceError::Interrupted {
        what: what.to_owned(),
        why,
        wait: None,
    }
}

/// hyper's client says only that it failed; the causes say why.
fn causes(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest.to_string()
}

fn location(answer: &Response<Incoming>) -> Option<String> {
    let moved = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    moved.then(|| text(answer.headers(), header::LOCATION.as_str()))
}

/// Visible ASCII alone, and not too much of it unless it is an address.
fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let most = if name == header::LOCATION.as_str() {
        usize::MAX
    } else {
        SAID
    };
    value.chars().take(most).collect()
}
