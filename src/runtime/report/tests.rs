use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;

use super::*;

/// An API server that holds one InferenceReplica; `refuse` writes are answered 500 first.
#[derive(Default)]
struct Server {
    pod_uid: String,
    refuse: u32,
    reads: u32,
    writes: Vec<(Duration, Value)>,
}

fn answer(status: StatusCode, body: &Value) -> Response<Body> {
    Response::builder()
        .status(status)
        .body(Body::from(body.to_string().into_bytes()))
        .unwrap()
}

fn object(server: &Server) -> Value {
    json!({
        "apiVersion": "inference-operator.dev/v1alpha1", "kind": "InferenceReplica", "metadata": {"name": "p"},
        "spec": {"podUID": server.pod_uid, "deploymentName": "d", "deploymentUID": "u"},
    })
}

async fn handle(
    server: Arc<Mutex<Server>>,
    started: Instant,
    request: Request<Body>,
) -> Result<Response<Body>, std::io::Error> {
    let patch = request.method() == http::Method::PATCH;
    let query = request.uri().query().unwrap_or_default().to_owned();
    if query.contains("watch=true") {
        return std::future::pending().await;
    }
    let list = request.uri().path().ends_with("/inferencereplicas");
    let body = request.into_body().collect_bytes().await.unwrap_or_default();
    let mut server = server.lock().unwrap();
    if list {
        let items = json!({"apiVersion": "inference-operator.dev/v1alpha1", "kind": "InferenceReplicaList",
            "metadata": {"resourceVersion": "1"}, "items": [object(&server)]});
        return Ok(answer(StatusCode::OK, &items));
    }
    if !patch {
        server.reads += 1;
        return Ok(answer(StatusCode::OK, &object(&server)));
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    server.writes.push((started.elapsed(), body["status"].clone()));
    if server.refuse > 0 {
        server.refuse -= 1;
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 501, "reason": "No", "message": "no"});
        return Ok(answer(StatusCode::NOT_IMPLEMENTED, &status));
    }
    Ok(answer(StatusCode::OK, &object(&server)))
}

struct Deaf;

impl Ears for Deaf {
    fn told(&self, _replica: &InferenceReplica) {}
    fn told_version(&self) -> Option<String> {
        None
    }
    fn written(&self, _news: &News) {}
}

struct World {
    server: Arc<Mutex<Server>>,
    news: watch::Sender<News>,
    gate: watch::Receiver<bool>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn start(server: Server) -> World {
    let server = Arc::new(Mutex::new(server));
    let (shared, started) = (Arc::clone(&server), Instant::now());
    let client = Client::new(
        service_fn(move |request| handle(Arc::clone(&shared), started, request)),
        "default",
    );
    let own = OwnReplica {
        namespace: "default".into(),
        pod: "p".into(),
        pod_uid: "mine".into(),
    };
    let ((news, news_rx), (gate_tx, gate)) = (watch::channel(News::default()), watch::channel(false));
    let shutdown = CancellationToken::new();
    let ears: Arc<dyn Ears> = Arc::new(Deaf);
    let inbox = inbox::run(
        client.clone(),
        own.clone(),
        Arc::clone(&ears),
        gate_tx,
        shutdown.clone(),
    );
    tokio::spawn(inbox);
    let task = tokio::spawn(run(client, own, news_rx, ears, gate.clone(), shutdown.clone()));
    World {
        server,
        news,
        gate,
        shutdown,
        task,
    }
}

impl World {
    fn say(&self, generation: i64, urgent: bool) {
        self.news.send_modify(|news| {
            news.status.observed_generation = Some(generation);
            news.urgent += u64::from(urgent);
        });
    }

    async fn advance(&self, time: Duration) {
        tokio::time::advance(time).await;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    fn writes(&self) -> usize {
        self.server.lock().unwrap().writes.len()
    }
}

fn ours() -> Server {
    Server {
        pod_uid: "mine".into(),
        ..Server::default()
    }
}

#[tokio::test(start_paused = true)]
async fn the_gate_opens_after_a_live_read_of_our_own_object() {
    let mut world = start(ours());
    world.gate.wait_for(|open| *open).await.unwrap();
    assert_eq!(world.server.lock().unwrap().reads, 1);
}

#[tokio::test(start_paused = true)]
async fn an_earlier_pods_object_keeps_the_gate_shut() {
    let world = start(Server {
        pod_uid: "another".into(),
        ..Server::default()
    });
    world.advance(Duration::from_secs(5)).await;
    assert!(!*world.gate.borrow());
    assert_eq!(world.writes(), 0);
    world.server.lock().unwrap().pod_uid = "mine".into();
    world.gate.clone().wait_for(|open| *open).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn idle_time_writes_nothing_and_news_are_gathered() {
    let mut world = start(ours());
    world.gate.wait_for(|open| *open).await.unwrap();
    world.advance(Duration::from_millis(1)).await;
    assert_eq!(world.writes(), 1, "the first report");
    for generation in 1..=100 {
        world.say(generation, false);
        world.advance(Duration::from_millis(10)).await;
    }
    assert_eq!(world.writes(), 1, "routine news wait 5 s");
    world.advance(Duration::from_secs(5)).await;
    assert_eq!(world.writes(), 2);
    assert_eq!(world.server.lock().unwrap().writes[1].1["observedGeneration"], 100);
    world.advance(Duration::from_secs(600)).await;
    assert_eq!(world.writes(), 2, "ten idle minutes: zero writes");
}

#[tokio::test(start_paused = true)]
async fn urgent_news_are_written_within_a_quarter_second() {
    let mut world = start(ours());
    world.gate.wait_for(|open| *open).await.unwrap();
    world.advance(Duration::from_millis(1)).await;
    world.say(1, true);
    world.advance(Duration::from_millis(260)).await;
    assert_eq!(world.writes(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_is_tried_again_until_it_stands() {
    let mut world = start(Server { refuse: 3, ..ours() });
    world.gate.wait_for(|open| *open).await.unwrap();
    for _ in 0..40 {
        world.advance(Duration::from_secs(1)).await;
    }
    assert_eq!(world.writes(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_last_report_is_written_before_the_end() {
    let mut world = start(ours());
    world.gate.wait_for(|open| *open).await.unwrap();
    world.advance(Duration::from_millis(1)).await;
    world.say(7, false);
    world.shutdown.cancel();
    world.task.await.unwrap();
    let server = world.server.lock().unwrap();
    assert_eq!(server.writes.last().unwrap().1["observedGeneration"], 7);
}
