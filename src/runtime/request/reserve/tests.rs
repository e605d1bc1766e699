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

fn registry(input_price: &str) -> Arc<Registry> {
    let spec = json!({"budget": {"limit": "1.00", "period": "Total"}, "backends": [{"name": "far", "remote": {
        "provider": "OpenAICompatible", "endpoint": "http://127.0.0.1:9/v1", "model": "m",
        "timeouts": {"connect": "1s", "firstToken": "1s", "idle": "1s", "total": "2s"}, "retry": {"maxRetries": 0},
        "price": {"inputPerMillionTokens": input_price, "outputPerMillionTokens": "1"}}}]});
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

fn chat(max_tokens: u64) -> Job {
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"Hi"}}],"max_tokens":{max_tokens}}}"#);
    job(Operation::Chat, body)
}

fn job(operation: Operation, body: String) -> Job {
    Job {
        head: read(operation, body.as_bytes()).unwrap(),
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

fn dispatcher(registry: &Arc<Registry>) -> Dispatcher {
    Dispatcher {
        registry: Arc::clone(registry),
        metrics: Arc::default(),
        local: LocalRoute::new(client(TOTAL).unwrap(), None),
        lines: Lines::default(),
    }
}

/// Why nobody answered, and after what time.
async fn refused(registry: &Arc<Registry>, job: &Job) -> (Miss, Duration) {
    let began = Instant::now();
    let lost = dispatcher(registry).dispatch(&registry.routing(), job).await;
    (lost.unwrap_err().miss, began.elapsed())
}

/// The queue's patience is 30 s; a request that went out after its own 2 s would have no time left, and its money would be uncertain.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_money_beyond_the_time_of_the_attempt() {
    let registry = registry("1");
    let leases = Arc::clone(registry.leases().unwrap());
    let grant = async {
        tokio::time::sleep(5 * TOTAL).await;
        leases.told(&granted());
    };
    let job = chat(5);
    let ((miss, took), ()) = tokio::join!(refused(&registry, &job), grant);
    assert_eq!((took, miss.progress), (TOTAL, Progress::Unsent), "{miss:?}");
    assert!(
        matches!(miss.classified.error, InferenceError::Backpressure { .. }),
        "{miss:?}"
    );
    let amount = NanoUsd(900_000_000);
    assert!(leases.reserve(amount, Timestamp::now()).is_ok(), "all of it is there");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_no_window_could_pay_for_is_refused_at_once_and_nobody_is_asked() {
    let registry = registry("1");
    let (miss, took) = refused(&registry, &chat(1_000_000)).await;
    assert!(
        matches!(miss.classified.error, InferenceError::BudgetExceeded { .. }),
        "{miss:?}"
    );
    assert_eq!(took, Duration::ZERO);
    let report = registry.leases().unwrap().report();
    assert_eq!(report.want, None);
    assert!(report.cheapest > Some(NanoUsd(1_000_000_000)), "{report:?}");
}

#[tokio::test]
async fn a_request_that_costs_nothing_is_sent_without_a_lease() {
    let body = r#"{"model":"m","input":"Hi"}"#.to_owned();
    let (miss, _) = refused(&registry("0"), &job(Operation::Embeddings, body)).await;
    let unreachable = matches!(miss.classified.error, InferenceError::NetworkError { .. });
    assert!(unreachable, "nobody listens there: {miss:?}");
}
