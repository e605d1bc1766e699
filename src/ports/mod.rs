//! Ports: how many connections they take, and how long a silent one stays.

mod read;

use std::{
    collections::{HashMap, hash_map::Entry},
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

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

use read::MustRead;

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
/// The same for a port of probes and metrics, which anybody may reach without a key: of all sources, and of one, and how long it may be
/// silent. A connection takes one request there.
const MOST_PROBES: usize = 1024;
const MOST_PROBES_OF_ONE: usize = 32;
const SILENT_PROBE: Duration = Duration::from_secs(5);
/// After a failure to accept, most likely for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A bound port.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    port: &'static str,
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

/// What connections a port takes.
#[derive(Clone, Copy, Debug)]
struct Terms {
    most: usize,
    of_one: usize,
    silent: Duration,
    silent_when_busy: Duration,
    keep_alive: bool,
}

impl Terms {
    /// Behind a load balancer all may come from one source.
    const fn requests(most: usize) -> Self {
        Self {
            most,
            of_one: most,
            silent: SILENT,
            silent_when_busy: SILENT_WHEN_BUSY,
            keep_alive: true,
        }
    }

    fn probes() -> Self {
        Self {
            most: most_connections().min(MOST_PROBES),
            of_one: MOST_PROBES_OF_ONE,
            silent: SILENT_PROBE,
            silent_when_busy: SILENT_PROBE,
            keep_alive: false,
        }
    }
}

/// Serves until `closing`, then finishes what is in flight.
pub fn serve(bound: Bound, service: impl Answers, closing: CancellationToken) -> JoinHandle<()> {
    serve_on(Terms::requests(most_connections()), bound, service, closing)
}

/// The same for probes and metrics: nobody who comes again and again keeps the kubelet out.
pub fn serve_probes(bound: Bound, service: impl Answers, closing: CancellationToken) -> JoinHandle<()> {
    serve_on(Terms::probes(), bound, service, closing)
}

fn serve_on(terms: Terms, bound: Bound, service: impl Answers, closing: CancellationToken) -> JoinHandle<()> {
    let places = Places::new(terms);
    let connections = TaskTracker::new();
    tokio::spawn(async move {
        let accepting = async {
            loop {
                let (socket, place) = bound.accept(&places).await;
                connections.spawn(connection(socket, place, terms, service.clone(), closing.clone()));
            }
        };
        let _: Option<()> = closing.run_until_cancelled(accepting).await;
        drop(bound);
        connections.close();
        connections.wait().await;
    })
}

impl Bound {
    /// Binds an address and says which one it became.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn at(address: SocketAddr, port: &'static str) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        info!(port, address = %listener.local_addr()?, "listening");
        Ok(Self { listener, port })
    }

    /// The address that it became.
    #[cfg(test)]
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    async fn accept(&self, places: &Places) -> (TcpStream, Place) {
        let free = Arc::clone(&places.free).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((socket, source)) => {
                    if let Some(source) = places.of(source.ip()) {
                        let busy = places.free.available_permits() < places.terms.most / 2;
                        return (socket, Place { free, source, busy });
                    }
                }
                Err(error) => {
                    warn!(port = self.port, %error, "cannot accept a connection");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Connections by source.
type Counts = HashMap<IpAddr, usize>;

/// Nothing that holds the lock can panic in the midst of a change.
fn taken(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The connections that a port may still take.
struct Places {
    terms: Terms,
    free: Arc<Semaphore>,
    sources: Arc<Mutex<Counts>>,
}

impl Places {
    fn new(terms: Terms) -> Self {
        Self {
            terms,
            free: Arc::new(Semaphore::new(terms.most)),
            sources: Arc::default(),
        }
    }

    /// One more of this source; `None` when it has as many as it may have.
    fn of(&self, source: IpAddr) -> Option<Source> {
        let mut sources = taken(&self.sources);
        let count = sources.entry(source).or_default();
        if *count >= self.terms.of_one {
            return None;
        }
        *count += 1;
        drop(sources);
        Some(Source {
            address: source,
            sources: Arc::clone(&self.sources),
        })
    }
}

/// The place of a connection.
struct Place {
    free: Option<OwnedSemaphorePermit>,
    source: Source,
    busy: bool,
}

/// One connection of a source.
struct Source {
    address: IpAddr,
    sources: Arc<Mutex<Counts>>,
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut sources = taken(&self.sources);
        if let Entry::Occupied(mut count) = sources.entry(self.address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
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

async fn connection(socket: TcpStream, place: Place, terms: Terms, service: impl Answers, closing: CancellationToken) {
    // Without it every event of a stream would wait for the one before to be acknowledged.
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let Place { free, source, busy } = place;
    let silent = if busy { terms.silent_when_busy } else { terms.silent };
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(terms.keep_alive)
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
    drop((free, source));
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use bytes::Bytes;
    use futures::stream;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpSocket,
        sync::mpsc,
        time::{Instant, interval, timeout},
    };

    use super::*;

    async fn served(most: usize) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
        serving(most, axum::Router::new().fallback(|| async { "ok" })).await
    }

    async fn serving(most: usize, router: axum::Router) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
        let bound = Bound::at(SocketAddr::from(([127, 0, 0, 1], 0)), "test").await.unwrap();
        let address = bound.address().unwrap();
        let closing = CancellationToken::new();
        let server = serve_on(Terms::requests(most), bound, router, closing.clone());
        (address, closing, server)
    }

    /// Sockets need real time: paused time, which goes on whenever no task can, stands still meanwhile, as it does while a thread is at work.
    async fn while_time_stands<T>(work: impl Future<Output = T>) -> T {
        let (done, end) = std::sync::mpsc::channel::<()>();
        let thread = tokio::task::spawn_blocking(move || end.recv());
        let result = work.await;
        drop(done);
        let _ = thread.await;
        result
    }

    #[tokio::test(start_paused = true)]
    async fn one_source_cannot_keep_others_from_the_probes() {
        let bound = Bound::at(SocketAddr::from(([127, 0, 0, 1], 0)), "test").await.unwrap();
        let address = bound.address().unwrap();
        let router = axum::Router::new().fallback(|| async { "ok" });
        let _server = serve_probes(bound, router, CancellationToken::new());
        let mut held = Vec::new();
        while_time_stands(async {
            for _ in 0..MOST_PROBES_OF_ONE {
                held.push(connect(address, "GET /livez HTTP/1.1\r\nhost:").await);
            }
            is_refused(address).await;
            let kubelet = TcpSocket::new_v4().unwrap();
            kubelet.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
            let mut kubelet = kubelet.connect(address).await.unwrap();
            kubelet
                .write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
                .await
                .unwrap();
            let mut text = String::new();
            kubelet.read_to_string(&mut text).await.unwrap();
            assert!(
                text.starts_with("HTTP/1.1 200"),
                "answered, and the connection closed: {text}"
            );
            is_refused(address).await;
        })
        .await;
        drop(held);
    }

    /// It is closed without a word, and time stands still.
    async fn is_refused(address: SocketAddr) {
        let mut refused = connect(address, "").await;
        assert_eq!(refused.read(&mut [0]).await.unwrap_or(0), 0, "it is closed");
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
        while_time_stands(async {
            for _ in 0..5 {
                held.push(connect(address, "").await);
            }
        })
        .await;
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
            while_time_stands(slow.read_exact(&mut some)).await.unwrap();
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
