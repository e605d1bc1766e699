//! Ports: how many connections they take, and how long a silent one stays.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;
use tracing::{info, warn};

use super::{ServeError, read::MustRead};
use crate::runtime::front::{Front, Outgoing, Port};

/// Connections that one port holds at most; the next ones wait in the kernel.
const MOST: usize = 4096;
/// File descriptors that are enough for [`MOST`] connections on every port.
const ENOUGH: u64 = 65_536;
/// A connection without a whole request head ends after this time: longer than load balancers keep idle ones.
const SILENT: Duration = Duration::from_secs(75);
/// And after this time while more than half of the connections are taken.
const SILENT_WHEN_BUSY: Duration = Duration::from_secs(10);
/// A connection ends whose client reads nothing of its answer for this time.
const UNREAD: Duration = Duration::from_secs(60);
/// Bytes of a request's head.
const MOST_HEAD: usize = 64 * 1024;
/// After a failure to accept, most likely for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A bound port.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    port: &'static str,
}

/// Binds an address and says which one it became.
pub async fn bind(address: SocketAddr, port: &'static str) -> Result<Bound, ServeError> {
    let failed = |error| ServeError::Listen { address, port, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    info!(port, address = %bound, "listening");
    Ok(Bound { listener, port })
}

/// What answers the requests of a port.
pub trait Answers: Clone + Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static;

    /// Answers one.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response<Self::Body>> + Send;
}

impl Answers for axum::Router {
    type Body = axum::body::Body;

    async fn answer(&self, request: Request<Incoming>) -> Response<Self::Body> {
        self.clone().call(request).await.unwrap_or_else(|never| match never {})
    }
}

impl Answers for (Arc<Front>, Port) {
    type Body = Outgoing;

    async fn answer(&self, request: Request<Incoming>) -> Response<Outgoing> {
        let (front, port) = self;
        // On the heap: the connection would keep room for it between requests.
        Box::pin(front.handle(*port, request)).await
    }
}

/// Serves until `closing`, then finishes what is in flight.
pub fn serve(bound: Bound, service: impl Answers, closing: CancellationToken) -> JoinHandle<()> {
    serve_at_most(most_connections(), bound, service, closing)
}

fn serve_at_most(most: usize, bound: Bound, service: impl Answers, closing: CancellationToken) -> JoinHandle<()> {
    let places = Arc::new(Semaphore::new(most));
    let connections = TaskTracker::new();
    tokio::spawn(async move {
        let accepting = async {
            loop {
                let (socket, place) = bound.accept(&places).await;
                let silent = if places.available_permits() < most / 2 {
                    SILENT_WHEN_BUSY
                } else {
                    SILENT
                };
                connections.spawn(connection(socket, place, silent, service.clone(), closing.clone()));
            }
        };
        let _: Option<()> = closing.run_until_cancelled(accepting).await;
        drop(bound);
        connections.close();
        connections.wait().await;
    })
}

impl Bound {
    /// The address that it became.
    #[cfg(test)]
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    async fn accept(&self, places: &Arc<Semaphore>) -> (TcpStream, Option<OwnedSemaphorePermit>) {
        let place = Arc::clone(places).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((socket, _)) => return (socket, place),
                Err(error) => {
                    warn!(port = self.port, %error, "cannot accept a connection");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Takes as many file descriptors as the node lets it: many nodes give a process 1024 at first. An engine that is started later has as
/// many. Where none can be had it serves fewer connections.
pub fn take_descriptors() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let wanted = hard.min(ENOUGH);
    if soft < wanted {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
    }
}

/// A quarter of the file descriptors: there are several ports, and every request has a connection to its backend.
fn most_connections() -> usize {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    usize::try_from(soft / 4).unwrap_or(MOST).clamp(64, MOST)
}

async fn connection(
    socket: TcpStream,
    place: Option<OwnedSemaphorePermit>,
    silent: Duration,
    service: impl Answers,
    closing: CancellationToken,
) {
    // Without it every event of a stream would wait for the one before to be acknowledged.
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(silent)
        .max_buf_size(MOST_HEAD)
        .serve_connection(TokioIo::new(MustRead::new(socket, UNREAD)), service);
    tokio::pin!(serving);
    // Broken connections are the client's affair: what they cost is told by its request.
    tokio::select! {
        _ = &mut serving => {}
        () = closing.cancelled() => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
    drop(place);
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use bytes::Bytes;
    use futures::stream;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::mpsc,
        time::{Instant, interval, timeout},
    };

    use super::*;

    async fn served(most: usize) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
        serving(most, axum::Router::new().fallback(|| async { "ok" })).await
    }

    async fn serving(most: usize, router: axum::Router) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
        let bound = bind(SocketAddr::from(([127, 0, 0, 1], 0)), "test").await.unwrap();
        let address = bound.address().unwrap();
        let closing = CancellationToken::new();
        let server = serve_at_most(most, bound, router, closing.clone());
        (address, closing, server)
    }

