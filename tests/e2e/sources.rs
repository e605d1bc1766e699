//! A model that the pod downloads itself. The network that it comes from is this test, at the node's address.

use std::{env, fs, net::IpAddr};

use inference_operator::api::EngineState;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::{
    harness::{self, Namespace, PODS, figure, post, until},
    hub::{Fault, Hub},
};

/// The tiny model with a tail of zeros, which a reader of GGUF does not look at: large enough to be seen on its way.
const SIZE: usize = 64 * 1024 * 1024;

async fn hub() -> Hub {
    let folder = env::var("INFERENCE_ENGINE_DIR").expect("scripts/test sets INFERENCE_ENGINE_DIR");
    let mut weights = fs::read(format!("{folder}/tiny.gguf")).expect("the tiny model");
    weights.resize(SIZE, 0);
    let node: IpAddr = env::var("LOCAL_CLUSTER_NODE_IP")
        .expect("tests run inside the local cluster's namespaces")
        .parse()
        .unwrap();
    Hub::start(node, &[("tiny.gguf", &weights)]).await
}

fn downloading(hub: &Hub, sha256: &str) -> Value {
    let source = json!({"url": {"location": hub.location("tiny.gguf"), "sha256": sha256}});
    harness::with(harness::local("assistant"), "/spec/backends/0/local/source", source)
}

async fn loaded(namespace: &Namespace) -> Result<(String, String, String), String> {
    let found = namespace
        .deployments()
        .get("assistant")
        .await
        .map_err(|e| e.to_string())?;
    let conditions = found.status.ok_or("no status")?.conditions;
    let loaded = conditions
        .into_iter()
        .find(|c| c.type_ == "ModelLoaded")
        .ok_or("no word")?;
    Ok((loaded.status, loaded.reason, loaded.message))
}

#[tokio::test]
async fn a_model_is_downloaded_with_its_progress_told_and_then_served() {
    let namespace = Namespace::create("sources").await;
    let hub = hub().await;
    hub.faults(&[Fault::Cut(SIZE / 4), Fault::Pause(SIZE / 2)]);
    namespace.apply(&downloading(&hub, &hub.sha256("tiny.gguf"))).await;
    let (half, total) = ((SIZE / 2) as u64, Some(SIZE as u64));
    until("the replica tells of the bytes", PODS, async || {
        let replicas = namespace
            .replicas()
            .list(&ListParams::default())
            .await
            .map_err(|e| e.to_string())?;
        let engines = replicas.items.into_iter().filter_map(|r| r.status?.engine);
        let told = engines
            .filter(|e| e.state == EngineState::Downloading)
            .find_map(|e| e.download);
        told.filter(|d| d.bytes >= half && d.total == total)
            .ok_or(format!("{told:?}"))
    })
    .await;
    until("the deployment tells of them", harness::SOON, async || {
        match loaded(&namespace).await? {
            (status, reason, message)
                if status == "False" && reason == "Downloading" && message.contains("of 67108864 bytes") =>
            {
                println!("{message}");
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    hub.go_on();
    let took = namespace.wait("assistant", "Ready", "True").await;
    figure(
        "the download goes on → Ready (64 MiB, tiny model), s",
        took.as_secs_f64(),
    );
    let body = json!({"model": "assistant", "max_tokens": 4, "prompt": "a"});
    let url = format!("{}/v1/completions", namespace.service("assistant"));
    let answer = until("the first answer", harness::SOON, async || post(&url, &body).await).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(hub.bytes_asked().len(), 2);
    let events = namespace.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason}"]);
    assert!(events.contains("Downloading"), "{events}");

    // Other bytes than the spec's: told as what it is.
    namespace.apply(&downloading(&hub, &"0".repeat(64))).await;
    until("the checksum is told", PODS, async || {
        match loaded(&namespace).await? {
            (status, reason, message) if status == "False" && reason == "DownloadChecksumMismatch" => {
                println!("{message}");
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    namespace.done().await;
}
