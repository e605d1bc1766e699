use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use secrecy::SecretString;
use serde_json::{Value, json};
use tower::service_fn;

use super::*;
use crate::{
    api::ReplicaCircuit,
    error::InferenceError,
    runtime::local::{EngineTarget, Verdict},
};

fn poisoned() -> EngineView {
    EngineView::Restarting(InferenceError::CudaContextPoisoned {
        message: "CUDA error: unspecified launch failure".to_owned(),
    })
}

fn ready() -> EngineView {
    EngineView::Ready(Arc::new(EngineTarget {
        address: ([127, 0, 0, 1], 1).into(),
        api_key: Some(SecretString::from("k")),
        model: None,
        context_length: None,
        parallel: 1,
        gone: CancellationToken::new(),
    }))
}

fn refused(state: CircuitState, last_error: &str) -> InferenceReplicaStatus {
    InferenceReplicaStatus {
        circuits: vec![ReplicaCircuit {
            state,
            trips: 1,
            last_error: Some(last_error.to_owned()),
            message: "Incorrect API key provided".to_owned(),
            ..ReplicaCircuit::closed("openai".to_owned(), CircuitScope::Credential, String::new())
        }],
        ..InferenceReplicaStatus::default()
    }
}

#[test]
fn an_engine_that_dies_is_told_once_and_so_is_its_return() {
    let mut told = Told::default();
    assert_eq!(told.engine(&EngineView::Loading), None);
    assert_eq!(told.engine(&ready()), None);
    let note = told.engine(&poisoned()).unwrap();
    assert_eq!((note.warning, note.reason), (true, "ContextPoisoned"));
    assert_eq!(told.engine(&poisoned()), None);
    assert_eq!(
        told.engine(&ready()).map(|note| (note.warning, note.reason)),
        Some((false, "Loaded"))
    );
    assert_eq!(told.engine(&ready()), None);
    assert!(told.engine(&poisoned()).is_some());
}

#[test]
fn a_download_is_told_in_quarters_and_its_failure_by_its_reason() {
    let mut told = Told::default();
    let mut notes = Vec::new();
    for percent in (0..=100).step_by(5) {
        let download = Download {
            bytes: percent * 10,
            total: Some(1000),
        };
        notes.extend(told.engine(&EngineView::Downloading(download)));
    }
    assert_eq!(notes.len(), 5, "{notes:?}");
    assert!(notes.iter().all(|note| !note.warning && note.reason == "Downloading"));
    assert!(notes[2].text.contains("500 of 1000 bytes"), "{}", notes[2].text);
    let loading = told.engine(&EngineView::Loading).unwrap();
    assert!(loading.text.contains("downloaded and verified"), "{}", loading.text);
    assert_eq!(told.engine(&EngineView::Loading), None);
    let error = InferenceError::Unauthorized {
        message: "put a valid token into key token of Secret hf".to_owned(),
    };
    let failed = told
        .engine(&EngineView::NoModel(Verdict::DownloadUnauthorized, error))
        .unwrap();
    assert_eq!((failed.warning, failed.reason), (true, "DownloadUnauthorized"));
    assert!(failed.text.contains("Secret hf"), "{}", failed.text);
}

/// Nobody here starts it.
#[test]
fn an_engine_elsewhere_is_asked_again_and_not_started_anew() {
    let mut told = Told {
        elsewhere: true,
        ..Told::default()
    };
    let away = EngineView::Restarting(InferenceError::NetworkError {
        message: "the engine at vllm.team:8000 does not answer".to_owned(),
    });
    let note = told.engine(&away).unwrap();
    assert_eq!(note.reason, "EngineRestarting");
    assert!(
        note.text.starts_with("the engine is asked again until it serves: ") && note.text.contains("vllm.team:8000"),
        "{}",
        note.text
    );
    assert_eq!(told.engine(&ready()).map(|note| note.reason), Some("Loaded"));
    told.elsewhere = false;
    let own = told.engine(&away).unwrap();
    assert!(own.text.starts_with("the engine is started anew: "), "{}", own.text);
}

