//! The listener: connections, the script, and the counts.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::Instant,
};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::Notify,
    task::{AbortHandle, JoinSet},
};

use super::{
    act::Act,
    client::{Client, Gone},
    corpus, format,
    generate::Manner,
    play::{After, Reply, play},
    seen::Seen,
};

/// A provider. It ends, connections included, when it is dropped.
#[derive(Debug)]
pub struct Provider {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

#[derive(Debug, Default)]
struct Shared {
    manner: Manner,
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    hang_ups: Mutex<Vec<Instant>>,
    connections: AtomicUsize,
    current: AtomicUsize,
    most: AtomicUsize,
    closed: Arc<Notify>,
}

/// Acts for the next requests, in turn; then a working provider answers, or the last act is played on and on.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Script {
    acts: VecDeque<Act>,
    #[serde(default)]
    repeat_last: bool,
}

impl Script {
    fn next(&mut self) -> Act {
        if self.repeat_last && self.acts.len() == 1 {
            self.acts.front().cloned().unwrap_or_default()
        } else {
            self.acts.pop_front().unwrap_or_default()
        }
    }
}

impl Provider {
    /// A working provider at a loopback address of its own: the kernel gives a port that was just given up to the next who asks, and a
    /// provider is never to count what was meant for somebody who is gone.
    pub async fn start(manner: Manner) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        Self::listen(&format!("127.1.{high}.{low}:0"), manner)
            .await
            .expect("loopback has a free port")
    }

    /// A working provider.
    pub async fn listen(address: &str, manner: Manner) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            manner,
            ..Shared::default()
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self {
            address,
            shared,
            accepting,
        })
    }

    /// The acts for the next requests.
    pub fn script(&self, acts: impl IntoIterator<Item = Act>) {
        self.shared.set(acts, false);
    }

    /// The same, the last one for all further requests too.
    pub fn repeat(&self, acts: impl IntoIterator<Item = Act>) {
        self.shared.set(acts, true);
    }

    /// Requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.shared.seen.lock().unwrap().clear();
    }

    /// When clients hung up in the middle of an answer.
    pub fn hang_ups(&self) -> Vec<Instant> {
        self.shared.hang_ups.lock().unwrap().clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Most requests at one time.
    pub fn most_at_once(&self) -> usize {
        self.shared.most.load(Ordering::Relaxed)
    }

    /// Told when a connection has ended.
    pub fn closed(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.closed)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        connections.spawn(serve(Client::new(socket), Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut client: Client, shared: Arc<Shared>) {
    while let Ok(seen) = client.request().await {
        let answered = if seen.path.starts_with("/_") {
            play(&mut client, &shared.control(&seen), &Act::default()).await
        } else {
            shared.answer(&mut client, seen).await
        };
        match answered {
            Ok(After::Keep) => {}
            Ok(After::Close) => break,
            Err(Gone) => {
                shared.hang_ups.lock().unwrap().push(Instant::now());
                break;
            }
        }
    }
    drop(client);
    shared.closed.notify_one();
}

/// One request more until it is dropped.
struct Working<'a>(&'a Shared);

impl<'a> Working<'a> {
    fn new(shared: &'a Shared) -> Self {
        let now = shared.current.fetch_add(1, Ordering::Relaxed) + 1;
        shared.most.fetch_max(now, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.current.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn set(&self, acts: impl IntoIterator<Item = Act>, repeat_last: bool) {
        *self.script.lock().unwrap() = Script {
            acts: acts.into_iter().collect(),
            repeat_last,
        };
    }

    async fn answer(&self, client: &mut Client, seen: Seen) -> Result<After, Gone> {
        let _working = Working::new(self);
        let act = self.script.lock().unwrap().next();
        self.seen.lock().unwrap().push(seen.clone());
        let (reply, act) = self.cast(&seen, act);
        play(client, &reply, &act).await
    }

    /// The answer's bytes and its faults.
    fn cast(&self, seen: &Seen, mut act: Act) -> (Reply, Act) {
        if let Some(row) = act.row.as_deref().and_then(corpus::find) {
            let faults = Act {
                row: None,
                ..row.faults()
            };
            return (row.reply(), faults);
        }
        let mut manner = self.manner.clone();
        if let Some(key) = act.wants_key.take() {
            manner.key = Some(key);
        }
        if manner.key.is_some() && act.has_answer() {
            return match format::refused_key(seen, &manner) {
                Some(refusal) => (refusal, act),
                None => (scripted(&act), act),
            };
        }
        if act.has_answer() {
            return (scripted(&act), act);
        }
        if act.gap_ms == 0 {
            act.gap_ms = u64::try_from(manner.pace.as_millis()).unwrap_or(0);
        }
        (format::answer(seen, &manner), act)
    }

    fn control(&self, seen: &Seen) -> Reply {
        match (seen.method.as_str(), seen.path.as_str()) {
            ("POST", "/_script") => match serde_json::from_value::<Script>(seen.body.clone()) {
                Ok(script) => {
                    let acts = script.acts.len();
                    *self.script.lock().unwrap() = script;
                    Reply::json(200, &json!({"acts": acts}))
                }
                Err(error) => Reply::json(400, &json!({"error": error.to_string()})),
            },
            ("DELETE", "/_script") => {
                self.set([], false);
                self.seen.lock().unwrap().clear();
                Reply::json(200, &json!({"acts": 0}))
            }
            ("GET", "/_seen") => Reply::json(200, &self.report()),
            _ => Reply::json(404, &json!({"error": "POST or DELETE /_script, GET /_seen"})),
        }
    }

    fn report(&self) -> Value {
        let seen: Vec<Value> = self.seen.lock().unwrap().iter().map(Seen::to_json).collect();
        json!({
            "requests": seen.len(),
            "connections": self.connections.load(Ordering::Relaxed),
            "now": self.current.load(Ordering::Relaxed),
            "mostAtOnce": self.most.load(Ordering::Relaxed),
            "hangUps": self.hang_ups.lock().unwrap().len(),
            "seen": seen,
        })
    }
}

/// The answer that an act gives in full.
fn scripted(act: &Act) -> Reply {
    use super::play::Body;
    let mut headers = act.headers.clone();
    let kind = if act.events.is_some() {
        "text/event-stream"
    } else {
        "application/json"
    };
    if !headers.iter().any(|(name, _)| name == "content-type") {
        headers.push(("content-type".into(), kind.into()));
    }
    Reply {
        status: act.status.unwrap_or(200),
        headers,
        body: match &act.events {
            Some(events) => Body::Stream(events.clone()),
            None => Body::Whole(act.body.clone().unwrap_or_default()),
        },
    }
}
