//! Rolling updates with the GPUs that there are: never more pods than wanted, no stream cut, and no pod replaced that needs no replacing.

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use serde_json::{Value, json};

use crate::harness::{self, Namespace, PODS, SOON, figure, is_ready, post, until, with};

const RELEASE: &str = "inference-operator";
const RUNTIME: &str = "localhost/inference-operator/runtime";
/// Streams at a time, and in all at least.
const CLIENTS: usize = 6;
const STREAMS: usize = 200;

fn story() -> Value {
    json!({"model": "assistant", "stream": true, "max_tokens": 48, "ignore_eos": true,
           "messages": [{"role": "user", "content": "Tell a long story"}]})
}

/// Two pods of one thread each: with two, four would fight for the two processors of a small machine.
fn pair() -> Value {
    let object = with(harness::local("assistant"), "/spec/replicas", json!(2));
    with(object, "/spec/backends/0/local/resources/limits/cpu", json!("1"))
}

/// Two pods beside a provider that is asked nothing.
fn priced(price: &str) -> Value {
    let mut far = harness::remote("assistant", "http://provider.example/v1")["spec"]["backends"][0].clone();
    far["remote"]["price"] = json!({"inputPerMillionTokens": price, "outputPerMillionTokens": price});
    with(pair(), "/spec/backends/-", far)
}

/// Until there are two pods, both Ready, none of them among `old`.
async fn two_ready(namespace: &Namespace, old: &[String]) {
    until("two pods are Ready", PODS, async || {
        let pods = namespace.pods("assistant").await;
        let new = pods
            .iter()
            .filter(|p| p.metadata.uid.as_ref().is_some_and(|uid| !old.contains(uid)));
        match new.filter(|p| is_ready(p)).count() {
            2 if pods.len() == 2 => Ok(()),
            ready => Err(format!("{ready} of {}", pods.len())),
        }
    })
    .await;
}

/// Two pods that answer through the Service.
async fn serving(name: &str, spec: &Value) -> (Namespace, String) {
    let namespace = Namespace::create(name).await;
    namespace.apply(spec).await;
    namespace.wait("assistant", "Ready", "True").await;
    two_ready(&namespace, &[]).await;
    let url = format!("{}/v1/chat/completions", namespace.service("assistant"));
    until("the first answer", SOON, async || post(&url, &story()).await).await;
    (namespace, url)
}

/// How a stream ended that did not end well.
async fn end(url: &str) -> Result<(), String> {
    let answer = post(url, &story()).await?;
    if answer.status == 200 && answer.events().last() == Some(&"[DONE]") {
        Ok(())
    } else {
        Err(format!("{}: {}", answer.status, answer.body))
    }
}

/// Streams, one after another, until they are enough and `over` is true.
async fn client(url: String, over: Arc<AtomicBool>) -> Vec<Result<(), String>> {
    let mut ends = Vec::new();
    while ends.len() < STREAMS / CLIENTS || !over.load(Ordering::Relaxed) {
        ends.push(end(&url).await);
    }
    ends
}

#[tokio::test]
async fn a_rolling_update_cuts_no_stream() {
    let (namespace, url) = serving("rollout", &pair()).await;
    let (before, over) = (namespace.pod_uids("assistant").await, Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(client(url.clone(), Arc::clone(&over))))
        .collect();
    let started = std::time::Instant::now();
    namespace
        .apply(&with(pair(), "/spec/backends/0/local/parallel", json!(2)))
        .await;
    two_ready(&namespace, &before).await;
    figure(
        "rolling update of two pods under load, s",
        started.elapsed().as_secs_f64(),
    );
    over.store(true, Ordering::Relaxed);
    let mut ends = Vec::new();
    for client in clients {
        ends.extend(client.await.expect("no panic"));
    }
    let cut: Vec<_> = ends.iter().filter_map(|end| end.as_ref().err()).collect();
    figure(
        "streams across a rolling update, cut",
        format!("{}, {}", ends.len(), cut.len()),
    );
    assert!(ends.len() >= STREAMS && cut.is_empty(), "{cut:?}");
    namespace.done().await;
}