#[test]
fn refused_credentials_are_told_when_they_begin_to_be() {
    let mut told = Told::default();
    let reasons = |notes: Vec<Note>| notes.iter().map(|note| note.reason).collect::<Vec<_>>();
    assert_eq!(
        reasons(told.credentials(&refused(CircuitState::Open, "unauthorized"))),
        ["Unauthorized"]
    );
    assert!(
        told.credentials(&refused(CircuitState::HalfOpen, "unauthorized"))
            .is_empty()
    );
    assert!(told.credentials(&InferenceReplicaStatus::default()).is_empty());
    assert_eq!(
        reasons(told.credentials(&refused(CircuitState::Open, "forbidden"))),
        ["Forbidden"]
    );
}

#[test]
fn an_event_says_what_the_provider_said_and_blames_no_key_for_a_quota() {
    let text = |last_error: &str, message: &str| {
        let mut status = refused(CircuitState::Open, last_error);
        status.circuits[0].message = message.to_owned();
        let note = Told::default().credentials(&status).remove(0);
        (note.reason, note.text)
    };
    for (last_error, reason, expected) in [
        (
            "unauthorized",
            "Unauthorized",
            "backend openai: the provider refuses the credentials",
        ),
        (
            "budget_exceeded",
            "Exhausted",
            "backend openai: the provider has no quota left for the account",
        ),
        (
            "rate_limited",
            "UpstreamRateLimited",
            "backend openai: the provider has nothing left of the day's quota for the account",
        ),
    ] {
        assert_eq!(text(last_error, ""), (reason, expected.to_owned()));
        assert_eq!(text(last_error, "no").1, format!("{expected}: no"));
    }
}

#[test]
fn circuits_of_endpoints_are_the_controllers_to_tell() {
    let mut status = refused(CircuitState::Open, "server_error");
    status.circuits[0].scope = CircuitScope::Endpoint;
    assert!(Told::default().credentials(&status).is_empty());
}

fn answer(body: &Value) -> Response<Body> {
    let mut answer = Response::new(Body::from(body.to_string().into_bytes()));
    *answer.status_mut() = StatusCode::OK;
    answer
}

/// An API server that holds our object and keeps the Events it is given.
async fn handle(events: Arc<Mutex<Vec<Value>>>, request: Request<Body>) -> Result<Response<Body>, std::io::Error> {
    if request.method() == Method::GET {
        return Ok(answer(&json!({
            "apiVersion": "inference-operator.dev/v1alpha1", "kind": "InferenceReplica",
            "metadata": {"name": "p", "namespace": "default", "uid": "replica-uid"},
            "spec": {"podUID": "pod-uid", "deploymentName": "d", "deploymentUID": "u"},
        })));
    }
    let body = request.into_body().collect_bytes().await.unwrap_or_default();
    let event: Value = serde_json::from_slice(&body).unwrap();
    events.lock().unwrap().push(event.clone());
    Ok(answer(&event))
}

#[tokio::test(start_paused = true)]
async fn an_event_regards_our_object_and_is_written_before_the_end() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&events);
    let client = Client::new(
        service_fn(move |request| handle(Arc::clone(&shared), request)),
        "default",
    );
    let own = OwnReplica {
        namespace: "default".to_owned(),
        pod: "p".to_owned(),
        pod_uid: "pod-uid".to_owned(),
    };
    let (_news, news) = watch::channel(News::default());
    let (view, engine) = watch::channel(EngineView::Loading);
    let shutdown = CancellationToken::new();
    let watched = Watched {
        view: engine,
        elsewhere: false,
    };
    let task = tokio::spawn(run(client, own, news, Some(watched), shutdown.clone()));
    tokio::task::yield_now().await;
    view.send_replace(EngineView::Failed(InferenceError::ServerError {
        status: 500,
        body: Some("the engine ended unasked with exit status 1: bad model".to_owned()),
    }));
    drop(view);
    shutdown.cancel();
    task.await.unwrap();
    let events = events.lock().unwrap();
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!(event["reason"], "EngineStartFailed");
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["regarding"]["uid"], "replica-uid");
    assert_eq!(event["related"]["uid"], "pod-uid");
    assert_eq!(
        event["note"],
        "the engine is given up: the engine ended unasked with exit status 1: bad model"
    );
}
