//! The request's body, bounded.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

/// Bytes a body may have.
pub const MAX_BODY: usize = 16 * 1024 * 1024;

/// Why there is no body.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Longer than [`MAX_BODY`].
    #[error("the body is longer than {MAX_BODY} bytes")]
    TooLarge,
    /// The client stopped sending.
    #[error("the body ended early: {0}")]
    Broken(String),
}

/// Bytes beyond the limit that are still read and dropped: a client that is not listening while it sends would otherwise see a broken
/// connection instead of the answer.
const DISCARDED: usize = 4 * MAX_BODY;

/// Reads all of it.
pub async fn read<B>(body: B) -> Result<Bytes, BodyError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut body = body;
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut whole = BytesMut::with_capacity(expected.min(MAX_BODY));
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length <= MAX_BODY {
            whole.extend_from_slice(&data);
        } else if length > MAX_BODY + DISCARDED {
            break;
        }
    }
    if length > MAX_BODY {
        return Err(BodyError::TooLarge);
    }
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    #[tokio::test]
    async fn a_body_is_bounded_with_and_without_a_length() {
        let most = Bytes::from(vec![b' '; MAX_BODY]);
        assert_eq!(read(Full::new(most.clone())).await.unwrap().len(), MAX_BODY);
        let more = Bytes::from(vec![b' '; MAX_BODY + 1]);
        assert_eq!(read(Full::new(more)).await, Err(BodyError::TooLarge));
        let parts = [most, Bytes::from_static(b"!")].map(|part| Ok::<_, std::io::Error>(Frame::data(part)));
        let stream = StreamBody::new(futures::stream::iter(parts));
        assert_eq!(read(stream).await, Err(BodyError::TooLarge));
    }
}