    async fn connect(address: SocketAddr, sent: &str) -> TcpStream {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(sent.as_bytes()).await.unwrap();
        socket
    }

    /// How long the server lets a connection be that sends nothing more.
    async fn life(address: SocketAddr, sent: &str) -> Duration {
        let mut socket = connect(address, sent).await;
        let before = Instant::now();
        let _ = socket.read_to_end(&mut Vec::new()).await;
        before.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connections_end() {
        let (address, _closing, _server) = served(8).await;
        for sent in [
            "",
            "POST /v1/chat/completions HTTP/1.1\r\nhost:",
            "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        ] {
            let life = life(address, sent).await;
            println!("{sent:?} and silence: ended after {life:?}");
            assert!(life.abs_diff(SILENT) < Duration::from_secs(1), "{sent:?}: {life:?}");
        }
        let mut held = Vec::new();
        for _ in 0..5 {
            held.push(connect(address, "").await);
        }
        let life = life(address, "GET / HT").await;
        println!("when more than half of the connections are taken: {life:?}");
        assert!(life < SILENT_WHEN_BUSY + Duration::from_secs(1));
    }

    /// A server whose answers have no end, and word of each that is given up.
    async fn endless() -> (SocketAddr, CancellationToken, mpsc::UnboundedReceiver<Instant>) {
        let (given_up, told) = mpsc::unbounded_channel();
        let router = axum::Router::new().fallback(move || {
            let given_up = given_up.clone();
            async move {
                let guard = Guard(given_up);
                Body::from_stream(stream::repeat_with(move || {
                    let _held = &guard;
                    Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b'x'; 16 * 1024]))
                }))
            }
        });
        let (address, closing, _server) = serving(8, router).await;
        (address, closing, told)
    }

    /// Says when it is dropped.
    struct Guard(mpsc::UnboundedSender<Instant>);

    impl Drop for Guard {
        fn drop(&mut self) {
            let _ = self.0.send(Instant::now());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_is_given_up() {
        let (address, _closing, mut told) = endless().await;
        let before = Instant::now();
        let _silent = connect(address, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let took = told.recv().await.unwrap() - before;
        println!("an answer without a reader: given up after {took:?}");
        assert!(took.abs_diff(UNREAD) < Duration::from_secs(1), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_waited_for() {
        let (address, _closing, mut told) = endless().await;
        let mut slow = connect(address, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut some = vec![0; 16 * 1024 * 1024];
        let mut pauses = interval(UNREAD * 2 / 3);
        for _ in 0..5 {
            pauses.tick().await;
            slow.read_exact(&mut some).await.unwrap();
            assert!(told.try_recv().is_err(), "it is still read");
        }
        drop(slow);
        told.recv().await.unwrap();
    }

    #[tokio::test]
    async fn connections_are_bounded_and_the_next_waits() {
        let (address, closing, server) = served(2).await;
        let first = connect(address, "").await;
        let _second = connect(address, "").await;
        let mut third = connect(address, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        let mut text = String::new();
        let early = timeout(Duration::from_millis(100), third.read_u8()).await;
        assert!(early.is_err(), "no place yet");
        drop(first);
        timeout(Duration::from_secs(10), third.read_to_string(&mut text))
            .await
            .unwrap()
            .unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        closing.cancel();
        timeout(Duration::from_secs(10), server).await.unwrap().unwrap();
    }
}
