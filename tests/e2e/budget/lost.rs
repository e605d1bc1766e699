//! The runbook after a loss: the status is wiped, and an annotation says what to go on from.

use super::*;
use crate::harness::{figure, kubectl};

const ADOPT: &str = "inference-operator.dev/budget-adopt-settled";

/// Requests that are sent while the ledger is lost.
const IN_VAIN: usize = 4;

impl Endpoint {
    /// What WithinBudget says.
    async fn says(&self) -> String {
        let conditions = self.namespace.status("assistant").await.conditions;
        let found = conditions.into_iter().find(|c| c.type_ == "WithinBudget");
        found.map(|condition| condition.message).unwrap_or_default()
    }

    async fn until_it_says(&self, word: &str) {
        until(&format!("WithinBudget says {word:?}"), SOON, async || {
            let message = self.says().await;
            if message.contains(word) { Ok(()) } else { Err(message) }
        })
        .await;
    }

    /// As the runbook writes it.
    fn adopt(&self, amount: &str) {
        let annotation = format!("{ADOPT}={amount}");
        self.namespace
            .kubectl(&["annotate", "--overwrite", "infd", "assistant", &annotation]);
    }

    /// Requests wait for money that nobody grants, and are told so. Nothing reaches the provider.
    async fn refuses_everything(&self) {
        let sent = self.provider.calls();
        let (url, body) = (self.url(), chat());
        let answers = futures::future::join_all((0..IN_VAIN).map(|_| post(&url, &body))).await;
        for answer in answers {
            let answer = answer.expect("an answer");
            let told = (answer.status.as_u16(), answer.code());
            assert_eq!(told, (503, "backpressure".to_owned()), "{}", answer.body);
            assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
        }
        assert_eq!(self.provider.calls(), sent, "nothing is sent without a ledger");
        let ledger = self.ledger().await;
        assert_eq!(ledger.leased, NanoUsd(0), "nothing is granted: {ledger:?}");
    }
}

#[tokio::test]
async fn after_a_loss_nothing_is_granted_until_an_annotation_says_what_was_spent() {
    let mut endpoint = Endpoint::start("budget-lost", 2, 10).await;
    let spent = endpoint.load(4, 2).await.answered() as u64;
    assert_eq!((spent, endpoint.provider.calls()), (4, 4));
    endpoint.spec = harness::with(endpoint.spec.clone(), "/spec/serving/queue/timeout", json!("3s"));
    endpoint.namespace.apply(&endpoint.spec).await;

    let wiped = Instant::now();
    let wipe = r#"[{"op": "remove", "path": "/status/budget"}]"#;
    let patch = [
        "patch",
        "infd",
        "assistant",
        "--subresource=status",
        "--type=json",
        "-p",
        wipe,
    ];
    endpoint.namespace.kubectl(&patch);
    endpoint
        .namespace
        .wait_reason("assistant", "WithinBudget", "False", "LedgerLost")
        .await;
    figure("status wiped → LedgerLost, s", wiped.elapsed().as_secs_f64());
    endpoint.until_it_says("Nothing is outstanding").await;
    figure("status wiped → nothing outstanding, s", wiped.elapsed().as_secs_f64());
    endpoint.refuses_everything().await;

    endpoint.adopt("16,00");
    endpoint
        .until_it_says(&format!("{ADOPT} is not taken: \"16,00\""))
        .await;
    endpoint.refuses_everything().await;

    let bill = usd(spent * COST);
    let adopted = Instant::now();
    endpoint.adopt(&bill.to_string());
    endpoint.namespace.wait("assistant", "WithinBudget", "True").await;
    figure("amount stated → WithinBudget, s", adopted.elapsed().as_secs_f64());
    let ledger = endpoint.ledger().await;
    let left = usd(endpoint.requests * COST).0 - bill.0;
    assert_eq!((ledger.settled, ledger.remaining), (bill, NanoUsd(left)), "{ledger:?}");
    let annotations = kubectl(&["-n", &endpoint.namespace.name, "get", "infd", "assistant", "-o", "yaml"]);
    assert!(!annotations.contains(ADOPT), "it is carried out: {annotations}");

    endpoint.spend_it_all(16).await;
    figure(
        "overspend after a loss, requests",
        endpoint.provider.calls() - endpoint.requests,
    );
    let (ledger, _) = endpoint.settled().await;
    let all = usd(endpoint.requests * COST);
    assert_eq!((ledger.settled, ledger.uncertain), (all, NanoUsd(0)), "{ledger:?}");
    endpoint.namespace.done().await;
}
