//! A replica writes its own status and nobody else's.

use serde_json::json;

use crate::harness::{self, Namespace, Provider};

/// What the API server says to a patch of a replica's status with a token.
fn patch_status(namespace: &Namespace, replica: &str, token: &str) -> (bool, String) {
    let patch = json!({"status": {"ready": false}}).to_string();
    let server = harness::kubectl(&[
        "config",
        "view",
        "--raw",
        "--minify",
        "-o",
        "jsonpath={.clusters[0].cluster.server}",
    ]);
    let authority = harness::kubectl(&[
        "config",
        "view",
        "--raw",
        "--minify",
        "-o",
        "jsonpath={.clusters[0].cluster.certificate-authority-data}",
    ]);
    let user = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"Config\",\"current-context\":\"t\",\
         \"contexts\":[{{\"name\":\"t\",\"context\":{{\"cluster\":\"t\",\"user\":\"t\"}}}}],\
         \"clusters\":[{{\"name\":\"t\",\"cluster\":{{\"server\":\"{server}\",\"certificate-authority-data\":\"{authority}\"}}}}],\
         \"users\":[{{\"name\":\"t\",\"user\":{{\"token\":\"{token}\"}}}}]}}"
    );
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), user).expect("written");
    let config = file.path().to_string_lossy().into_owned();
    let output = std::process::Command::new("kubectl")
        .args(["--kubeconfig", &config, "-n", &namespace.name, "patch", "infr", replica])
        .args(["--subresource=status", "--type=merge", "-p", &patch])
        .output()
        .expect("kubectl runs");
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[tokio::test]
async fn a_replica_writes_its_own_status_only() {
    let provider = Provider::start("sk").await;
    let namespace = Namespace::create("admission").await;
    namespace.apply(&harness::secret("sk")).await;
    let two = harness::with(
        harness::remote("assistant", &provider.endpoint),
        "/spec/replicas",
        json!(2),
    );
    namespace.apply(&two).await;
    namespace.wait("assistant", "Reconciling", "True").await;
    namespace.wait("assistant", "Ready", "True").await;
    let names = harness::until("two replicas", harness::PODS, async || {
        let list = namespace
            .replicas()
            .list(&kube::api::ListParams::default())
            .await
            .map_err(|e| e.to_string())?;
        let names: Vec<_> = list.items.into_iter().filter_map(|r| r.metadata.name).collect();
        if names.len() == 2 {
            Ok(names)
        } else {
            Err(format!("{names:?}"))
        }
    })
    .await;
    let bound = [
        "create",
        "token",
        "assistant",
        "--bound-object-kind",
        "Pod",
        "--bound-object-name",
        &names[0],
    ];
    let token = namespace.kubectl(&bound);

    assert_eq!(
        patch_status(&namespace, &names[0], &token),
        (true, String::new()),
        "its own"
    );
    let (accepted, said) = patch_status(&namespace, &names[1], &token);
    assert!(!accepted && said.contains("inference-operator"), "another's: {said}");
    let unbound = namespace.kubectl(&["create", "token", "assistant"]);
    let (accepted, said) = patch_status(&namespace, &names[0], &unbound);
    assert!(
        !accepted && said.contains("inference-operator"),
        "a token of no pod: {said}"
    );
    namespace.done().await;
}

#[tokio::test]
async fn a_runtime_reads_no_secret_and_writes_nothing_else() {
    let provider = Provider::start("sk").await;
    let namespace = Namespace::create("rights").await;
    namespace.apply(&harness::secret("sk")).await;
    namespace.apply(&harness::remote("assistant", &provider.endpoint)).await;
    namespace.wait("assistant", "Ready", "True").await;
    let user = format!("--as=system:serviceaccount:{}:assistant", namespace.name);
    let may = |verb: &str, what: &str| {
        let output = std::process::Command::new("kubectl")
            .args(["-n", &namespace.name, "auth", "can-i", verb, what, &user])
            .output()
            .expect("kubectl runs");
        String::from_utf8_lossy(&output.stdout).trim() == "yes"
    };
    for (verb, what) in [
        ("get", "infd/assistant"),
        ("watch", "infr"),
        ("patch", "infr/any"),
        ("create", "events"),
    ] {
        let expected = (verb, what) != ("patch", "infr/any");
        assert_eq!(may(verb, what), expected, "{verb} {what}");
    }
    for (verb, what) in [
        ("get", "secrets"),
        ("list", "secrets"),
        ("get", "infd/other"),
        ("update", "infd/assistant"),
        ("get", "pods"),
        ("delete", "infr/any"),
    ] {
        assert!(!may(verb, what), "{verb} {what}");
    }
    namespace.done().await;
}
