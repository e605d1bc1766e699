//! What goes wrong is named: images, foreign objects, fields that this version does not carry out.

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use crate::harness::{self, Namespace, PODS, Provider, SOON, until, with};

fn message(conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition], kind: &str) -> String {
    conditions
        .iter()
        .find(|c| c.type_ == kind)
        .map(|c| c.message.clone())
        .unwrap_or_default()
}

async fn said(namespace: &Namespace, kind: &str) -> String {
    let status = namespace
        .deployments()
        .get("assistant")
        .await
        .expect("it is there")
        .status
        .expect("a status");
    message(&status.conditions, kind)
}

#[tokio::test]
async fn an_image_that_does_not_exist_is_named() {
    let namespace = Namespace::create("no-image").await;
    let image = "registry.invalid/no/such-engine:1";
    namespace
        .apply(&with(
            harness::local("assistant"),
            "/spec/backends/0/local/image",
            json!(image),
        ))
        .await;
    namespace
        .wait_reason("assistant", "Ready", "False", "ImagePullFailed")
        .await;
    let said = said(&namespace, "Ready").await;
    assert!(said.contains(image), "{said}");
    namespace.done().await;
}

#[tokio::test]
async fn a_strangers_service_is_left_alone_and_named() {
    let provider = Provider::start("sk").await;
    let namespace = Namespace::create("stranger").await;
    let service: Value = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "assistant"},
        "spec": {"selector": {"app": "somebody"}, "ports": [{"port": 80}]},
    });
    namespace.apply(&service).await;
    namespace.apply(&harness::secret("sk")).await;
    namespace.apply(&harness::remote("assistant", &provider.endpoint)).await;
    namespace
        .wait_reason("assistant", "Stalled", "True", "NameConflict")
        .await;
    let said = said(&namespace, "Stalled").await;
    assert!(said.contains("Service") && said.contains("assistant"), "{said}");
    let left = namespace
        .api::<Service>()
        .get("assistant")
        .await
        .expect("it is still there");
    assert_eq!(
        left.spec.and_then(|s| s.selector).expect("a selector")["app"],
        "somebody"
    );
    assert_eq!(left.metadata.owner_references, None);

    namespace.kubectl(&["delete", "service", "assistant"]);
    namespace.wait("assistant", "Ready", "True").await;
    namespace.done().await;
}

#[tokio::test]
async fn a_field_that_is_not_carried_out_is_refused_by_name() {
    let namespace = Namespace::create("unsupported").await;
    let priced = with(
        harness::remote("assistant", "http://127.0.0.1:1/v1"),
        "/spec/budget",
        json!({"limit": "1.00"}),
    );
    let price = json!({"inputPerMillionTokens": "1", "outputPerMillionTokens": "1"});
    namespace
        .apply(&with(priced, "/spec/backends/0/remote/price", price))
        .await;
    namespace
        .wait_reason("assistant", "Stalled", "True", "Unsupported")
        .await;
    assert!(said(&namespace, "Stalled").await.contains("spec.budget"));
    assert_eq!(
        namespace.pods("assistant").await.len(),
        0,
        "nothing is started that could spend without its budget"
    );
    namespace.done().await;
}

/// An object that an older, laxer schema let in can neither be read nor block the others.
#[tokio::test]
async fn an_object_from_a_laxer_schema_wedges_nothing() {
    let crd = "inferencedeployments.inference-operator.dev";
    let schema_path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let strict = harness::kubectl(&["get", "crd", crd, "-o", "json"]);
    let strict: Value = serde_json::from_str(&strict).expect("JSON");
    let patch = |value: &Value| {
        let patch = json!([{"op": "replace", "path": schema_path, "value": value}]).to_string();
        harness::kubectl(&["patch", "crd", crd, "--type=json", "--field-manager=helm", "-p", &patch]);
    };
    let namespace = Namespace::create("laxer").await;
    let broken = json!({
        "apiVersion": "inference-operator.dev/v1alpha1", "kind": "InferenceDeployment", "metadata": {"name": "broken"},
        "spec": {"backends": "none at all"},
    });
    patch(&json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    until("the lax schema takes it", SOON, async || {
        let output = std::process::Command::new("kubectl")
            .args([
                "-n",
                &namespace.name,
                "create",
                "--dry-run=server",
                "--validate=false",
                "-o",
                "name",
                "-f",
                "-",
            ])
            .stdin(file_with(&broken))
            .output()
            .expect("kubectl runs");
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    })
    .await;
    namespace.apply(&broken).await;
    patch(strict.pointer(schema_path).expect("the schema"));

    let provider = Provider::start("sk").await;
    namespace.apply(&harness::secret("sk")).await;
    let healthy = harness::remote("assistant", &provider.endpoint);
    until("the strict schema is back", SOON, async || {
        let wrong = with(healthy.clone(), "/spec/backends", json!("none"));
        let output = std::process::Command::new("kubectl")
            .args([
                "-n",
                &namespace.name,
                "create",
                "--dry-run=server",
                "--validate=false",
                "-f",
                "-",
            ])
            .stdin(file_with(&wrong))
            .output()
            .expect("kubectl runs");
        if output.status.success() {
            Err("still lax".into())
        } else {
            Ok(())
        }
    })
    .await;
    namespace.apply(&healthy).await;
    namespace.wait("assistant", "Ready", "True").await;
    until("the broken one is told", PODS, async || {
        let text = namespace.kubectl(&[
            "get",
            "infd",
            "broken",
            "-o",
            "jsonpath={.status.conditions[?(@.type==\"Stalled\")].reason}",
        ]);
        if text == "InvalidSpec" { Ok(()) } else { Err(text) }
    })
    .await;
    namespace.kubectl(&["delete", "infd", "broken", "--timeout=30s"]);
    namespace.done().await;
}

fn file_with(object: &Value) -> std::fs::File {
    use std::io::{Seek, Write};
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(object.to_string().as_bytes()).expect("written");
    file.rewind().expect("rewound");
    file
}
