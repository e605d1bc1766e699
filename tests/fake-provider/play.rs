//! An answer on its way to the client, with its faults.

use std::{future::pending, time::Duration};

use tokio::time::sleep;

use super::{
    act::{Act, Ending, Flood, Framing},
    client::{Client, Gone},
};

/// An answer before its faults.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

#[derive(Clone, Debug)]
pub enum Body {
    Whole(String),
    Stream(Vec<String>),
}

impl Reply {
    /// A JSON answer.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self {
            status,
            headers: vec![("content-type".into(), "application/json".into())],
            body: Body::Whole(body.to_string()),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Whether the connection takes another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Keep,
    Close,
}

/// Plays the answer.
pub async fn play(client: &mut Client, reply: &Reply, act: &Act) -> Result<After, Gone> {
    pause(client, act.delay_head_ms).await?;
    if let Some(ending) = act.before_head
        && ending != Ending::Regular
    {
        return end(client, ending).await;
    }
    if let Some(status) = act.interim {
        client
            .write(format!("HTTP/1.1 {status} Interim\r\n\r\n").as_bytes())
            .await?;
    }
    let framing = Wire::of(reply, act);
    send(client, &head(reply, framing), act).await?;
    if act.flood == Some(Flood::Headers) {
        return endless(client, "x-flood: ", &format!("{}\r\nx-flood: ", "x".repeat(1024))).await;
    }
    client.write(b"\r\n").await?;
    pause(client, act.delay_body_ms).await?;
    let mut writer = Writer {
        client,
        act,
        framing,
        left: act.cut_at.unwrap_or(usize::MAX),
    };
    writer.body(reply).await?;
    writer.finish(reply).await
}

async fn pause(client: &mut Client, millis: u64) -> Result<(), Gone> {
    if millis == 0 {
        return Ok(());
    }
    client.wait(sleep(Duration::from_millis(millis))).await
}

async fn end(client: &mut Client, ending: Ending) -> Result<After, Gone> {
    match ending {
        Ending::Regular => return Ok(After::Keep),
        Ending::Close => {}
        Ending::Reset => client.reset(),
        Ending::Hang => client.wait(pending()).await?,
    }
    Ok(After::Close)
}

async fn endless(client: &mut Client, first: &str, then: &str) -> Result<After, Gone> {
    client.write(first.as_bytes()).await?;
    let block = then.repeat(64);
    loop {
        client.write(block.as_bytes()).await?;
    }
}

/// What the head says of the body's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Length(usize),
    Chunked,
    Close,
}

impl Wire {
    fn of(reply: &Reply, act: &Act) -> Self {
        let endless = act.flood.is_some() || act.gate.is_some();
        let claimed = reply.header("content-length").and_then(|text| text.parse().ok());
        match (act.framing, &reply.body) {
            (Framing::Close, _) => Self::Close,
            (Framing::Usual, _) if claimed.is_some() => Self::Length(claimed.unwrap_or_default()),
            (Framing::Usual, Body::Whole(body)) if !endless => Self::Length(body.len()),
            _ => Self::Chunked,
        }
    }
}

/// Status line and headers, without the blank line.
fn head(reply: &Reply, wire: Wire) -> String {
    let mut lines = vec![format!("HTTP/1.1 {} Status\r\n", reply.status)];
    let others = reply
        .headers
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
    lines.extend(others.map(|(name, value)| format!("{name}: {value}\r\n")));
    lines.push(match wire {
        Wire::Length(length) => format!("content-length: {length}\r\n"),
        Wire::Chunked => "transfer-encoding: chunked\r\n".to_owned(),
        Wire::Close => "connection: close\r\n".to_owned(),
    });
    lines.concat()
}

async fn send(client: &mut Client, text: &str, act: &Act) -> Result<(), Gone> {
    let Some(millis) = act.drip_ms else {
        return client.write(text.as_bytes()).await;
    };
    for byte in text.bytes() {
        client.write(&[byte]).await?;
        pause(client, millis).await?;
    }
    Ok(())
}

struct Writer<'a> {
    client: &'a mut Client,
    act: &'a Act,
    framing: Wire,
    left: usize,
}

impl Writer<'_> {
    async fn body(&mut self, reply: &Reply) -> Result<(), Gone> {
        match &reply.body {
            Body::Whole(text) => self.piece(text).await?,
            Body::Stream(pieces) => self.pieces(pieces).await?,
        }
        if let Some(gate) = &self.act.gate {
            self.client.wait(gate.open.notified()).await?;
            self.pieces(&gate.rest).await?;
        }
        Ok(())
    }

    async fn pieces(&mut self, pieces: &[String]) -> Result<(), Gone> {
        for piece in pieces {
            self.piece(piece).await?;
            pause(self.client, self.act.gap_ms).await?;
        }
        Ok(())
    }

    async fn piece(&mut self, text: &str) -> Result<(), Gone> {
        let text = text.get(..self.left.min(text.len())).unwrap_or(text);
        self.left = self.left.saturating_sub(text.len());
        if text.is_empty() {
            return Ok(());
        }
        if self.framing == Wire::Chunked {
            let chunk = format!("{:x}\r\n{text}\r\n", text.len());
            send(self.client, &chunk, self.act).await
        } else {
            send(self.client, text, self.act).await
        }
    }

    async fn finish(mut self, reply: &Reply) -> Result<After, Gone> {
        if let Some(flood) = self.act.flood {
            return self.flood(flood, reply).await;
        }
        let cut = self.act.cut_at.is_some() && self.left == 0;
        if self.act.ending != Ending::Regular {
            return end(self.client, self.act.ending).await;
        }
        if cut {
            return Ok(After::Close);
        }
        match self.framing {
            Wire::Chunked => self.client.write(b"0\r\n\r\n").await.map(|()| After::Keep),
            Wire::Length(length) if length == length_of(&reply.body) => Ok(After::Keep),
            Wire::Length(_) | Wire::Close => Ok(After::Close),
        }
    }

    async fn flood(&mut self, flood: Flood, reply: &Reply) -> Result<After, Gone> {
        let last = match &reply.body {
            Body::Stream(pieces) => pieces.last().cloned(),
            Body::Whole(_) => None,
        };
        let block = match flood {
            Flood::Headers | Flood::Body => "x".repeat(64 * 1024),
            Flood::Event => {
                self.piece("data: ").await?;
                "x".repeat(64 * 1024)
            }
            Flood::Comments => ": keep-alive\n\n".into(),
            Flood::Events => last.unwrap_or_else(|| "data: {}\n\n".into()),
        };
        loop {
            self.piece(&block).await?;
            pause(self.client, self.act.gap_ms).await?;
        }
    }
}

fn length_of(body: &Body) -> usize {
    match body {
        Body::Whole(text) => text.len(),
        Body::Stream(pieces) => pieces.iter().map(String::len).sum(),
    }
}
