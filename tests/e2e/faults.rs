//! The controller dies and comes back; nothing that serves notices.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::json;

use crate::harness::{self, Namespace, PODS, Provider, SOON, post, until};

const OPERATOR: &str = "inference-operator";

#[tokio::test]
async fn the_controller_may_die_at_any_time() {
    let provider = Provider::start("sk").await;
    let namespace = Namespace::create("faults").await;
    let controllers: Api<Pod> = Api::namespaced(namespace.client.clone(), OPERATOR);
    let kill = async || {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        };
        controllers
            .delete_collection(&params, &ListParams::default())
            .await
            .expect("the controller is killed");
    };
    namespace.apply(&harness::secret("sk")).await;
    namespace.apply(&harness::remote("assistant", &provider.endpoint)).await;
    kill().await;
    namespace.wait("assistant", "Ready", "True").await;
    let pods = namespace.pod_uids("assistant").await;
    kill().await;

    let url = format!("{}/v1/chat/completions", namespace.service("assistant"));
    let body = json!({"model": "assistant", "messages": [{"role": "user", "content": "Hello"}]});
    let answer = until("an answer without a controller", SOON, async || post(&url, &body).await).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    namespace
        .apply(&harness::with(
            harness::remote("assistant", &provider.endpoint),
            "/spec/model",
            json!("renamed"),
        ))
        .await;
    namespace.wait("assistant", "Ready", "True").await;
    assert_eq!(
        namespace.pod_uids("assistant").await,
        pods,
        "a new controller rolls no pod"
    );
    until("the old one is gone", PODS, async || {
        let list = controllers
            .list(&ListParams::default())
            .await
            .map_err(|e| e.to_string())?;
        let going = list
            .items
            .iter()
            .filter(|p| p.metadata.deletion_timestamp.is_some())
            .count();
        if going == 0 {
            Ok(())
        } else {
            Err(format!("{going} still go"))
        }
    })
    .await;
    namespace.done().await;
}
