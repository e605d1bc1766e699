//! What the controller tells of circuits, and what becomes of it here.

use serde_json::{Value, json};

use super::*;
use crate::{
    api::CircuitState,
    policy::circuit::marks,
    runtime::{backends::replica_news, config::Keys},
};

struct House {
    registry: Registry,
    keys: tempfile::TempDir,
}

fn snapshot(endpoint: &str) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        namespace: "prod".into(),
        name: "assistant".into(),
        generation: Some(1),
        spec: serde_json::from_value(json!({"backends": [{"name": "far", "remote": {
            "provider": "OpenAI", "endpoint": endpoint, "model": "m",
            "credentials": {"secret": {"name": "s", "key": "k"}},
        }}]}))
        .unwrap(),
        released: false,
    })
}

impl House {
    fn new() -> Self {
        let keys = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(keys.path().join("s")).unwrap();
        std::fs::write(keys.path().join("s/k"), "sk-one").unwrap();
        let means = Means {
            keys: Keys::Directory(keys.path().to_owned()),
            allowed: crate::policy::reach::AllowedAddresses::default(),
            salt: "uid".into(),
        };
        let gate = watch::channel(true).1;
        let engine = Engine {
            view: watch::channel(EngineView::Loading).1,
            isolation: None,
            activity: Arc::default(),
            gpu: watch::channel(None).1,
            hold: Arc::new(watch::channel(None).0),
        };
        let registry = Registry::new(snapshot("https://a.example/v1"), means, Some(engine), gate, |_, _| None);
        Self { registry, keys }
    }

    fn remote(&self) -> Arc<Remote> {
        let routing = self.registry.routing();
        let Kind::Remote(remote) = &routing.backends[0].kind else {
            panic!("it is remote")
        };
        Arc::clone(remote)
    }

    fn target(&self) -> String {
        marks::target(&self.remote().spec)
    }

    fn news(&self) -> News {
        replica_news(&self.registry, "boot", true)
    }

    /// Our object with this merged circuit in its spec and nothing in its status.
    fn tell(&self, version: &str, circuit: Value) {
        let replica = json!({
            "apiVersion": "inference-operator.dev/v1alpha1", "kind": "InferenceReplica",
            "metadata": {"name": "p", "resourceVersion": version},
            "spec": {"podUID": "p", "deploymentName": "assistant", "deploymentUID": "uid", "circuits": [circuit]},
        });
        self.registry.told(&serde_json::from_value(replica).unwrap());
    }

    fn open(&self, sequence: u64, scope: &str) -> Value {
        json!({
            "backend": "far", "scope": scope, "target": self.target(), "epoch": 3, "sequence": sequence, "state": "Open",
            "openedAt": "2026-01-01T00:00:00Z", "retryAt": "2026-01-01T00:00:30Z", "trips": 2,
        })
    }

    fn refused(&self) -> Option<CircuitScope> {
        self.remote().admit().err().map(|(scope, _)| scope)
    }
}

#[tokio::test]
async fn an_open_circuit_that_is_told_at_the_start_lets_nothing_through() {
    let house = House::new();
    house.tell("7", house.open(5, "Endpoint"));
    assert_eq!(house.refused(), Some(CircuitScope::Endpoint), "retryAt is long past");
    let news = house.news();
    let row = &news.status.circuits[0];
    assert_eq!(
        (row.state, row.epoch, row.sequence, row.trips),
        (CircuitState::Open, 3, 5, 2)
    );
    assert!(row.demand && row.target == house.target());
}

#[tokio::test]
async fn demand_is_urgent_news_once_a_probe_is_due() {
    let house = House::new();
    house.tell("7", house.open(5, "Endpoint"));
    let before = house.registry.signals.count();
    assert!(house.refused().is_some());
    assert_eq!(house.registry.signals.count(), before + 1);
    assert!(house.refused().is_some());
    assert_eq!(house.registry.signals.count(), before + 1, "once");
    let mut later = house.open(6, "Endpoint");
    later["retryAt"] = json!("2099-01-01T00:00:00Z");
    let house = House::new();
    house.tell("7", later);
    let before = house.registry.signals.count();
    assert!(house.refused().is_some());
    assert_eq!(house.registry.signals.count(), before, "it may wait");
}

#[tokio::test]
async fn a_token_is_accepted_over_the_state_that_carried_it_and_allows_one_probe_after() {
    let house = House::new();
    house.tell("7", house.open(5, "Endpoint"));
    assert_eq!(house.news().over, None);
    let mut offered = house.open(6, "Endpoint");
    offered["probe"] = json!({"sequence": 6, "calls": 1});
    house.tell("8", offered);
    let news = house.news();
    assert_eq!(news.over.as_deref(), Some("8"));
    assert_eq!(news.status.circuits[0].probe.map(|p| p.sequence), Some(6));
    assert!(house.refused().is_some(), "not written yet");
    house.registry.written(&news);
    assert_eq!(house.news().over, None);
    let remote = house.remote();
    let (endpoint, _credential) = remote.admit().unwrap();
    assert!(endpoint.is_probe());
    assert!(house.refused().is_some(), "one");
}

