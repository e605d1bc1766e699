//! The fake provider as these tests speak to it: a list of acts, the last one repeated.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{net::TcpSocket, sync::Notify};

use super::{
    fake_provider::{self as fake, Gate, Manner, Provider, Seen},
    requests::CHAT,
};

/// What the provider does with one request.
#[derive(Clone, Debug)]
pub enum Act {
    /// A whole answer.
    Answer(u16, &'static [(&'static str, &'static str)], String),
    /// A stream of events, and what follows them.
    Stream(Vec<String>, Ending),
    /// No answer at all.
    Hang,
    /// 200 for this key only, else 401.
    WantsKey(&'static str),
}

/// How a stream ends.
#[derive(Clone, Debug)]
pub enum Ending {
    /// As it should.
    Regular,
    /// The connection breaks.
    Cut,
    /// Nothing more comes.
    Hang,
    /// The rest comes when the test says so.
    Gate(Arc<Notify>, Vec<String>),
}

impl From<Act> for fake::Act {
    fn from(act: Act) -> Self {
        match act {
            Act::Answer(status, headers, body) => Self::answer(status, headers, body),
            Act::Stream(events, ending) => streamed(events, ending),
            Act::Hang => Self::silent(fake::Ending::Hang),
            Act::WantsKey(key) => Self {
                wants_key: Some(key.to_owned()),
                ..Self::answer(200, &[], CHAT)
            },
        }
    }
}

fn streamed(events: Vec<String>, ending: Ending) -> fake::Act {
    let plain = fake::Act::stream(events, fake::Ending::Regular);
    match ending {
        Ending::Regular => plain,
        Ending::Cut => fake::Act {
            ending: fake::Ending::Close,
            ..plain
        },
        Ending::Hang => fake::Act {
            ending: fake::Ending::Hang,
            ..plain
        },
        Ending::Gate(open, rest) => fake::Act {
            gate: Some(Gate { open, rest }),
            ..plain
        },
    }
}

/// An address that refuses connections for as long as the socket is held: nobody else is given its port.
pub fn refusing() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// The provider.
#[derive(Debug)]
pub struct Upstream {
    pub address: SocketAddr,
    /// Told when a connection of a client is gone.
    pub closed: Arc<Notify>,
    provider: Provider,
}

impl Upstream {
    /// Plays the acts in order; the last one is repeated.
    pub async fn play(acts: impl IntoIterator<Item = Act>) -> Self {
        Self::with(Provider::start(Manner::default()).await, acts)
    }

    /// The same where further spellings of the address lead: `localhost` is 127.0.0.1 alone.
    pub async fn play_at_localhost(acts: impl IntoIterator<Item = Act>) -> Self {
        Self::with(Provider::listen("127.0.0.1:0", Manner::default()).await.unwrap(), acts)
    }

    fn with(provider: Provider, acts: impl IntoIterator<Item = Act>) -> Self {
        provider.repeat(acts.into_iter().map(Into::into));
        Self {
            address: provider.address,
            closed: provider.closed(),
            provider,
        }
    }

    /// Requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.provider.seen()
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}
