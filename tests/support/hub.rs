//! The Hugging Face hub and the network that its files come from, played from outside: two HTTP servers, with every fault a test asks for.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// The commit that `main` is.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The one repository there is.
pub const REPOSITORY: &str = "tiny/model";
const CHUNK: usize = 16 * 1024;

/// What happens to one answer with a file's bytes.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The connection breaks after so many bytes.
    Cut(usize),
    /// Nothing more comes after so many bytes.
    Stall(usize),
    /// Nothing more comes after so many bytes until [`Hub::go_on`].
    Pause(usize),
    /// The whole comes, whatever was asked for.
    IgnoreRange,
    /// The whole begins, whatever was asked for, and the connection breaks after so many bytes.
    CutWhole(usize),
    /// The last byte is another one.
    Corrupt,
    /// The file has only so many bytes here: its mirror has not got the rest.
    Short(usize),
    /// Status 503 and when to come again.
    Busy(&'static str),
    /// A status instead.
    Status(u16),
}

/// A request that was seen.
#[derive(Clone, Debug)]
pub struct Asked {
    pub at_hub: bool,
    pub path: String,
    pub range: Option<String>,
    pub if_range: Option<String>,
    pub authorization: Option<String>,
}

pub struct Hub {
    pub address: SocketAddr,
    pub cdn: SocketAddr,
    state: Arc<Shared>,
    servers: [JoinHandle<()>; 2],
}

struct Shared {
    cdn: SocketAddr,
    files: Mutex<BTreeMap<String, Bytes>>,
    token: Mutex<Option<String>>,
    /// Status and error code of every answer of the hub.
    refusal: Mutex<Option<(u16, &'static str)>>,
    claimed: Mutex<Option<u64>>,
    faults: Mutex<VecDeque<Fault>>,
    asked: Mutex<Vec<Asked>>,
    going: watch::Sender<bool>,
}

impl Hub {
    /// With these files.
    pub async fn start(address: IpAddr, files: &[(&str, &[u8])]) -> Self {
        let (hub, cdn) = (
            TcpListener::bind((address, 0)).await.unwrap(),
            TcpListener::bind((address, 0)).await.unwrap(),
        );
        let (hub_address, cdn_address) = (hub.local_addr().unwrap(), cdn.local_addr().unwrap());
        let files = files
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), Bytes::copy_from_slice(bytes)));
        let state = Arc::new(Shared {
            cdn: cdn_address,
            files: Mutex::new(files.collect()),
            token: Mutex::default(),
            refusal: Mutex::default(),
            claimed: Mutex::default(),
            faults: Mutex::default(),
            asked: Mutex::default(),
            going: watch::Sender::new(false),
        });
        let serve =
            |listener, router: Router| tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let servers = [
            serve(hub, Router::new().fallback(at_hub).with_state(Arc::clone(&state))),
            serve(cdn, Router::new().fallback(at_cdn).with_state(Arc::clone(&state))),
        ];
        Self {
            address: hub_address,
            cdn: cdn_address,
            state,
            servers,
        }
    }

    /// Address of the hub, as the operator's flag has it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Address of a file without the hub.
    pub fn location(&self, file: &str) -> String {
        format!("http://{}/{file}?sig=signature", self.cdn)
    }

    pub fn sha256(&self, file: &str) -> String {
        hex(&Sha256::digest(&self.state.files.lock().unwrap()[file]))
    }

    pub fn require_token(&self, token: Option<&str>) {
        *self.state.token.lock().unwrap() = token.map(|token| format!("Bearer {token}"));
    }

    pub fn refuse(&self, status: u16, code: &'static str) {
        *self.state.refusal.lock().unwrap() = Some((status, code));
    }

    /// Every file is said to be of so many bytes.
    pub fn claim(&self, bytes: u64) {
        *self.state.claimed.lock().unwrap() = Some(bytes);
    }

    /// Of the next answers with bytes, one each.
    pub fn faults(&self, faults: &[Fault]) {
        self.state.faults.lock().unwrap().extend(faults);
    }

    pub fn go_on(&self) {
        self.state.going.send_replace(true);
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    /// Requests for bytes.
    pub fn bytes_asked(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| !asked.at_hub).collect()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

impl Shared {
    fn see(&self, at_hub: bool, request: &Request) {
        let header = |name| request.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
        self.asked.lock().unwrap().push(Asked {
            at_hub,
            path: request.uri().path().to_owned(),
            range: header(header::RANGE),
            if_range: header(header::IF_RANGE),
            authorization: header(header::AUTHORIZATION),
        });
    }

    fn listing(&self) -> Value {
        let claimed = *self.claimed.lock().unwrap();
        let siblings: Vec<Value> = self
            .files
            .lock()
            .unwrap()
            .iter()
            .map(|(name, bytes)| {
                let size = claimed.unwrap_or(bytes.len() as u64);
                if Path::new(name).extension().is_some_and(|kind| kind == "json") {
                    return json!({"rfilename": name, "size": size, "blobId": git_blob(bytes)});
                }
                let lfs = json!({"sha256": hex(&Sha256::digest(bytes)), "size": size, "pointerSize": 134});
                json!({"rfilename": name, "size": size, "blobId": "00", "lfs": lfs})
            })
            .collect();
        json!({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings})
    }
}

/// What Git calls the bytes.
fn git_blob(bytes: &[u8]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(format!("blob {}\0", bytes.len()).as_bytes());
    context.update(bytes);
    hex(context.finish().as_ref())
}

fn refused(status: u16, code: &str) -> Response {
    let headers = [("x-error-code", code), ("x-error-message", "the hub's own words")];
    (StatusCode::from_u16(status).unwrap(), headers).into_response()
}

async fn at_hub(State(state): State<Arc<Shared>>, request: Request) -> Response {
    state.see(true, &request);
    if let Some((status, code)) = *state.refusal.lock().unwrap() {
        return refused(status, code);
    }
    let shown = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok());
    if state
        .token
        .lock()
        .unwrap()
        .as_deref()
        .is_some_and(|token| shown != Some(token))
    {
        return refused(401, if shown.is_some() { "" } else { "GatedRepo" });
    }
    let path = request.uri().path();
    let revision = path.strip_prefix(&format!("/api/models/{REPOSITORY}/revision/"));
    match revision {
        Some("main" | COMMIT) => return axum::Json(state.listing()).into_response(),
        Some(_) => return refused(404, "RevisionNotFound"),
        None => {}
    }
    match path.strip_prefix(&format!("/{REPOSITORY}/resolve/{COMMIT}/")) {
        Some(file) => {
            let location = format!("http://{}/{file}?sig=signature", state.cdn);
            (StatusCode::FOUND, [(header::LOCATION, location)]).into_response()
        }
        None => refused(404, "RepoNotFound"),
    }
}

