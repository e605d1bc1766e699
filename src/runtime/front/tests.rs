//! Fronts of several pods in one process: callers with tokens, hops to peers, and places at an engine.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::extract::Request;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{Semaphore, watch},
    time::{interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Front, Lifecycle, Port};
use crate::{
    api::{EngineIsolation, names},
    policy::reach::AllowedAddresses,
    ports::{self, Bound},
    runtime::{
        access::{
            Door,
            token_tests::{Cluster, Signer, claims, cluster, signer},
        },
        backends::{Engine, Means, Registry},
        config::{Identity, Keys, Snapshot},
        local::{EngineTarget, EngineView},
        metrics::Metrics,
        peer::Peers,
        remote::session::client,
        request::{admission::Admission, local::LocalRoute, order::Dispatcher, share::Lines},
    },
};

const DEADLINE: Duration = Duration::from_secs(20);
const OWN: &str = "system:serviceaccount:prod:assistant";
const CHAT: &str = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}"#;

/// A server that answers every chat once it may, and keeps what it was sent.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
    may: Arc<Semaphore>,
}

async fn serve(router: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn port(front: &Arc<Front>, port: Port) -> SocketAddr {
    let bound = Bound::at(SocketAddr::from(([127, 0, 0, 1], 0)), "test").await.unwrap();
    let address = bound.address().unwrap();
    ports::serve(bound, (Arc::clone(front), port), CancellationToken::new());
    address
}

async fn server(may: usize) -> Server {
    let (seen, may) = (Arc::<Mutex<Vec<_>>>::default(), Arc::new(Semaphore::new(may)));
    let (book, gate) = (Arc::clone(&seen), Arc::clone(&may));
    let router = axum::Router::new().fallback(move |request: Request| async move {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        book.lock()
            .unwrap()
            .push((parts.headers, serde_json::from_slice(&body).unwrap()));
        gate.acquire().await.unwrap().forget();
        ([(header::CONTENT_TYPE, "application/json")], CHAT)
    });
    Server {
        address: serve(router).await,
        seen,
        may,
    }
}

impl Server {
    fn seen(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

/// What a pod is made of.
struct Plan<'a> {
    cluster: &'a Cluster,
    signer: &'a Signer,
    engine: Option<EngineView>,
    peers: Vec<SocketAddr>,
    spec: Value,
}

struct Pod {
    front: Arc<Front>,
    api: SocketAddr,
    peer: SocketAddr,
    _token: tempfile::NamedTempFile,
}

async fn pod(plan: Plan<'_>) -> Pod {
    let token = tempfile::NamedTempFile::new().unwrap();
    let audience = names::peer_audience("uid-1");
    std::fs::write(token.path(), plan.signer.sign(&claims(&audience, OWN))).unwrap();
    let snapshot = Arc::new(Snapshot {
        namespace: "prod".into(),
        name: "assistant".into(),
        generation: None,
        spec: serde_json::from_value(plan.spec).unwrap(),
        released: false,
    });
    let engine = plan.engine.map(|view| Engine {
        view: watch::channel(view).1,
        isolation: Some(EngineIsolation::None),
        activity: Arc::default(),
        gpu: watch::channel(None).1,
        hold: Arc::new(watch::channel(None).0),
    });
    let (keys, metrics) = (Keys::Environment, Arc::<Metrics>::default());
    let gate = watch::channel(true).1;
    let means = Means {
        keys: keys.clone(),
        allowed: AllowedAddresses::loopback(),
        salt: String::new(),
    };
    let registry = Arc::new(Registry::new(Arc::clone(&snapshot), means, engine, gate, |_, _| None));
    let peers = Peers::fixed(plan.peers, token.path().to_owned());
    let front = Arc::new(Front {
        admission: Arc::new(Admission::new(Arc::clone(&metrics))),
        dispatcher: Dispatcher {
            registry: Arc::clone(&registry),
            metrics: Arc::clone(&metrics),
            local: LocalRoute::new(client(DEADLINE).unwrap(), Some(peers)),
            lines: Lines::default(),
        },
        door: Door::new(keys, Some(Arc::clone(&plan.cluster.verifier)), &snapshot),
        registry,
        metrics,
        lifecycle: Arc::<Lifecycle>::default(),
        identity: Some(Identity {
            namespace: "prod".into(),
            pod: "assistant-0".into(),
            pod_uid: "pod-1".into(),
            deployment: "assistant".into(),
            deployment_uid: "uid-1".into(),
        }),
    });
    Pod {
        api: port(&front, Port::Client).await,
        peer: port(&front, Port::Peer).await,
        front,
        _token: token,
    }
}

fn ready(engine: &Server, parallel: u32) -> EngineView {
    EngineView::Ready(Arc::new(EngineTarget {
        address: engine.address,
        api_key: Some("engine-key".into()),
        model: None,
        context_length: None,
        parallel,
        gone: CancellationToken::new(),
    }))
}

/// The local backend, then, with `provider`, a remote one that costs nothing to set up.
fn spec(provider: Option<&Server>) -> Value {
    let own = json!({"name": "own", "local": {"engine": "LlamaCpp", "source": {"persistentVolumeClaim": {"claimName": "m", "path": "m.gguf"}}}});
    let far = provider.map(|server| {
        let endpoint = format!("http://{}/v1", server.address);
        json!({"name": "far", "remote": {"provider": "OpenAICompatible", "endpoint": endpoint, "model": "m"}})
    });
    json!({"backends": std::iter::once(own).chain(far).collect::<Vec<_>>()})
}

/// Status, `x-inference-backend`, body.
async fn ask(address: SocketAddr, headers: &[(&'static str, &str)]) -> (u16, String, Value) {
    let mut request = http::Request::post(format!("http://{address}/v1/chat/completions"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = r#"{"model":"assistant","messages":[{"role":"user","content":"Hi"}]}"#;
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let client = client(DEADLINE).unwrap();
    let response = timeout(DEADLINE, client.request(request)).await.unwrap().unwrap();
    let (parts, body) = response.into_parts();
    assert!(parts.headers.contains_key("x-request-id"));
    let backend = parts
        .headers
        .get("x-inference-backend")
        .map(|v| v.to_str().unwrap().to_owned());
    let body = body.collect().await.unwrap().to_bytes();
    (
        parts.status.as_u16(),
        backend.unwrap_or_default(),
        serde_json::from_slice(&body).unwrap(),
    )
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let mut ticks = interval(Duration::from_millis(2));
    let waiting = async {
        while !condition() {
            ticks.tick().await;
        }
    };
    timeout(DEADLINE, waiting)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come"));
}

/// An address that refuses connections for as long as the socket is held: nobody else can have it.
fn refusing() -> (TcpSocket, SocketAddr) {
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = held.local_addr().unwrap();
    (held, address)
}

#[tokio::test]
async fn a_request_hops_to_the_peer_that_has_the_engine() {
    let key = signer("k1");
    let cluster = cluster(&[&key]);
    let plan = |engine, peers, spec| Plan {
        cluster: &cluster,
        signer: &key,
        engine,
        peers,
        spec,
    };
    let (engine, provider) = (server(100).await, server(100).await);
    let holder = pod(plan(Some(ready(&engine, 4)), vec![], spec(None))).await;
    let (_held, nobody) = refusing();
    let forwarder = pod(plan(None, vec![nobody, holder.peer], spec(Some(&provider)))).await;
    for _ in 0..10 {
        let headers = [
            ("authorization", "Bearer the-clients-own"),
            ("x-inference-priority", "high"),
        ];
        let (status, backend, body) = ask(forwarder.api, &headers).await;
        assert_eq!((status, backend.as_str()), (200, "own"), "{body}");
    }
    println!(
        "10 requests with one peer of two dead: {} at the engine, {} at the provider",
        engine.seen(),
        provider.seen()
    );
    assert_eq!((engine.seen(), provider.seen()), (10, 0));
    for (headers, _) in engine.seen.lock().unwrap().iter() {
        assert_eq!(
            headers["authorization"], "Bearer engine-key",
            "never the client's, never the peer's token"
        );
    }
}

#[tokio::test]
async fn a_hop_goes_no_further_and_never_pays() {
    let key = signer("k1");
    let cluster = cluster(&[&key]);
    let plan = |engine, peers, spec| Plan {
        cluster: &cluster,
        signer: &key,
        engine,
        peers,
        spec,
    };
    let (engine, theirs, ours) = (server(100).await, server(100).await, server(100).await);
    let third = pod(plan(Some(ready(&engine, 4)), vec![], spec(None))).await;
    // The second has no engine now, but a peer with one and a provider: a hop may use neither.
    let second = pod(plan(Some(EngineView::Loading), vec![third.peer], spec(Some(&theirs)))).await;
    let first = pod(plan(None, vec![second.peer], spec(Some(&ours)))).await;
    let (status, backend, body) = ask(first.api, &[]).await;
    println!(
        "after one hop to a pod without engine: {status} of {backend:?}; seen by its peer's engine {}, its provider {}, ours {}",
        engine.seen(),
        theirs.seen(),
        ours.seen()
    );
    assert_eq!((status, backend.as_str()), (200, "far"), "{body}");
    assert_eq!((engine.seen(), theirs.seen(), ours.seen()), (0, 0, 1));
}

#[tokio::test]
async fn clients_that_are_turned_away_are_noted_and_answered_ones_too() {
    let key = signer("k1");
    let cluster = cluster(&[&key]);
    let engine = server(100).await;
    for (view, expected) in [(EngineView::Loading, 503), (ready(&engine, 4), 200)] {
        let plan = Plan {
            cluster: &cluster,
            signer: &key,
            engine: Some(view),
            peers: vec![],
            spec: spec(None),
        };
        let pod = pod(plan).await;
        for _ in 0..10 {
            let (status, _, body) = ask(pod.api, &[]).await;
            assert_eq!(status, expected, "{body}");
        }
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(pod.front.registry.turned_away.lasts(), expected == 503);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn the_peer_port_takes_peers_only() {
    let key = signer("k1");
    let cluster = cluster(&[&key]);
    let engine = server(100).await;
    let plan = Plan {
        cluster: &cluster,
        signer: &key,
        engine: Some(ready(&engine, 4)),
        peers: vec![],
        spec: spec(None),
    };
    let pod = pod(plan).await;
    let token = |audience: &str, subject: &str| format!("Bearer {}", key.sign(&claims(audience, subject)));
    let (peers, other) = (names::peer_audience("uid-1"), names::peer_audience("uid-2"));
    let stranger = "system:serviceaccount:prod:other";
    for (authorization, hop, status) in [
        (String::new(), true, 401),
        ("Bearer nonsense".into(), true, 401),
        (format!("Bearer {}", signer("k1").sign(&claims(&peers, OWN))), true, 401),
        (token(&other, OWN), true, 403),
        (token(&peers, stranger), true, 403),
        (token(&peers, OWN), false, 403),
        (token(&peers, OWN), true, 200),
    ] {
        let mut headers = vec![("authorization", authorization.as_str())];
        if hop {
            headers.push(("x-inference-hop", "1"));
        }
        let (told, _, body) = ask(pod.peer, &headers).await;
        assert_eq!(told, status, "{body}");
    }
    assert_eq!(engine.seen(), 1);
    let metrics = pod.front.metrics.text(&pod.front.registry).unwrap();
    for (reason, count) in [("missing", 1), ("invalid", 2), ("forbidden", 3)] {
        let line = format!(r#"inference_access_refusals_total{{port="peer",reason="{reason}"}} {count}"#);
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn service_accounts_are_told_401_or_403_in_openais_shape() {
    let key = signer("k1");
    let cluster = cluster(&[&key]);
    let engine = server(100).await;
    let mut guarded = spec(None);
    let friend = "system:serviceaccount:apps:chat";
    guarded["access"] =
        json!({"type": "ServiceAccount", "serviceAccount": {"audiences": ["models"], "subjects": [friend]}});
    let plan = Plan {
        cluster: &cluster,
        signer: &key,
        engine: Some(ready(&engine, 4)),
        peers: vec![],
        spec: guarded,
    };
    let pod = pod(plan).await;
    let mut expired = claims("models", friend);
    expired["exp"] = json!(1_000_000_000);
    for (credential, status, code) in [
        (String::new(), 401, "invalid_api_key"),
        ("Basic eDp5".into(), 401, "invalid_api_key"),
        (format!("Bearer {}", key.sign(&expired)), 401, "invalid_api_key"),
        (
            format!("Bearer {}", signer("k9").sign(&claims("models", friend))),
            401,
            "invalid_api_key",
        ),
        (
            format!("Bearer {}", key.sign(&claims("other", friend))),
            403,
            "permission_denied",
        ),
        (
            format!("Bearer {}", key.sign(&claims("models", OWN))),
            403,
            "permission_denied",
        ),
        (format!("Bearer {}", key.sign(&claims("models", friend))), 200, ""),
    ] {
        let (told, _, body) = ask(pod.api, &[("authorization", &credential)]).await;
        let error = &body["error"];
        println!("{told} {}: {}", error["code"], error["message"]);
        assert_eq!(
            (told, error["code"].as_str().unwrap_or_default()),
            (status, code),
            "{body}"
        );
        if status != StatusCode::OK.as_u16() {
            assert_eq!(
                (&error["upstream_status"], &error["type"]),
                (&Value::Null, &json!("invalid_request_error"))
            );
            assert_ne!(error["inference_error"]["kind"], "unauthorized");
        }
    }
    assert_eq!(engine.seen(), 1);
}

#[tokio::test]
async fn the_engines_places_go_by_priority_too_and_who_leaves_the_line_costs_nothing() {
    let key = signer("k1");
    let cluster = cluster(&[&key]);
    let engine = server(0).await;
    let plan = Plan {
        cluster: &cluster,
        signer: &key,
        engine: Some(ready(&engine, 1)),
        peers: vec![],
        spec: spec(None),
    };
    let pod = pod(plan).await;
    let (api, waiting) = (pod.api, Arc::<Mutex<Vec<&'static str>>>::default());
    let send = |priority: &'static str| {
        let order = Arc::clone(&waiting);
        tokio::spawn(async move {
            let (status, _, body) = ask(api, &[("x-inference-priority", priority)]).await;
            assert_eq!(status, 200, "{body}");
            order.lock().unwrap().push(priority);
        })
    };
    let first = send("normal");
    until("at the engine", || engine.seen() == 1).await;
    let mut clients = Vec::new();
    for count in 2..8 {
        clients.push(send("background"));
        pod_in_flight(&pod, count).await;
    }
    clients.push(send("critical"));
    pod_in_flight(&pod, 8).await;
    let leaver = send("critical");
    pod_in_flight(&pod, 9).await;
    leaver.abort();
    pod_in_flight(&pod, 8).await;
    engine.may.add_permits(8);
    first.await.unwrap();
    for client in clients {
        timeout(DEADLINE, client).await.unwrap().unwrap();
    }
    let order = waiting.lock().unwrap().clone();
    println!(
        "order at an engine of one place: {order:?}; {} requests at the engine of 9 clients",
        engine.seen()
    );
    assert!(
        order.iter().position(|who| *who == "critical").unwrap() <= 2,
        "{order:?}"
    );
    assert_eq!(engine.seen(), 8);
}

async fn pod_in_flight(pod: &Pod, count: usize) {
    until("taken in", || pod.front.admission.in_flight() == count).await;
}

mod beats;
mod hold;
