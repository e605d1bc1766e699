//! The request's body, bounded.

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};

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

/// Reads all of it.
pub async fn read<B>(body: B) -> Result<Bytes, BodyError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(BodyError::TooLarge);
    }
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Err(error) => Err(BodyError::Broken(error.to_string())),
    }
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