async fn at_cdn(State(state): State<Arc<Shared>>, request: Request) -> Response {
    state.see(false, &request);
    let name = request.uri().path().trim_start_matches('/');
    let Some(bytes) = state.files.lock().unwrap().get(name).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let fault = state.faults.lock().unwrap().pop_front();
    if let Some(Fault::Status(status)) = fault {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    if let Some(Fault::Busy(until)) = fault {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, until)]).into_response();
    }
    let bytes = match fault {
        Some(Fault::Short(n)) => bytes.slice(..n),
        _ => bytes,
    };
    let start = match fault {
        Some(Fault::IgnoreRange | Fault::CutWhole(_)) => None,
        _ => first_byte(request.headers()),
    };
    if start.is_some_and(|start| start >= bytes.len()) {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    let rest = bytes.slice(start.unwrap_or(0)..);
    let answer = Response::builder()
        .header(header::ETAG, format!("\"{}\"", hex(&Sha256::digest(&bytes))))
        .header(header::CONTENT_LENGTH, rest.len());
    let answer = match start {
        Some(start) => {
            let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
            answer.status(206).header(header::CONTENT_RANGE, range)
        }
        None => answer.status(200),
    };
    answer
        .body(Body::from_stream(body(rest, fault, state.going.subscribe())))
        .unwrap()
}

fn first_byte(headers: &HeaderMap) -> Option<usize> {
    let range = headers.get(header::RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

fn body(
    bytes: Bytes,
    fault: Option<Fault>,
    mut going: watch::Receiver<bool>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let mut sent = bytes.to_vec();
    let (first, then) = match fault {
        Some(Fault::Cut(n) | Fault::CutWhole(n) | Fault::Stall(n) | Fault::Pause(n)) => (n.min(sent.len()), fault),
        Some(Fault::Corrupt) => {
            *sent.last_mut().unwrap() ^= 1;
            (sent.len(), None)
        }
        _ => (sent.len(), None),
    };
    let rest = Bytes::from(sent.split_off(first));
    let chunks = |bytes: &[u8]| -> Vec<io::Result<Bytes>> {
        bytes
            .chunks(CHUNK)
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect()
    };
    let (first, last) = (chunks(&sent), chunks(&rest));
    let fate = async move {
        // What was sent is on its way before the fault comes.
        tokio::task::yield_now().await;
        match then {
            Some(Fault::Cut(_) | Fault::CutWhole(_)) => vec![Err(io::Error::other("cut"))],
            Some(Fault::Stall(_)) => std::future::pending().await,
            Some(Fault::Pause(_)) => {
                going.wait_for(|going| *going).await.unwrap();
                last
            }
            _ => last,
        }
    };
    stream::iter(first).chain(stream::once(fate).flat_map(stream::iter))
}
