//! What goes wrong is named: images, foreign objects, fields that this version does not carry out.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use crate::harness::{self, Namespace, PODS, Provider, SOON, until, with};

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
    let said = namespace.said("assistant", "Ready").await;
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
    let said = namespace.said("assistant", "Stalled").await;
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
    namespace
        .apply(&with(
            harness::local("assistant"),
            "/spec/backends/0/local/args",
            json!(["--port", "1"]),
        ))
        .await;
    namespace
        .wait_reason("assistant", "Stalled", "True", "Unsupported")
        .await;
    assert!(
        namespace
            .said("assistant", "Stalled")
            .await
            .contains("spec.backends[0].local.args[0]")
    );
    assert_eq!(
        namespace.pods("assistant").await.len(),
        0,
        "nothing is started that would not be as its spec says"
    );
    namespace.done().await;
}

/// The CRD's schema of `spec`, which can be replaced.
struct SpecSchema(Value);

const CRD: &str = "inferencedeployments.inference-operator.dev";
const SPEC: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";

impl SpecSchema {
    fn current() -> Self {
        let crd: Value = serde_json::from_str(&harness::kubectl(&["get", "crd", CRD, "-o", "json"])).expect("JSON");
        Self(crd.pointer(SPEC).expect("the schema").clone())
    }

    fn lax() -> Self {
        Self(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}))
    }

    /// In helm's name, so that a later upgrade finds no other manager.
    fn install(&self) {
        let patch = json!([{"op": "replace", "path": SPEC, "value": self.0}]).to_string();
        harness::kubectl(&["patch", "crd", CRD, "--type=json", "--field-manager=helm", "-p", &patch]);
    }
}

/// An object that an older, laxer schema let in can neither be read nor block the others.
#[tokio::test]
async fn an_object_from_a_laxer_schema_wedges_nothing() {
    let namespace = Namespace::create("laxer").await;
    let broken = json!({
        "apiVersion": "inference-operator.dev/v1alpha1", "kind": "InferenceDeployment", "metadata": {"name": "broken"},
        "spec": {"backends": "none at all"},
    });
    let strict = SpecSchema::current();
    SpecSchema::lax().install();
    until("the lax schema takes it", SOON, async || {
        namespace.dry_run(&broken, false)
    })
    .await;
    namespace.apply(&broken).await;
    strict.install();
    until("the strict schema is back", SOON, async || {
        match namespace.dry_run(&broken, false) {
            Err(said) if said.contains("spec.backends") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;

    let provider = Provider::start("sk").await;
    namespace.apply(&harness::secret("sk")).await;
    namespace.apply(&harness::remote("assistant", &provider.endpoint)).await;
    namespace.wait("assistant", "Ready", "True").await;
    let stalled = "jsonpath={.status.conditions[?(@.type==\"Stalled\")].reason}";
    until("the broken one is told", PODS, async || {
        match namespace.kubectl(&["get", "infd", "broken", "-o", stalled]).as_str() {
            "InvalidSpec" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
    namespace.kubectl(&["delete", "infd", "broken", "--timeout=30s"]);
    namespace.done().await;
}

/// Nobody keeps a team from giving its deployment the name of the operator's release.
#[tokio::test]
async fn a_deployment_named_like_the_release_is_not_taken_for_the_controller() {
    let release = "inference-operator";
    let provider = Provider::start("sk").await;
    let namespace = Namespace::create("namesake").await;
    namespace.apply(&harness::secret("sk")).await;
    namespace.apply(&harness::remote(release, &provider.endpoint)).await;
    namespace.wait(release, "Ready", "True").await;
    let service = ["-n", release, "get", "service", "inference-operator-controller"];
    let selector = harness::kubectl(&[&service[..], &["-o", "jsonpath={.spec.selector}"]].concat());
    let selector: BTreeMap<String, String> = serde_json::from_str(&selector).expect("labels");
    let labels: Vec<String> = selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let labels = labels.join(",");
    let chosen = ["get", "pods", "-o", "name", "-l", &labels];
    assert_eq!(namespace.kubectl(&chosen), "", "pods of {release}, the deployment");
    let controllers = harness::kubectl(&[&["-n", release], &chosen[..]].concat());
    assert_ne!(controllers, "", "pods of the controller");
    namespace.done().await;
}
