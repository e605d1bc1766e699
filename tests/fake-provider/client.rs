//! A client's connection: requests are read whole, answers are written byte for byte, and a hang-up is noticed while nothing is written.

use std::{io, time::Instant};

use bytes::{Buf, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::seen::Seen;

/// Bytes a request may have.
const MAX_REQUEST: usize = 64 * 1024 * 1024;

/// The client is gone.
#[derive(Debug)]
pub struct Gone;

#[derive(Debug)]
pub struct Client {
    socket: TcpStream,
    buffer: BytesMut,
}

impl Client {
    pub fn new(socket: TcpStream) -> Self {
        // A socket without this option still works.
        let _ = socket.set_nodelay(true);
        Self {
            socket,
            buffer: BytesMut::with_capacity(16 * 1024),
        }
    }

    /// The next request.
    pub async fn request(&mut self) -> Result<Seen, Gone> {
        let end = loop {
            match self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(end) => break end,
                None => self.fill().await?,
            }
        };
        let head = String::from_utf8_lossy(&self.buffer.split_to(end)).into_owned();
        self.buffer.advance(4);
        let mut seen = parse(&head).ok_or(Gone)?;
        let length = seen.header("content-length").parse().unwrap_or(0);
        while self.buffer.len() < length {
            self.fill().await?;
        }
        seen.body = serde_json::from_slice(&self.buffer.split_to(length)).unwrap_or_default();
        Ok(seen)
    }

    async fn fill(&mut self) -> Result<(), Gone> {
        match self.socket.read_buf(&mut self.buffer).await {
            Ok(read) if read > 0 && self.buffer.len() <= MAX_REQUEST => Ok(()),
            _ => Err(Gone),
        }
    }

    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.socket.write_all(bytes).await.map_err(|_: io::Error| Gone)
    }

    /// Waits, and ends early when the client hangs up.
    pub async fn wait(&mut self, until: impl Future<Output = ()>) -> Result<(), Gone> {
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => return Ok(()),
                read = self.fill() => read?,
            }
        }
    }

    /// Closes with RST instead of FIN.
    pub fn reset(&self) {
        // Where the option is refused the close is an ordinary one, and the test that wants the reset fails.
        let _ = self.socket.set_zero_linger();
    }
}

fn parse(head: &str) -> Option<Seen> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        headers.append(
            HeaderName::try_from(name).ok()?,
            HeaderValue::from_str(value.trim()).ok()?,
        );
    }
    Some(Seen {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: serde_json::Value::Null,
        at: Instant::now(),
    })
}
