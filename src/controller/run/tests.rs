//! The work from its start to `stop`, on an API server that does not have everything.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use clap::Parser;
use futures::stream::pending;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};

use super::*;
use crate::controller::build::fixtures;

const SOON: Duration = Duration::from_secs(10);
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Lists are refused unless `serves` says otherwise of the resource and of how often it was asked for; writes are refused and noted.
struct Api {
    serves: fn(&str, usize) -> bool,
    asked: watch::Sender<BTreeMap<String, usize>>,
    written: watch::Sender<BTreeSet<String>>,
}

impl Api {
    async fn start(serves: fn(&str, usize) -> bool) -> (Arc<Self>, Config) {
        let (asked, written) = (watch::Sender::default(), watch::Sender::default());
        let api = Arc::new(Self { serves, asked, written });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().fallback(answer).with_state(api.clone());
        tokio::spawn(axum::serve(listener, routes).into_future());
        (api, Config::new(url.parse().unwrap()))
    }

    /// Watches that are interrupted begin again after longer than a reconcile waits for its start.
    async fn asked_for_pods_twice(&self) {
        let mut asked = self.asked.subscribe();
        let twice = asked.wait_for(|asked| asked.get("pods").is_some_and(|times| *times > 1));
        twice.await.unwrap();
    }
}

async fn answer(State(api): State<Arc<Api>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let resource = path.rsplit('/').next().unwrap_or_default().to_owned();
    if request.method() != Method::GET {
        api.written.send_modify(|written| _ = written.insert(path));
        return refusal();
    }
    let is_watch = request.uri().query().is_some_and(|query| query.contains("watch"));
    if is_watch {
        return Body::from_stream(pending::<std::io::Result<Bytes>>()).into_response();
    }
    let mut times = 0;
    api.asked.send_modify(|asked| {
        let count = asked.entry(resource.clone()).or_default();
        *count += 1;
        times = *count;
    });
    if (api.serves)(&resource, times) {
        list(&resource)
    } else {
        refusal()
    }
}

fn refusal() -> Response {
    let body = json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "Forbidden", "code": 403});
    (StatusCode::FORBIDDEN, Json(body)).into_response()
}

fn list(resource: &str) -> Response {
    let named = |name: &&str| {
        let mut deployment = json!(fixtures::remote());
        deployment["metadata"]["name"] = json!(name);
        deployment["metadata"]["uid"] = json!(name);
        deployment
    };
    let is_main = resource == "inferencedeployments";
    let items: Vec<Value> = NAMES.iter().filter(|_| is_main).map(named).collect();
    Json(json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}))
        .into_response()
}

/// Works until `until`, and says whether the work then ended by itself.
async fn ends(config: Config, until: impl Future<Output = ()>) -> bool {
    let flags = ["inference-controller", "--runtime-image=r:1", "--identity=test"];
    let options = Options::try_parse_from(flags).unwrap();
    let (health, metrics, stop) = (
        Health::default(),
        Arc::new(Metrics::default()),
        CancellationToken::new(),
    );
    let stopped = async {
        tokio::time::timeout(SOON, until).await.unwrap();
        stop.cancel();
    };
    let work = async {
        let work = work(&options, config, &health, &metrics, &stop);
        tokio::pin!(work);
        tokio::select! {
            ended = &mut work => panic!("{ended:?} before it was stopped"),
            () = stop.cancelled() => tokio::time::timeout(SOON, work).await.is_ok(),
        }
    };
    tokio::join!(work, stopped).0
}

#[tokio::test]
async fn who_waits_for_caches_in_vain_ends_when_it_is_told_to() {
    let nothing: fn(&str, usize) -> bool = |_, _| false;
    let deployments: fn(&str, usize) -> bool = |resource, _| resource == "inferencedeployments";
    for serves in [nothing, deployments] {
        let (api, config) = Api::start(serves).await;
        assert!(ends(config, api.asked_for_pods_twice()).await);
    }
}

#[tokio::test]
async fn every_reconcile_that_waits_for_the_caches_begins_when_they_are_filled() {
    let (api, config) = Api::start(|resource, times| resource != "pods" || times > 1).await;
    let all = async {
        let status = |name: &str| {
            format!("/apis/inference-operator.dev/v1alpha1/namespaces/default/inferencedeployments/{name}/status")
        };
        let mut written = api.written.subscribe();
        let all = written.wait_for(|written| NAMES.iter().all(|name| written.contains(&status(name))));
        all.await.unwrap();
    };
    assert!(ends(config, all).await);
}
