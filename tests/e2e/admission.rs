//! A replica writes its own status and nobody else's.

use inference_operator::api::InferenceReplica;
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams},
    config::AuthInfo,
};
use serde_json::json;

use crate::harness::{self, Namespace, Provider};

/// What the API server says to a patch of a replica's status with a token; empty when it takes it.
async fn patch_status(namespace: &Namespace, replica: &str, token: &str) -> String {
    let mut config = Config::infer().await.expect("KUBECONFIG names a cluster");
    config.auth_info = AuthInfo {
        token: Some(token.to_owned().into()),
        ..AuthInfo::default()
    };
    let client = Client::try_from(config).expect("a client");
    let replicas: Api<InferenceReplica> = Api::namespaced(client, &namespace.name);
    let patch = Patch::Merge(json!({"status": {"ready": false}}));
    let result = replicas.patch_status(replica, &PatchParams::default(), &patch).await;
    result.err().map(|e| e.to_string()).unwrap_or_default()
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

    assert_eq!(patch_status(&namespace, &names[0], &token).await, "", "its own");
    let said = patch_status(&namespace, &names[1], &token).await;
    assert!(said.contains("inference-operator: only the pod"), "another's: {said}");
    let unbound = namespace.kubectl(&["create", "token", "assistant"]);
    let said = patch_status(&namespace, &names[0], &unbound).await;
    assert!(
        said.contains("inference-operator: only the pod"),
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
