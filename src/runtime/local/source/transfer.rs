//! One file: begun, cut, gone on with, verified.

use std::{path::Path, time::Duration};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{sleep, timeout};

use super::{
    client::{Client, From, interrupted},
    error::SourceError,
    part::Part,
    plan::{Wanted, check_space},
    progress::Meter,
};
use crate::policy::retry::RetryPolicy;

/// No wait between two tries is longer than a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// Tries without a new byte in between, bounded.
pub struct Tries {
    policy: RetryPolicy,
    failed: u32,
}

impl Tries {
    /// None has failed.
    pub const fn new(policy: RetryPolicy) -> Self {
        Self { policy, failed: 0 }
    }

    /// Something came: the count begins anew.
    pub const fn progressed(&mut self) {
        self.failed = 0;
    }

    /// Waits for the next try; gives `error` back when there is none.
    pub async fn next(&mut self, error: SourceError) -> Result<(), SourceError> {
        let SourceError::Interrupted { wait, .. } = &error else {
            return Err(error);
        };
        let Some(pause) = self.policy.next(self.failed, *wait, LONGEST_WAIT, rand::random()) else {
            return Err(error);
        };
        self.failed += 1;
        tracing::warn!(%error, tries = self.failed, "the download is tried again");
        sleep(pause).await;
        Ok(())
    }
}

/// Downloads files.
pub struct Transfer<'a, 'v> {
    /// Asks.
    pub client: &'a Client,
    /// How often at most.
    pub retry: RetryPolicy,
    /// Counts.
    pub meter: &'a mut Meter<'v>,
}

impl Transfer<'_, '_> {
    /// Until `wanted` is in `folder`, verified. Wrong bytes are deleted and asked for once more.
    pub async fn file(&mut self, folder: &Path, wanted: &Wanted) -> Result<(), SourceError> {
        if wanted.is_there(folder) {
            return Ok(());
        }
        match self.whole(folder, wanted).await {
            Err(error @ SourceError::Checksum { .. }) => {
                tracing::warn!(%error, "the file is downloaded once more");
                self.whole(folder, wanted).await
            }
            done => done,
        }
    }

    async fn whole(&mut self, folder: &Path, wanted: &Wanted) -> Result<(), SourceError> {
        let mut part = Part::open(folder, wanted.clone()).await?;
        let mut tries = Tries::new(self.retry);
        let mut version = None;
        // A server whose file is short, or whose ranges are wrong, brings the same bytes again and again: that is no progress.
        let mut furthest = part.length();
        loop {
            let Err(error) = self.attempt(folder, wanted, &mut part, &mut version).await else {
                break;
            };
            part.flush().await?;
            if part.length() > furthest {
                furthest = part.length();
                tries.progressed();
            }
            tries.next(error).await?;
        }
        let length = part.length();
        part.finish().await.inspect_err(|error| {
            if matches!(error, SourceError::Checksum { .. }) {
                self.meter.lose(length);
            }
        })
    }

    /// One request for what is missing. `version` is that of what is there, as the server named it.
    async fn attempt(
        &mut self,
        folder: &Path,
        wanted: &Wanted,
        part: &mut Part,
        version: &mut Option<HeaderValue>,
    ) -> Result<(), SourceError> {
        let start = part.length();
        if wanted.size == Some(start) {
            return Ok(());
        }
        let from = (start > 0).then_some(From {
            start,
            version: version.as_ref(),
        });
        let answer = self.client.get(&wanted.url, &wanted.path, from).await?;
        match Range::of(&answer, start) {
            Range::Rest => {}
            Range::Whole => self.restart(part).await?,
            // Of a size that only the checksum knows: it may be whole.
            Range::Beyond if wanted.size.is_none() => return Ok(()),
            Range::Beyond | Range::Other => {
                self.restart(part).await?;
                return Err(interrupted(
                    &wanted.path,
                    "the server sends another range than asked for".to_owned(),
                ));
            }
        }
        *version = strong_version(answer.headers());
        let rest = answer.body().size_hint().exact();
        if wanted.size.is_none() {
            self.meter
                .set(part.length(), rest.map(|rest| part.length().saturating_add(rest)));
            check_space(folder, rest.unwrap_or_default())?;
        }
        self.body(wanted, answer.into_body(), part).await
    }

