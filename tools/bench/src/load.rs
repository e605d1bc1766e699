//! The load: so many connections, each with one request at a time.

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinSet, LocalSet},
    time::{Instant, sleep_until},
};

use crate::{Failure, exchange, traffic};

/// The kind of load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Connections.
    pub connections: usize,
    /// Microseconds between two events; `None` for answers in one piece.
    pub pace: Option<u64>,
    /// How long it is measured.
    pub window: Duration,
}

/// What was seen between the end of the warm-up and the end of the window.
#[derive(Debug, Default)]
pub struct Seen {
    /// Nanoseconds from the first byte sent to the last one received, one an answer.
    pub latencies: Vec<u64>,
    /// Nanoseconds between two events of a stream.
    pub gaps: Vec<u64>,
    /// CPU seconds of whom it was sent to.
    pub cpu: f64,
    /// Seconds.
    pub seconds: f64,
}

/// Until every connection works at its pace.
const WARM_UP: Duration = Duration::from_millis(400);

/// Loads `port`; `cpu` reads its process's CPU seconds.
pub async fn drive(port: u16, load: Load, cpu: impl Fn() -> Result<f64, Failure>) -> Result<Seen, Failure> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let request: Rc<[u8]> = traffic::request(&address.to_string(), load.pace).into();
    let begin = Instant::now() + WARM_UP;
    let window = Window {
        begin,
        end: begin + load.window,
    };
    let local = LocalSet::new();
    let mut clients = JoinSet::new();
    for _ in 0..load.connections {
        clients.spawn_local_on(client(address, Rc::clone(&request), window), &local);
    }
    let (before, after) = local
        .run_until(async {
            sleep_until(window.begin).await;
            let before = cpu()?;
            sleep_until(window.end).await;
            Ok::<_, Failure>((before, cpu()?))
        })
        .await?;
    let mut seen = Seen {
        cpu: after - before,
        seconds: load.window.as_secs_f64(),
        ..Seen::default()
    };
    let ended = local.run_until(clients.join_all()).await;
    for client in ended {
        let client = client.map_err(|error| format!("{address} with {} connections: {error}", load.connections))?;
        seen.latencies.extend(client.latencies);
        seen.gaps.extend(client.gaps);
    }
    Ok(seen)
}

#[derive(Clone, Copy)]
struct Window {
    begin: Instant,
    end: Instant,
}

async fn client(address: SocketAddr, request: Rc<[u8]>, window: Window) -> io::Result<Seen> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut seen = Seen::default();
    let mut buffer = Vec::with_capacity(16 * 1024);
    while Instant::now() < window.end {
        let begun = Instant::now();
        socket.write_all(&request).await?;
        let arrivals = receive(&mut socket, &mut buffer).await?;
        let ended = Instant::now();
        if begun >= window.begin && ended <= window.end {
            seen.latencies.push(nanos(ended - begun));
            seen.gaps.extend(
                arrivals
                    .windows(2)
                    .filter_map(|pair| Some(nanos(*pair.get(1)? - *pair.first()?))),
            );
        } else if ended >= window.begin && ended <= window.end {
            // Begun in the warm-up: half of its work is in the window on average, as for those that end after it.
            seen.latencies.push(nanos(ended - begun));
        }
    }
    Ok(seen)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads one answer; gives when each event of a stream came.
async fn receive(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Vec<Instant>> {
    let mut arrivals = Vec::new();
    buffer.clear();
    loop {
        let scanned = buffer.len().saturating_sub(1);
        if socket.read_buf(buffer).await? == 0 {
            return Err(io::Error::other("the connection was closed in the middle of an answer"));
        }
        let fresh = buffer.get(scanned..).unwrap_or_default();
        let events = fresh.windows(2).filter(|pair| *pair == b"\n\n").count();
        if events > 0 {
            arrivals.resize(arrivals.len() + events, Instant::now());
        }
        if exchange::whole(buffer).is_some() {
            break;
        }
    }
    let complete = arrivals.is_empty() || arrivals.len() == traffic::EVENTS;
    if buffer.starts_with(b"HTTP/1.1 200") && complete {
        return Ok(arrivals);
    }
    let text: String = String::from_utf8_lossy(buffer).chars().take(600).collect();
    Err(io::Error::other(format!(
        "{} events in the answer {text}",
        arrivals.len()
    )))
}
