//! Circuits shared by all replicas, on the real cluster: GPU-less pods before a provider that fails on demand.

mod forced;
mod holders;
mod rates;
mod restart;
mod together;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use inference_operator::api::{
    CircuitScope, CircuitState, CircuitStatus, InferenceDeployment, InferenceReplica, ReplicaCircuit,
};
use kube::{Api, api::ListParams};
use serde_json::{Value, json};

use crate::harness::{self, Mode, Namespace, PODS, Provider, post, until};

/// Failures in a row that open a circuit in these tests.
const THRESHOLD: u64 = 3;

/// A deployment of GPU-less pods with one remote backend.
struct House {
    provider: Provider,
    namespace: Namespace,
    replicas: usize,
    breaker: Value,
}

fn chat() -> Value {
    json!({"model": "assistant", "messages": [{"role": "user", "content": "Hello"}]})
}

impl House {
    /// Starts it and waits until every pod serves and follows the newest generation.
    async fn start(name: &str, replicas: usize, open: &str) -> Self {
        let house = Self {
            provider: Provider::start("sk").await,
            namespace: Namespace::create(name).await,
            replicas,
            breaker: json!({"consecutiveFailures": THRESHOLD, "openDuration": open, "maxOpenDuration": "5m"}),
        };
        house.namespace.apply(&harness::secret("sk")).await;
        house.apply("Auto").await;
        house.settled().await;
        house
    }

    /// Applies the deployment with an override.
    async fn apply(&self, forced: &str) {
        let mut manifest = harness::remote("assistant", &self.provider.endpoint);
        let far = &mut manifest["spec"]["backends"][0]["remote"];
        far["circuitBreaker"] = self.breaker.clone();
        far["circuitBreaker"]["override"] = json!(forced);
        far["retry"] = json!({"maxRetries": 0});
        far["timeouts"] = json!({"connect": "1s", "firstToken": "2s", "idle": "5s", "total": "5m"});
        manifest["spec"]["replicas"] = json!(self.replicas);
        self.namespace.apply(&manifest).await;
    }

    async fn settled(&self) {
        until("every pod serves", PODS, async || {
            let object = self.deployment().await?;
            let generation = object.metadata.generation;
            let replicas = self.objects().await?;
            let serving = replicas.iter().filter(|r| {
                let status = r.status.as_ref();
                status.is_some_and(|s| s.ready && s.observed_generation == generation)
            });
            let serving = serving.count();
            let ready = object.status.and_then(|s| s.ready_replicas).unwrap_or(0);
            let all =
                usize::try_from(ready) == Ok(self.replicas) && serving == self.replicas && replicas.len() == serving;
            if all {
                Ok(())
            } else {
                Err(format!("{ready} Ready, {serving} serve"))
            }
        })
        .await;
    }

    async fn deployment(&self) -> Result<InferenceDeployment, String> {
        self.namespace
            .deployments()
            .get("assistant")
            .await
            .map_err(|e| e.to_string())
    }

    async fn objects(&self) -> Result<Vec<InferenceReplica>, String> {
        let api: Api<InferenceReplica> = self.namespace.replicas();
        let list = api.list(&ListParams::default()).await.map_err(|e| e.to_string())?;
        Ok(list.items)
    }

    /// The merged row of the endpoint.
    async fn row(&self) -> Option<CircuitStatus> {
        let status = self.deployment().await.ok()?.status?;
        status.circuits.into_iter().find(|c| c.scope == CircuitScope::Endpoint)
    }

    /// Until the merged row is in that state; returns it.
    async fn state(&self, state: CircuitState, limit: Duration) -> CircuitStatus {
        until(&format!("{state:?} for all"), limit, async || match self.row().await {
            Some(row) if row.state == state => Ok(row),
            row => Err(format!("{row:?}")),
        })
        .await
    }

    /// What the replicas report of the endpoint, by pod.
    async fn reports(&self) -> BTreeMap<String, Option<ReplicaCircuit>> {
        let objects = self.objects().await.expect("replicas can be listed");
        let report = |r: &InferenceReplica| {
            let circuits = &r.status.as_ref()?.circuits;
            circuits.iter().find(|c| c.scope == CircuitScope::Endpoint).cloned()
        };
        objects
            .into_iter()
            .map(|r| (r.metadata.name.clone().unwrap_or_default(), report(&r)))
            .collect()
    }

    /// Replicas that say they hold it open.
    async fn open_replicas(&self) -> usize {
        self.reports()
            .await
            .values()
            .flatten()
            .filter(|r| r.opened_at.is_some())
            .count()
    }

    /// Address of the API of every pod, by its name.
    async fn addresses(&self) -> BTreeMap<String, String> {
        let pods = self.namespace.pods("assistant").await;
        pods.into_iter()
            .filter_map(|pod| {
                let address = pod.status?.pod_ip?;
                Some((pod.metadata.name?, format!("http://{address}:8000/v1/chat/completions")))
            })
            .collect()
    }

    /// One request to a pod: status and code.
    async fn ask(&self, address: &str) -> (u16, String) {
        let answer = post(address, &chat()).await.expect("the pod answers");
        let code = if answer.status.is_success() {
            String::new()
        } else {
            answer.code()
        };
        (answer.status.as_u16(), code)
    }

    /// Asks one pod until it says that the circuit is open.
    async fn exhaust(&self, address: &str) {
        for _ in 0..=THRESHOLD {
            if self.ask(address).await.1 == "circuit_open" {
                return;
            }
        }
        panic!("{address} does not open");
    }

    /// The provider dies and every pod hears of it.
    async fn open_for_all(&self) -> CircuitStatus {
        self.provider.set(Mode::Fail(500));
        for address in self.addresses().await.values() {
            self.exhaust(address).await;
        }
        let row = self.state(CircuitState::Open, harness::SOON).await;
        until("every pod follows it", harness::SOON, async || {
            let reports = self.reports().await;
            let follow = reports.values().flatten().filter(|r| r.sequence >= row.changed).count();
            if follow == self.replicas {
                Ok(())
            } else {
                Err(format!("{reports:?}"))
            }
        })
        .await;
        row
    }
}

/// Requests to some pods, one after another a pod, until this is dropped.
struct Traffic {
    on: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
}

impl Traffic {
    fn start(addresses: impl IntoIterator<Item = String>) -> Self {
        let traffic = Self {
            on: Arc::new(AtomicBool::new(true)),
            answered: Arc::default(),
        };
        for address in addresses {
            let (on, answered) = (Arc::clone(&traffic.on), Arc::clone(&traffic.answered));
            tokio::spawn(async move {
                let mut ticks = tokio::time::interval(Duration::from_millis(100));
                while on.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    if post(&address, &chat()).await.is_ok_and(|a| a.status.is_success()) {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        traffic
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.on.store(false, Ordering::Relaxed);
    }
}