/// What the API server says to evicting a pod. By kubectl: the client of these tests asks again after a 429, until another pod is Ready.
fn evict(namespace: &Namespace, pod: &Pod) -> Result<(), String> {
    let name = pod.metadata.name.as_deref().expect("a name");
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), eviction.to_string()).expect("written");
    let path = format!("/api/v1/namespaces/{}/pods/{name}/eviction", namespace.name);
    let output = Command::new("kubectl")
        .args(["create", "--raw", &path, "-f"])
        .arg(file.path())
        .output();
    let output = output.expect("kubectl runs");
    output
        .status
        .success()
        .then_some(())
        .ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// From two pods on; and a changed price is nothing that pods are replaced for.
#[tokio::test]
async fn an_eviction_takes_one_pod_of_two_and_a_changed_price_none() {
    let (namespace, _) = serving("evict", &priced("1")).await;
    let before = namespace.pod_uids("assistant").await;
    let dearer = with(
        priced("2"),
        "/spec/serving/queue",
        json!({"capacity": 7, "timeout": "3s"}),
    );
    namespace.apply(&dearer).await;
    namespace.wait("assistant", "Ready", "True").await;
    assert_eq!(namespace.pod_uids("assistant").await, before);
    until("one may be evicted", SOON, async || {
        let budget = namespace
            .api::<PodDisruptionBudget>()
            .get("assistant-local")
            .await
            .map_err(|e| e.to_string())?;
        match budget.status.and_then(|s| s.disruptions_allowed) {
            Some(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let pods = namespace.pods("assistant").await;
    assert_eq!(evict(&namespace, &pods[0]), Ok(()));
    let refused = evict(&namespace, &pods[1]).expect_err("one at a time");
    assert!(refused.contains("disruption budget"), "{refused}");
    namespace.kubectl(&["scale", "infd", "assistant", "--replicas=1"]);
    until("one pod has no budget", SOON, async || {
        let found = namespace.api::<PodDisruptionBudget>().get_opt("assistant-local").await;
        if found.expect("it can be asked").is_none() {
            Ok(())
        } else {
            Err("it is there".into())
        }
    })
    .await;
    namespace.done().await;
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect("it runs");
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A release of the operator with another runtime image, until this is dropped.
struct NextRelease(String);

impl NextRelease {
    fn install() -> Self {
        run(
            "ctr",
            &[
                "-n",
                "k8s.io",
                "images",
                "tag",
                &format!("{RUNTIME}:dev"),
                &format!("{RUNTIME}:next"),
            ],
        );
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts").join(RELEASE);
        let release = Self(chart.to_string_lossy().into_owned());
        release.upgrade("next");
        release
    }

    fn upgrade(&self, tag: &str) {
        let set = format!("runtime.image.tag={tag}");
        run(
            "helm",
            &[
                "-n",
                RELEASE,
                "upgrade",
                RELEASE,
                &self.0,
                "--reuse-values",
                "--set",
                &set,
                "--wait",
                "--timeout=120s",
            ],
        );
    }
}

impl Drop for NextRelease {
    fn drop(&mut self) {
        self.upgrade("dev");
    }
}

fn images(pods: &[Pod]) -> Vec<String> {
    let containers = pods
        .iter()
        .flat_map(|p| p.spec.iter().flat_map(|s| s.init_containers.iter().flatten()));
    containers.filter_map(|c| c.image.clone()).collect()
}

/// A new version of the controller brings a new runtime: only whoever restarts the rollout gets it.
#[tokio::test]
#[ignore = "alone: it replaces the controller"]
async fn a_new_controller_replaces_no_pods_until_a_restart_is_asked_for() {
    let (namespace, _) = serving("release", &pair()).await;
    let before = namespace.pod_uids("assistant").await;
    let next = NextRelease::install();
    // What the new controller has acted on.
    namespace
        .apply(&with(
            pair(),
            "/spec/serving/queue",
            json!({"capacity": 7, "timeout": "3s"}),
        ))
        .await;
    namespace.wait("assistant", "Ready", "True").await;
    let other = Namespace::create("release-new").await;
    other.apply(&harness::local("assistant")).await;
    other.wait("assistant", "Ready", "True").await;
    assert_eq!(
        images(&other.pods("assistant").await),
        [format!("{RUNTIME}:next")],
        "a new deployment gets the new runtime"
    );
    assert_eq!(namespace.pod_uids("assistant").await, before);
    namespace.kubectl(&["rollout", "restart", "deployment", "assistant-local"]);
    two_ready(&namespace, &before).await;
    let next_image = format!("{RUNTIME}:next");
    assert_eq!(
        images(&namespace.pods("assistant").await),
        [next_image.clone(), next_image]
    );
    drop(next);
    other.done().await;
    namespace.done().await;
}
