//! The provider: answers at once from memory, or streams events at the pace that the request's `seed` asks for, in microseconds.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep_until},
};

use crate::{exchange, traffic};

struct Answers {
    whole: Vec<u8>,
    head: Vec<u8>,
    events: Vec<Vec<u8>>,
}

/// Starts it in the driver of the load: one thread plays everything around the subject. Gives its port.
pub async fn start() -> io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(serve(listener));
    Ok(port)
}

async fn serve(listener: TcpListener) -> io::Result<()> {
    let (head, events) = traffic::stream();
    let answers = Arc::new(Answers {
        whole: traffic::answer(),
        head,
        events,
    });
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        // A client that leaves ends its own connection only.
        tokio::spawn(converse(socket, Arc::clone(&answers)));
    }
}

async fn converse(mut socket: TcpStream, answers: Arc<Answers>) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let Some(length) = exchange::whole(&buffer) else {
            if socket.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let pace = buffer.get(..length).and_then(pace);
        buffer.drain(..length);
        match pace {
            None => socket.write_all(&answers.whole).await?,
            Some(pace) => stream(&mut socket, &answers, pace).await?,
        }
    }
}

/// The pace of a streaming request; `None` when it wants no stream.
fn pace(request: &[u8]) -> Option<Duration> {
    exchange::find(request, br#""stream":true"#)?;
    let seed = exchange::after(request, br#""seed":"#).unwrap_or(0);
    Some(Duration::from_micros(seed as u64))
}

async fn stream(socket: &mut TcpStream, answers: &Answers, pace: Duration) -> io::Result<()> {
    socket.write_all(&answers.head).await?;
    let mut due = Instant::now();
    for event in &answers.events {
        socket.write_all(event).await?;
        due += pace;
        sleep_until(due).await;
    }
    socket.write_all(b"0\r\n\r\n").await
}
