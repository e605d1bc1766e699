//! The schema against a real API server: every rule, every field, defaults and columns.

use inference_operator::api::InferenceDeployment;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, PostParams},
};
use serde_json::Value;

use crate::{harness::Namespace, support::cases};

struct DryRun(Api<DynamicObject>);

impl DryRun {
    fn new(namespace: &Namespace) -> Self {
        let resource = ApiResource::erase::<InferenceDeployment>(&());
        Self(Api::namespaced_with(
            namespace.client.clone(),
            &namespace.name,
            &resource,
        ))
    }

    async fn create(&self, object: Value) -> Result<DynamicObject, String> {
        let params = PostParams {
            dry_run: true,
            field_manager: None,
        };
        let object = serde_json::from_value(object).map_err(|e| e.to_string())?;
        self.0.create(&params, &object).await.map_err(|e| e.to_string())
    }
}

#[tokio::test]
async fn every_rule_accepts_and_rejects() {
    let namespace = Namespace::create("schema-rules").await;
    let api = DryRun::new(&namespace);
    for case in cases::rules() {
        api.create(case.accepted())
            .await
            .unwrap_or_else(|e| panic!("accept: {}: {e}", case.rule));
        let said = api.create(case.rejected()).await.expect_err(&case.rule);
        assert!(said.contains(&case.rule), "reject: {}: {said}", case.rule);
    }
    namespace.done().await;
}

#[tokio::test]
async fn every_wrong_field_is_named() {
    let namespace = Namespace::create("schema-fields").await;
    let api = DryRun::new(&namespace);
    for case in cases::fields() {
        let said = api.create(case.rejected()).await.expect_err(&case.field);
        assert!(said.contains(&case.field), "{}: {said}", case.field);
    }
    namespace.done().await;
}

#[tokio::test]
async fn a_new_object_is_never_current() {
    let namespace = Namespace::create("schema-status").await;
    let created = DryRun::new(&namespace)
        .create(cases::base())
        .await
        .expect("the base object is valid");
    assert_eq!(created.data["status"]["observedGeneration"], -1);
    namespace.done().await;
}

#[tokio::test]
async fn kubectl_refuses_a_field_that_is_not_there() {
    let namespace = Namespace::create("schema-unknown").await;
    let mut object = cases::base();
    object["spec"]["replica"] = 2.into();
    let said = namespace.dry_run(&object, true).expect_err("there is no such field");
    assert!(said.contains("spec.replica"), "{said}");
    namespace.done().await;
}