#[tokio::test]
async fn a_status_that_was_not_written_over_that_state_accepts_nothing() {
    let house = House::new();
    let mut offered = house.open(6, "Endpoint");
    offered["probe"] = json!({"sequence": 6, "calls": 1});
    house.tell("8", offered);
    let news = News {
        over: None,
        ..house.news()
    };
    house.registry.written(&news);
    assert!(house.refused().is_some());
}

#[tokio::test]
async fn a_configuration_that_comes_later_follows_what_was_told_before() {
    let house = House::new();
    let mut circuit = house.open(5, "Endpoint");
    house.registry.configure(snapshot("https://b.example/v1"));
    circuit["target"] = json!(house.target());
    let house = House::new();
    house.tell("7", circuit);
    assert_eq!(house.refused(), None, "another endpoint's circuit");
    house.registry.configure(snapshot("https://b.example/v1"));
    assert_eq!(house.refused(), Some(CircuitScope::Endpoint));
}

#[tokio::test]
async fn the_circuit_of_a_key_binds_while_the_key_is_the_same() {
    let house = House::new();
    let mut circuit = house.open(5, "Credential");
    circuit["keyHash"] = json!(marks::key_hash("uid", "sk-one"));
    house.tell("7", circuit.clone());
    assert_eq!(house.refused(), Some(CircuitScope::Credential));
    std::fs::write(house.keys.path().join("s/k"), "sk-two").unwrap();
    house.registry.refresh_keys();
    let probe = house.remote().admit();
    assert!(probe.is_ok(), "the new key is tried at once");
    assert!(house.refused().is_some(), "by one request");
    std::fs::write(house.keys.path().join("s/k"), "sk-one").unwrap();
    house.registry.refresh_keys();
    assert_eq!(
        house.refused(),
        Some(CircuitScope::Credential),
        "the old one is still refused"
    );
    circuit["keyHash"] = json!("another");
    circuit["sequence"] = json!(6);
    let other = House::new();
    other.tell("7", circuit);
    assert_eq!(other.refused(), None);
    let rows = serde_json::to_string(&house.news().status).unwrap();
    assert!(!rows.contains("sk-one"), "{rows}");
}

#[test]
fn how_long_a_model_may_load_is_told_with_every_configuration() {
    let house = House::new();
    let activity = Arc::clone(&house.registry.engine.as_ref().unwrap().activity);
    assert_eq!(*activity.load().borrow(), None, "there is no local backend");
    for (field, minutes) in [(json!("2h"), 120), (Value::Null, 30)] {
        let mut snapshot = Snapshot::clone(&snapshot("https://a.example/v1"));
        let local = json!({"engine": "Custom", "image": "i", "command": ["c"], "loadTimeout": field});
        snapshot.spec = serde_json::from_value(json!({"backends": [{"name": "own", "local": local}]})).unwrap();
        house.registry.configure(Arc::new(snapshot));
        assert_eq!(
            *activity.load().borrow(),
            Some(std::time::Duration::from_secs(minutes * 60))
        );
    }
}

/// Attempts of a minute, and what is told at its end.
async fn minute(house: &House, limited: u32, attempts: u32) -> (bool, String) {
    for attempt in 0..attempts {
        house.remote().limited().note(attempt < limited);
    }
    tokio::time::advance(std::time::Duration::from_secs(60)).await;
    let report = house.news().status.backends.remove(0);
    assert_eq!(report.message.is_empty(), report.reason == "Available");
    (report.available, report.reason)
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_limits_most_requests_of_a_minute_is_told_and_still_asked() {
    let house = House::new();
    assert_eq!(minute(&house, 30, 100).await, (true, "Available".into()));
    assert_eq!(minute(&house, 60, 100).await, (true, "UpstreamRateLimited".into()));
    house.registry.configure(snapshot("https://a.example/v1"));
    assert_eq!(minute(&house, 30, 100).await, (true, "UpstreamRateLimited".into()));
    assert_eq!(minute(&house, 0, 0).await, (true, "Available".into()));
    assert_eq!(house.registry.signals.count(), 0, "nothing of it is urgent");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_turns_clients_away_for_a_minute_says_so() {
    let house = House::new();
    for request in 0..100 {
        house.registry.turned_away.note(request < 11);
    }
    assert!(!house.news().status.saturated);
    tokio::time::advance(std::time::Duration::from_secs(60)).await;
    assert!(house.news().status.saturated);
    tokio::time::advance(std::time::Duration::from_secs(60)).await;
    assert!(!house.news().status.saturated);
}
