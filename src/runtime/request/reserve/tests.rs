//! Requests that wait for money which a controller has not granted yet, in paused time.

use bytes::Bytes;
use http::HeaderValue;
use serde_json::json;
use tokio::sync::watch;

use super::*;
use crate::{
    api::{LeaseGrant, NanoUsd, ReplicaBudget, WindowEnd},
    policy::{budget::journal::boot_id, reach::AllowedAddresses},
    runtime::{
        backends::{Leased, Means, Registry},
        config::{Keys, Snapshot},
        remote::session::client,
        request::{
            head::{Operation, read},
            local::LocalRoute,
            outcome::Progress,
            share::Lines,
        },
    },
};

const TOTAL: Duration = Duration::from_secs(2);

fn registry() -> Arc<Registry> {
    let spec = json!({"budget": {"limit": "1.00", "period": "Total"}, "backends": [{"name": "far", "remote": {
        "provider": "OpenAICompatible", "endpoint": "http://127.0.0.1:9/v1", "model": "m",
        "timeouts": {"connect": "1s", "firstToken": "1s", "idle": "1s", "total": "2s"}, "retry": {"maxRetries": 0},
        "price": {"inputPerMillionTokens": "1", "outputPerMillionTokens": "1"}}}]});
    let snapshot = Snapshot {
        namespace: "prod".into(),
        name: "assistant".into(),
        generation: None,
        spec: serde_json::from_value(spec).unwrap(),
        released: false,
    };
    let means = Means {
        keys: Keys::Environment,
        allowed: AllowedAddresses::loopback(),
        salt: String::new(),
    };
    let gate = watch::channel(true).1;
    let money = |clock, signals: &Arc<_>| {
        Some(Money::leased(Arc::new(Leased::new(
            boot_id(1),
            None,
            clock,
            Arc::clone(signals),
        ))))
    };
    Arc::new(Registry::new(Arc::new(snapshot), means, None, gate, money))
}

fn job() -> Job {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"Hi"}],"max_tokens":5}"#;
    Job {
        head: read(Operation::Chat, body.as_bytes()).unwrap(),
        body: Bytes::from(body),
        id: HeaderValue::from_static("r"),
        priority: None,
        hop: false,
    }
}

fn granted() -> ReplicaBudget {
    ReplicaBudget {
        sequence: 1,
        window: WindowEnd { number: 1, end: None },
        leases: vec![LeaseGrant {
            id: 1,
            boot_id: boot_id(1),
            window: 1,
            granted: NanoUsd(900_000_000),
            recall_to: None,
        }],
        denied: None,
    }
}

/// The queue's patience is 30 s; a request that went out after its own 2 s would have no time left, and its money would be uncertain.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_money_beyond_the_time_of_the_attempt() {
    let registry = registry();
    let dispatcher = Dispatcher {
        registry: Arc::clone(&registry),
        metrics: Arc::default(),
        local: LocalRoute::new(client(TOTAL).unwrap(), None),
        lines: Lines::default(),
    };
    let leases = Arc::clone(registry.leases().unwrap());
    let (routing, job, began) = (registry.routing(), job(), Instant::now());
    let grant = async {
        tokio::time::sleep(5 * TOTAL).await;
        leases.told(&granted());
    };
    let ask = async {
        let lost = dispatcher.dispatch(&routing, &job).await.unwrap_err();
        (lost.miss, began.elapsed())
    };
    let ((miss, took), ()) = tokio::join!(ask, grant);
    assert_eq!((took, miss.progress), (TOTAL, Progress::Unsent), "{miss:?}");
    assert!(
        matches!(miss.classified.error, InferenceError::Backpressure { .. }),
        "{miss:?}"
    );
    let amount = NanoUsd(900_000_000);
    assert!(leases.reserve(amount, Timestamp::now()).is_ok(), "all of it is there");
}
