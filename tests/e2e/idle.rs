//! What an idle deployment costs.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt};
use inference_operator::api::{InferenceDeployment, InferenceReplica};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Event, Pod, Service},
};
use kube::{
    Api,
    api::{ListParams, WatchEvent, WatchParams},
};

use crate::harness::{self, Namespace, Provider, figure};

const IDLE: Duration = Duration::from_secs(60);
/// An Event follows its status within this time.
const CALM: Duration = Duration::from_secs(2);

/// Writes to a kind in the namespace during the idle time, as the API server's own watch tells them.
async fn writes<K>(api: Api<K>) -> Vec<String>
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + Debug + Send + 'static,
{
    let version = api
        .list(&ListParams::default())
        .await
        .expect("a list")
        .metadata
        .resource_version
        .expect("a version");
    let params = WatchParams::default()
        .disable_bookmarks()
        .timeout(u32::try_from(IDLE.as_secs()).expect("a minute"));
    let events = api.watch(&params, &version).await.expect("a watch").boxed();
    let seen: Vec<_> = events.try_collect::<Vec<WatchEvent<K>>>().await.expect("events");
    seen.iter()
        .map(|e| format!("{}: {}", K::kind(&()), describe(e)))
        .collect()
}

fn describe<K: Debug>(event: &WatchEvent<K>) -> String {
    match event {
        WatchEvent::Added(object) => format!("added {object:?}"),
        WatchEvent::Modified(object) => format!("modified {object:?}"),
        WatchEvent::Deleted(object) => format!("deleted {object:?}"),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn sixty_idle_seconds_write_nothing() {
    let provider = Provider::start("sk").await;
    let namespace = Namespace::create("idle").await;
    namespace.apply(&harness::secret("sk")).await;
    let far = harness::remote("assistant", &provider.endpoint)["spec"]["backends"][0].clone();
    namespace
        .apply(&harness::with(harness::local("assistant"), "/spec/backends/-", far))
        .await;
    namespace.wait("assistant", "Ready", "True").await;
    namespace.kubectl(&[
        "wait",
        "--for=jsonpath={.status.observedGeneration}=1",
        "infd/assistant",
        "--timeout=60s",
    ]);
    settle(&namespace).await;

    let (deployments, replicas, children, services, pods, events) = tokio::join!(
        writes::<InferenceDeployment>(namespace.api()),
        writes::<InferenceReplica>(namespace.api()),
        writes::<Deployment>(namespace.api()),
        writes::<Service>(namespace.api()),
        writes::<Pod>(namespace.api()),
        writes::<Event>(namespace.api()),
    );
    let all = [deployments, replicas, children, services, pods, events].concat();
    figure("API writes in 60 idle seconds", all.len());
    assert_eq!(all, Vec::<String>::new());
    figure("controller RSS, MiB", controller_rss_mib());
    namespace.done().await;
}

/// Until everything that follows from getting Ready has been written: the replica's routine report (at most one in 5 s), what the status
/// makes of it, and Events.
async fn settle(namespace: &Namespace) {
    harness::until("the Event of getting Ready", harness::SOON, async || {
        let events = namespace
            .api::<Event>()
            .list(&ListParams::default())
            .await
            .map_err(|e| e.to_string())?;
        if events.iter().any(|e| e.reason.as_deref() == Some("Available")) {
            Ok(())
        } else {
            Err("not there".into())
        }
    })
    .await;
    harness::until(
        "the replica has acted on the newest generation",
        harness::PODS,
        async || {
            let replicas = namespace
                .replicas()
                .list(&ListParams::default())
                .await
                .map_err(|e| e.to_string())?;
            let done = |r: &InferenceReplica| {
                r.status
                    .as_ref()
                    .is_some_and(|s| s.observed_generation == Some(1) && s.ready)
            };
            if !replicas.items.is_empty() && replicas.items.iter().all(done) {
                Ok(())
            } else {
                Err(format!("{replicas:?}"))
            }
        },
    )
    .await;
    namespace.wait("assistant", "ModelLoaded", "True").await;
    let mut last = (0, Instant::now());
    harness::until("no more Events", harness::SOON, async || {
        let events = namespace.api::<Event>().list(&ListParams::default()).await;
        let count = events.map_err(|e| e.to_string())?.items.len();
        if count != last.0 {
            last = (count, Instant::now());
        }
        if last.1.elapsed() > CALM {
            Ok(())
        } else {
            Err(format!("{count} Events"))
        }
    })
    .await;
}

fn controller_rss_mib() -> u64 {
    let rss = |status: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let controllers = processes
        .filter(|p| std::fs::read_to_string(p.path().join("comm")).is_ok_and(|c| c.trim() == "inference-contr"));
    let sizes = controllers.filter_map(|p| rss(&std::fs::read_to_string(p.path().join("status")).ok()?));
    sizes.max().expect("the controller runs in this PID namespace") / 1024
}
