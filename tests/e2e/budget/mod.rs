//! A budget that cannot be overspent: the provider's own count is the judge.
//!
//! A request costs exactly what is reserved for it: nothing for the prompt, one USD for each of its four tokens, which the provider
//! always reports. So a budget of 40 USD is one for ten requests, to the nano-USD.

mod ends;
mod faults;
mod gpus;
mod limits;
mod lost;
mod quiet;
mod writes;

use std::time::{Duration, Instant};

use inference_operator::api::{BudgetStatus, InferenceReplica, NanoUsd};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::harness::{self, Mode, Namespace, PODS, Provider, SOON, Tally, load, post, until};

/// USD of one request.
const COST: u64 = 4;

/// An endpoint with a budget, and its provider.
struct Endpoint {
    namespace: Namespace,
    provider: Provider,
    spec: Value,
    /// Requests that the budget is for.
    requests: u64,
}

fn usd(amount: u64) -> NanoUsd {
    NanoUsd(amount * 1_000_000_000)
}

fn chat() -> Value {
    json!({"model": "assistant", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4})
}

impl Endpoint {
    /// `replicas` pods with a budget for `requests` requests; Ready.
    async fn start(name: &str, replicas: u32, requests: u64) -> Self {
        let provider = Provider::start("sk").await;
        let namespace = Namespace::create(name).await;
        namespace.apply(&harness::secret("sk")).await;
        let mut spec = harness::remote("assistant", &provider.endpoint);
        for (field, value) in [
            ("/spec/replicas", json!(replicas)),
            ("/spec/serving/queue", json!({"capacity": 512, "timeout": "30s"})),
            (
                "/spec/backends/0/remote/price",
                json!({"inputPerMillionTokens": "0", "outputPerMillionTokens": "1000000"}),
            ),
            ("/spec/backends/0/remote/retry", json!({"maxRetries": 0})),
            (
                "/spec/backends/0/remote/circuitBreaker",
                json!({"override": "ForceClosed"}),
            ),
            (
                "/spec/budget",
                json!({"limit": (requests * COST).to_string(), "warnAtPercent": [50]}),
            ),
        ] {
            spec = harness::with(spec, field, value);
        }
        namespace.apply(&spec).await;
        namespace.wait("assistant", "Ready", "True").await;
        let endpoint = Self {
            namespace,
            provider,
            spec,
            requests,
        };
        endpoint.all_ready(replicas as usize).await;
        endpoint.reachable().await;
        endpoint
    }

    /// Until the Service leads to a pod: this request can be answered by no backend and costs nothing.
    async fn reachable(&self) {
        let nothing = json!({"model": "no-such-model", "messages": []});
        until("the Service leads to a pod", SOON, async || {
            post(&self.url(), &nothing).await.map(drop)
        })
        .await;
    }

    async fn all_ready(&self, replicas: usize) {
        until("all pods are Ready", PODS, async || {
            let status = self.namespace.status("assistant").await;
            let ready = usize::try_from(status.ready_replicas.unwrap_or(0)).unwrap_or(0);
            if ready == replicas {
                Ok(())
            } else {
                Err(format!("{ready} of {replicas}"))
            }
        })
        .await;
    }

    /// From now on the budget is for `requests` more, and every replica has heard of it.
    async fn allow(&mut self, requests: u64) {
        self.requests += requests;
        let limit = json!((self.requests * COST).to_string());
        self.spec = harness::with(self.spec.clone(), "/spec/budget/limit", limit);
        self.namespace.apply(&self.spec).await;
        until("no denial is in force any more", SOON, async || {
            let ledger = self.ledger().await;
            let replicas = self
                .namespace
                .replicas()
                .list(&ListParams::default())
                .await
                .map_err(|e| e.to_string())?;
            let denied = |replica: &&InferenceReplica| {
                let Some(told) = &replica.spec.budget else { return false };
                let heard = replica.status.as_ref().and_then(|status| status.budget.as_ref());
                told.denied.is_some() || heard.is_none_or(|heard| heard.sequence < told.sequence)
            };
            let denied = replicas.items.iter().filter(denied).count();
            let known = ledger.limit == usd(self.requests * COST);
            if known && denied == 0 {
                Ok(())
            } else {
                Err(format!(
                    "{denied} are denied, or have not heard, limit {}",
                    ledger.limit
                ))
            }
        })
        .await;
    }

    fn url(&self) -> String {
        format!("{}/v1/chat/completions", self.namespace.service("assistant"))
    }

    async fn ledger(&self) -> BudgetStatus {
        self.namespace.status("assistant").await.budget.unwrap_or_default()
    }

    async fn load(&self, count: usize, concurrency: usize) -> Tally {
        load(&self.url(), &chat(), count, concurrency).await
    }

    /// Loads until the budget is spent to the last request. Never is one more sent, and none is refused for the budget before.
    async fn spend_it_all(&self, concurrency: usize) -> Tally {
        let started = Instant::now();
        let clients = (0..concurrency).map(|_| self.spend(started));
        let mut all = Tally::default();
        for end in futures::future::join_all(clients).await.into_iter().flatten() {
            *all.outcomes.entry(end).or_default() += 1;
        }
        assert_eq!(
            self.provider.calls(),
            self.requests,
            "by the provider's own count: {all:?}"
        );
        all
    }

    /// One client: asks until everything is spent.
    async fn spend(&self, started: Instant) -> Vec<(u16, String)> {
        let mut ends = Vec::new();
        while self.provider.calls() < self.requests {
            assert!(
                started.elapsed() < PODS,
                "{} of {} were sent: {ends:?}",
                self.provider.calls(),
                self.requests
            );
            let answer = post(&self.url(), &chat()).await.expect("an answer");
            let code = if answer.status.is_success() {
                String::new()
            } else {
                answer.code()
            };
            if code == "backpressure" {
                println!("after {:?}, at {:?}: {}", answer.total, started.elapsed(), answer.body);
            }
            assert!(
                code != "insufficient_quota" || self.provider.calls() >= self.requests,
                "refused with money for {} left: {}",
                self.requests - self.provider.calls(),
                answer.body
            );
            ends.push((answer.status.as_u16(), code));
        }
        ends
    }

    /// Until nothing is leased any more; gives the ledger, and how long that took.
    async fn settled(&self) -> (BudgetStatus, Duration) {
        let started = Instant::now();
        let ledger = until("nothing is leased", Duration::from_secs(60), async || {
            let ledger = self.ledger().await;
            if ledger.leased == NanoUsd(0) {
                Ok(ledger)
            } else {
                Err(format!("{} are leased", ledger.leased))
            }
        })
        .await;
        (ledger, started.elapsed())
    }

    async fn pod_names(&self) -> Vec<String> {
        let pods = self.namespace.pods("assistant").await;
        pods.into_iter().filter_map(|pod: Pod| pod.metadata.name).collect()
    }
}
