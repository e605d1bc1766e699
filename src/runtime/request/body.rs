//! The request's body: bounded in size, in time, and in the memory of all of them together.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

/// Bytes a body may have.
pub const MAX_BODY: usize = 16 * 1024 * 1024;
/// Bytes that the bodies of all requests in hand may have together, those that wait included.
const MAX_BODIES: usize = 8 * MAX_BODY;
/// Memory is given out in pieces of so many bytes, as they arrive: an announced length alone takes none.
const PIECE: usize = 64 * 1024;
/// All of a body must have come within this time.
const TOTAL: Duration = Duration::from_secs(60);
/// Some of it must come within this time.
const IDLE: Duration = Duration::from_secs(15);

/// Bytes beyond the limit that are still read and dropped after the answer: a client that is not listening while it sends would
/// otherwise see a broken connection instead of the answer.
const DISCARDED: usize = 4 * MAX_BODY;
/// They are read for so long.
const DISCARDING: Duration = Duration::from_secs(10);

/// Why there is no body.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Longer than [`MAX_BODY`].
    #[error("the body is longer than {MAX_BODY} bytes")]
    TooLarge,
    /// The client sends too slowly.
    #[error("the body did not come in time: nothing for {} s, or not all of it within {} s", IDLE.as_secs(), TOTAL.as_secs())]
    TooSlow,
    /// There is no memory for it now.
    #[error("there is no memory for the body now")]
    NoRoom,
    /// The client stopped sending.
    #[error("the body ended early: {0}")]
    Broken(String),
}

/// Memory for bodies.
#[derive(Clone, Debug)]
pub struct Bodies(Arc<Semaphore>);

impl Default for Bodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_BODIES / PIECE)))
    }
}

/// A body with the memory that it takes, given back when it is dropped.
#[derive(Debug, Default)]
pub struct Received {
    /// The body.
    pub bytes: Bytes,
    /// Its memory.
    pub room: Room,
}

/// Memory that a body takes.
#[derive(Debug, Default)]
pub struct Room(Option<OwnedSemaphorePermit>);

impl Room {
    fn held(&self) -> usize {
        self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) * PIECE
    }

    /// Takes what `length` bytes need beyond what is held.
    fn grow(&mut self, bodies: &Bodies, length: usize) -> Result<(), BodyError> {
        let missing = length.saturating_sub(self.held()).div_ceil(PIECE);
        let Some(missing) = u32::try_from(missing).ok().filter(|pieces| *pieces > 0) else {
            return Ok(());
        };
        let more = Arc::clone(&bodies.0).try_acquire_many_owned(missing);
        let more = more.map_err(|_| BodyError::NoRoom)?;
        match &mut self.0 {
            Some(held) => held.merge(more),
            None => self.0 = Some(more),
        }
        Ok(())
    }
}

/// Reads all of it. What is too large is answered at once: the rest of it is read and dropped in the background, for a while.
pub async fn read<B>(mut body: B, bodies: &Bodies) -> Result<Received, BodyError>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::fmt::Display,
{
    let received = collect(&mut body, bodies).await;
    if received
        .as_ref()
        .is_err_and(|error| matches!(error, BodyError::TooLarge | BodyError::NoRoom))
    {
        ignore(body);
    }
    received
}

/// Reads and drops a body in the background, for a while, so that the client comes to read the answer.
pub fn ignore<B>(body: B)
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::fmt::Display,
{
    tokio::spawn(discard(body));
}

async fn collect<B>(body: &mut B, bodies: &Bodies) -> Result<Received, BodyError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if expected > MAX_BODY {
        return Err(BodyError::TooLarge);
    }
    let mut room = Room::default();
    let end = Instant::now() + TOTAL;
    // A copy, also of a body in one piece: that one is part of the connection's buffer, which would be made anew for as long as it is held.
    let mut bytes = BytesMut::with_capacity(expected.min(PIECE));
    while let Some(data) = next(body, end).await? {
        let length = bytes.len() + data.len();
        if length > MAX_BODY {
            return Err(BodyError::TooLarge);
        }
        room.grow(bodies, length)?;
        if length > bytes.capacity() {
            bytes.reserve(expected.max(length) - bytes.len());
        }
        bytes.extend_from_slice(&data);
    }
    let bytes = bytes.freeze();
    Ok(Received { bytes, room })
}

/// The next bytes; `None` at the end.
async fn next<B>(body: &mut B, end: Instant) -> Result<Option<Bytes>, BodyError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let idle = Instant::now() + IDLE;
    loop {
        let frame = timeout_at(idle.min(end), body.frame()).await;
        match frame.map_err(|_| BodyError::TooSlow)? {
            None => return Ok(None),
            Some(Err(error)) => return Err(BodyError::Broken(error.to_string())),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

async fn discard<B>(mut body: B)
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let end = Instant::now() + DISCARDING;
    let mut length = 0;
    while length <= DISCARDED {
        let Ok(Some(data)) = next(&mut body, end).await else {
            return;
        };
        length += data.len();
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{Stream, StreamExt, stream};
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    async fn read_all<B>(body: B) -> Result<usize, BodyError>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display,
    {
        read(body, &Bodies::default())
            .await
            .map(|received| received.bytes.len())
    }

    /// Parts that come `pause` after one another.
    fn slowly(
        parts: usize,
        part: &'static [u8],
        pause: Duration,
    ) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
        stream::iter(0..parts).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok(Frame::data(Bytes::from_static(part)))
        })
    }

    #[tokio::test]
    async fn a_body_is_bounded_with_and_without_a_length() {
        let most = Bytes::from(vec![b' '; MAX_BODY]);
        assert_eq!(read_all(Full::new(most.clone())).await, Ok(MAX_BODY));
        let more = Bytes::from(vec![b' '; MAX_BODY + 1]);
        assert_eq!(read_all(Full::new(more)).await, Err(BodyError::TooLarge));
        let parts = [most, Bytes::from_static(b"!")].map(|part| Ok::<_, Infallible>(Frame::data(part)));
        assert_eq!(
            read_all(StreamBody::new(stream::iter(parts))).await,
            Err(BodyError::TooLarge)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_in_is_given_up() {
        for (parts, pause, received, after) in [
            (5, Duration::from_secs(10), Ok(5), 50),
            (100, Duration::from_secs(10), Err(BodyError::TooSlow), 60),
            (2, Duration::from_secs(20), Err(BodyError::TooSlow), 15),
        ] {
            let before = Instant::now();
            let body = StreamBody::new(slowly(parts, b"x", pause).boxed());
            assert_eq!(read_all(body).await, received);
            println!(
                "{parts} bytes, one in {pause:?}: {received:?} after {:?}",
                before.elapsed()
            );
            assert_eq!(before.elapsed(), Duration::from_secs(after));
        }
    }

    #[tokio::test]
    async fn all_bodies_together_are_bounded_and_give_their_memory_back() {
        let bodies = Bodies::default();
        let body = || Full::new(Bytes::from(vec![b' '; MAX_BODY]));
        let mut held = Vec::new();
        while let Ok(received) = read(body(), &bodies).await {
            held.push(received);
        }
        println!("bodies of 16 MiB that are held at once: {}", held.len());
        assert_eq!(held.len(), MAX_BODIES / MAX_BODY);
        let small = Full::new(Bytes::from_static(b"{}"));
        assert_eq!(read(small.clone(), &bodies).await.unwrap_err(), BodyError::NoRoom);
        held.pop();
        assert!(read(small, &bodies).await.is_ok());
    }
}
