//! Pods that give up on their GPU. There is none here: an engine says in its log that its context is poisoned, and no driver says which
//! device it was, so that the node stands for it.

use std::time::Duration;

use inference_operator::api::GpuTrouble;
use serde_json::{Value, json};

use crate::harness::{self, Namespace, figure, until};

/// Four pods, each with four engines that fail, with 3 s of pauses.
const LONG: Duration = Duration::from_secs(600);

/// An engine that does nothing but to say that its context is poisoned.
fn poisoned(name: &str) -> Value {
    running(
        name,
        "echo 'CUDA error: an illegal memory access was encountered' >&2; exit 1",
        json!({"requests": {"cpu": "10m", "memory": "32Mi"}}),
    )
}

/// An engine that is a script.
fn running(name: &str, script: &str, resources: Value) -> Value {
    let mut object = harness::local(name);
    let own = &mut object["spec"]["backends"][0]["local"];
    let image = own["image"].clone();
    *own = json!({
        "engine": "Custom",
        "image": image,
        "command": ["sh", "-c", script],
        "resources": resources,
    });
    object
}

/// By an Event of the deployment.
async fn people_are_told(namespace: &Namespace) {
    until("people are told", harness::SOON, async || {
        let told = namespace.kubectl(&[
            "get",
            "events",
            "--field-selector",
            "reason=GPUFaulty",
            "-o",
            "jsonpath={.items[*].note}{.items[*].message}",
        ]);
        if told.contains("3 pods were replaced within 30 minutes") {
            Ok(())
        } else {
            Err(told)
        }
    })
    .await;
}

#[tokio::test]
async fn a_pod_whose_context_stays_poisoned_is_replaced_three_times_and_then_kept_without_an_engine() {
    let namespace = Namespace::create("gpu").await;
    namespace.apply(&poisoned("assistant")).await;
    let took = harness::until("it stalls", LONG, async || {
        let status = namespace
            .deployments()
            .get("assistant")
            .await
            .map_err(|e| e.to_string())?;
        let status = status.status.ok_or("no status")?;
        let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled");
        match stalled {
            Some(stalled) if stalled.reason == "GPUFaulty" => Ok(stalled.message.clone()),
            other => Err(format!("{other:?} {:?}", status.gpus)),
        }
    })
    .await;
    println!("{took}");
    let status = namespace.status("assistant").await;
    let [
        GpuTrouble {
            device,
            node,
            replaced,
            held,
            message,
            ..
        },
    ] = status.gpus.as_slice()
    else {
        panic!("{:?}", status.gpus)
    };
    assert_eq!((device.as_str(), replaced.len(), held.len()), ("unknown", 3, 1));
    assert!(
        took.contains(node.as_str()) && message.contains("illegal memory access"),
        "{took}: {message}"
    );
    let healthy = status
        .conditions
        .iter()
        .find(|c| c.type_ == "GPUHealthy")
        .expect("GPUHealthy");
    assert_eq!(healthy.status, "False", "{healthy:?}");
    let span = replaced[2].at.0.duration_since(replaced[0].at.0);
    figure("three pods replaced for one GPU within, s", span.as_secs());

    let pods = namespace.pod_uids("assistant").await;
    assert_eq!(&pods, held, "the fourth pod stays");
    until("its runtime runs without an engine", harness::PODS, async || {
        let replicas = namespace
            .replicas()
            .list(&kube::api::ListParams::default())
            .await
            .map_err(|e| e.to_string())?;
        let replica = replicas.items.first().ok_or("none")?;
        let told = replica.spec.engine_hold.is_some();
        let state = replica.status.as_ref().and_then(|s| Some(s.engine.as_ref()?.state));
        let fault = replica
            .status
            .as_ref()
            .and_then(|s| s.gpu.as_ref()?.fault.as_ref())
            .is_some();
        match (told, state, fault) {
            (true, Some(inference_operator::api::EngineState::Failed), true) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    people_are_told(&namespace).await;

    namespace.kubectl(&["delete", "pod", "--all", "--wait=false"]);
    until("it is forgotten and tried again", harness::PODS, async || {
        let status = namespace.status("assistant").await;
        let held = status
            .gpus
            .iter()
            .any(|row| row.held.iter().any(|uid| pods.contains(uid)));
        if held {
            Err(format!("{:?}", status.gpus))
        } else {
            Ok(())
        }
    })
    .await;
    namespace.done().await;
}

/// The container lives on: the kernel kills the engine alone, and the runtime knows why.
#[tokio::test]
async fn an_engine_that_takes_more_memory_than_its_pod_has_is_no_matter_of_a_gpu() {
    let namespace = Namespace::create("gpu-memory").await;
    let resources = json!({"requests": {"cpu": "10m", "memory": "128Mi"}, "limits": {"memory": "128Mi"}});
    namespace
        .apply(&running("assistant", "x=x; while :; do x=$x$x; done", resources))
        .await;
    let told = until("the reason is told", harness::PODS, async || {
        let status = namespace.status("assistant").await;
        let loaded = status.conditions.iter().find(|c| c.type_ == "ModelLoaded");
        match loaded {
            Some(loaded) if loaded.reason == "OOMKilled" => Ok((loaded.message.clone(), status)),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let (message, status) = told;
    assert!(message.contains("raise resources.limits.memory"), "{message}");
    assert!(status.gpus.is_empty(), "{:?}", status.gpus);
    until("the replica's Event", harness::SOON, async || {
        let events = namespace.kubectl(&[
            "get",
            "events",
            "--field-selector",
            "reason=OOMKilled",
            "-o",
            "jsonpath={.items[*].involvedObject.kind}",
        ]);
        if events.contains("InferenceReplica") {
            Ok(())
        } else {
            Err(events)
        }
    })
    .await;
    namespace.done().await;
}
