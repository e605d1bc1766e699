//! The operator goes; what it held goes too.

use std::{path::Path, process::Command};

use super::*;
use crate::harness::figure;

const RELEASE: &str = "inference-operator";

fn helm(args: &[&str]) -> String {
    let output = Command::new("helm").args(["-n", RELEASE]).args(args).output();
    let output = output.expect("helm runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "helm {args:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The operator, installed again as it was when this is dropped.
struct Uninstalled(tempfile::NamedTempFile);

impl Uninstalled {
    fn now() -> Self {
        let values = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(values.path(), helm(&["get", "values", RELEASE, "-o", "yaml"])).expect("written");
        helm(&["uninstall", RELEASE, "--wait", "--timeout=120s"]);
        Self(values)
    }
}

impl Drop for Uninstalled {
    fn drop(&mut self) {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts").join(RELEASE);
        let (chart, values) = (chart.to_string_lossy(), self.0.path().to_string_lossy());
        helm(&["install", RELEASE, &chart, "-f", &values, "--wait", "--timeout=120s"]);
    }
}

#[tokio::test]
#[ignore = "stops what other tests need: runs alone"]
async fn without_the_operator_nothing_holds_a_budget() {
    let endpoint = Endpoint::start("budget-uninstall", 2, 100).await;
    endpoint.load(8, 8).await;
    let held = async || {
        let replicas = endpoint.namespace.replicas().list(&ListParams::default()).await;
        let replicas = replicas.expect("replicas can be listed").items.into_iter();
        let finalizers = replicas.map(|replica| replica.metadata.finalizers.unwrap_or_default().len());
        finalizers.collect::<Vec<_>>()
    };
    assert_eq!(held().await, [1, 1], "each has a finalizer");
    let started = Instant::now();
    let uninstalled = Uninstalled::now();
    figure("helm uninstall with budgets, s", started.elapsed().as_secs_f64());
    assert_eq!(held().await, [0, 0]);
    endpoint
        .namespace
        .kubectl(&["delete", "infd", "assistant", "--wait=false"]);
    until("its replicas are gone", SOON, async || {
        let left = held().await.len();
        if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} are left"))
        }
    })
    .await;
    drop(uninstalled);
    endpoint.namespace.done().await;
}