    async fn restart(&mut self, part: &mut Part) -> Result<(), SourceError> {
        self.meter.lose(part.length());
        part.restart().await
    }

    async fn body(&mut self, wanted: &Wanted, mut body: Incoming, part: &mut Part) -> Result<(), SourceError> {
        loop {
            let frame = timeout(self.client.silence(), body.frame()).await;
            let frame = match frame {
                Err(_) => return Err(self.client.silent(&wanted.path)),
                Ok(Some(Err(error))) => return Err(interrupted(&wanted.path, format!("the answer was cut: {error}"))),
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => break,
            };
            let Ok(bytes) = frame.into_data() else { continue };
            part.write(&bytes).await?;
            self.meter.add(bytes.len() as u64);
            if wanted.size.is_some_and(|size| part.length() > size) {
                // The checksum will say so.
                return Ok(());
            }
        }
        match wanted.size {
            Some(size) if part.length() < size => Err(interrupted(
                &wanted.path,
                format!("the answer ended after {} of {size} bytes", part.length()),
            )),
            _ => Ok(()),
        }
    }
}

/// What an answer brings of a file that was asked for from some byte on.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// What was asked for.
    Rest,
    /// All of it: the server knows no ranges, or has another version.
    Whole,
    /// There is nothing from there on.
    Beyond,
    /// Something else.
    Other,
}

impl Range {
    fn of<B>(answer: &Response<B>, start: u64) -> Self {
        match answer.status() {
            StatusCode::RANGE_NOT_SATISFIABLE => Self::Beyond,
            StatusCode::PARTIAL_CONTENT if first_byte(answer.headers()) == Some(start) => Self::Rest,
            StatusCode::PARTIAL_CONTENT => Self::Other,
            _ => Self::Whole,
        }
    }
}

/// `Content-Range: bytes 100-199/200`.
fn first_byte(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (first, _) = range.strip_prefix("bytes ")?.split_once('-')?;
    first.trim().parse().ok()
}

/// A weak one says nothing of single bytes.
fn strong_version(headers: &HeaderMap) -> Option<HeaderValue> {
    headers
        .get(header::ETAG)
        .filter(|tag| tag.as_bytes().starts_with(b"\""))
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, range: &str) -> Response<()> {
        Response::builder()
            .status(status)
            .header(header::CONTENT_RANGE, range)
            .body(())
            .unwrap()
    }

    #[test]
    fn an_answer_is_taken_for_what_it_brings() {
        for (status, range, brings) in [
            (206, "bytes 100-199/200", Range::Rest),
            (206, "bytes 0-199/200", Range::Other),
            (206, "bytes */200", Range::Other),
            (200, "", Range::Whole),
            (416, "bytes */100", Range::Beyond),
        ] {
            assert_eq!(Range::of(&answer(status, range), 100), brings, "{status} {range}");
        }
    }

    #[test]
    fn a_weak_version_is_none() {
        let version =
            |tag: &'static str| strong_version(&HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static(tag))]));
        assert!(version("\"abc\"").is_some());
        assert!(version("W/\"abc\"").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn tries_are_bounded_and_a_byte_makes_them_new() {
        let policy = RetryPolicy {
            max_retries: 2,
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
        };
        let failure = || interrupted("m", "cut".to_owned());
        let mut tries = Tries::new(policy);
        tries.next(failure()).await.unwrap();
        tries.next(failure()).await.unwrap();
        tries.progressed();
        tries.next(failure()).await.unwrap();
        tries.next(failure()).await.unwrap();
        tries.next(failure()).await.unwrap_err();
        let hopeless = SourceError::Path("x".to_owned());
        Tries::new(policy).next(hopeless).await.unwrap_err();
    }
}
