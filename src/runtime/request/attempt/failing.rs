//! The body of an answer with a failing status: read as far as it tells something, and not waited for longer than that is worth.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::{Instant, timeout_at};

/// Bytes that are read. Servers that repeat the request in their errors say what is wrong with it before.
pub const MOST: usize = 64 * 1024;
/// How long the body may take: its status says what it does not.
pub const LONGEST: Duration = Duration::from_secs(5);

/// The body, or its front where it is longer than [`MOST`]; `None` when it breaks off or is not there at the deadline.
pub async fn body<B>(mut incoming: B, deadline: Instant) -> Option<Bytes>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut read = BytesMut::new();
    while read.len() < MOST {
        match timeout_at(deadline, incoming.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    read.extend_from_slice(&data);
                }
            }
            Ok(Some(Err(_))) | Err(_) => return None,
        }
    }
    read.truncate(MOST);
    Some(read.freeze())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{StreamExt, stream};
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    fn piece(length: usize) -> Frame<Bytes> {
        Frame::data("x".repeat(length).into())
    }

    fn length(body: Option<Bytes>) -> Option<usize> {
        body.map(|body| body.len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_error_is_read_as_far_as_it_tells_something() {
        let deadline = Instant::now() + LONGEST;
        assert_eq!(length(body(Full::from("x".repeat(10)), deadline).await), Some(10));
        assert_eq!(
            length(body(Full::from("x".repeat(2 * MOST)), deadline).await),
            Some(MOST)
        );
        let endless = StreamBody::new(stream::repeat_with(|| Ok::<_, Infallible>(piece(1000))));
        assert_eq!(length(body(endless, deadline).await), Some(MOST));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_breaks_or_stalls_is_none() {
        let began = Instant::now();
        let broken = stream::iter([Ok(piece(10)), Err(std::io::Error::other("reset"))]);
        assert_eq!(body(StreamBody::new(broken), began + LONGEST).await, None);
        let stalled = stream::iter([Ok::<_, Infallible>(piece(10))]).chain(stream::pending());
        assert_eq!(body(StreamBody::new(stalled), began + LONGEST).await, None);
        assert_eq!(began.elapsed(), LONGEST);
    }
}
