//! Time of priced GPUs: a real engine with the tiny model on a node that is said to have a GPU.

use jiff::Timestamp;

use super::*;
use crate::harness::{figure, kubectl};

/// What the node is said to have.
const GPU: &str = "example.com/gpu";

/// One USD a second, to the nano-USD.
const PER_HOUR: &str = "3600";

/// Five minutes, and ten and a half to drain and end.
const SLICE: u64 = 300 + 630;

fn give_the_node_a_gpu() {
    let node = kubectl(&["get", "nodes", "-o", "name"]);
    let patch = format!(
        r#"[{{"op": "add", "path": "/status/capacity/{}", "value": "4"}}]"#,
        GPU.replace('/', "~1")
    );
    kubectl(&[
        "patch",
        node.trim(),
        "--subresource=status",
        "--type=json",
        "-p",
        &patch,
    ]);
}

fn spec(limit: u64) -> Value {
    let spec = harness::local("assistant");
    let spec = harness::with(
        spec,
        "/spec/backends/0/local/gpus",
        json!({"count": 1, "resourceName": GPU}),
    );
    let spec = harness::with(spec, "/spec/backends/0/local/price", json!({"perGpuHour": PER_HOUR}));
    let budget = json!({"limit": limit.to_string(), "period": "Total", "onExhausted": "ScaleToZero"});
    harness::with(spec, "/spec/budget", budget)
}

async fn gone(namespace: &Namespace) -> Timestamp {
    until("no pod is left", PODS, async || {
        let list = namespace.api::<Pod>().list(&ListParams::default()).await;
        let left = list.map_err(|e| e.to_string())?.items.len();
        if left == 0 {
            Ok(Timestamp::now())
        } else {
            Err(format!("{left} are left"))
        }
    })
    .await
}

#[tokio::test]
async fn gpus_are_released_when_the_budget_does_not_pay_for_them_and_come_back() {
    give_the_node_a_gpu();
    let namespace = Namespace::create("budget-gpus").await;
    let applied = Timestamp::now();
    namespace.apply(&spec(SLICE + 100)).await;
    namespace.wait("assistant", "Ready", "True").await;
    let ledger = until("the pod has its row", SOON, async || {
        let ledger = namespace.status("assistant").await.budget.unwrap_or_default();
        let rows = ledger.gpu_time.as_ref().map_or(0, |time| time.pods.len());
        if rows == 1 {
            Ok(ledger)
        } else {
            Err(format!("{ledger:?}"))
        }
    })
    .await;
    assert_eq!(
        (ledger.settled, ledger.leased),
        (NanoUsd(0), usd(SLICE)),
        "a slice is reserved ahead"
    );

    namespace.apply(&spec(SLICE - 1)).await;
    let ended = gone(&namespace).await;
    namespace
        .wait_reason("assistant", "WithinBudget", "False", "Exhausted")
        .await;
    namespace
        .wait_reason("assistant", "Ready", "False", "ScaledToZero")
        .await;
    let ledger = until("the rest has come back", SOON, async || {
        let ledger = namespace.status("assistant").await.budget.unwrap_or_default();
        if ledger.leased == NanoUsd(0) {
            Ok(ledger)
        } else {
            Err(format!("{ledger:?}"))
        }
    })
    .await;
    let most = u64::try_from(ended.duration_since(applied).as_secs()).expect("time passes") + 3;
    figure(
        "GPU time charged for one pod, s; at most",
        format!("{} {most}", ledger.settled),
    );
    assert!(ledger.settled > NanoUsd(0) && ledger.settled <= usd(most), "{ledger:?}");

    namespace.apply(&spec(2 * SLICE)).await;
    namespace.wait("assistant", "Ready", "True").await;
    namespace.wait("assistant", "WithinBudget", "True").await;
    namespace.done().await;
}
