//! The cluster that `KUBECONFIG` names, and a namespace of each test's own.

use std::{
    io::{Seek, Write},
    process::Command,
    time::Duration,
};

use inference_operator::api::{InferenceDeployment, InferenceDeploymentStatus, InferenceReplica};
use k8s_openapi::api::core::v1::{self as core, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    core::DynamicObject,
    discovery,
};
use serde_json::Value;

use super::{PODS, wait};

/// A namespace of one test. It is deleted, without waiting, when the test ends well; after a failure it stays to be looked at.
pub struct Namespace {
    pub name: String,
    pub client: Client,
}

/// Whether the kubelet says that it takes requests.
pub fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Runs kubectl and returns what it printed.
pub fn kubectl(args: &[&str]) -> String {
    let output = Command::new("kubectl").args(args).output().expect("kubectl runs");
    assert!(
        output.status.success(),
        "kubectl {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Namespace {
    /// Makes the namespace, under the restricted pod security standard. Its name is new in every run: an earlier one may still be going.
    pub async fn create(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let client = Client::try_default().await.expect("KUBECONFIG names a cluster");
        let labels = [("pod-security.kubernetes.io/enforce".to_owned(), "restricted".to_owned())];
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        };
        let namespace = core::Namespace {
            metadata,
            ..core::Namespace::default()
        };
        Api::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await
            .expect("the namespace is new");
        Self { name, client }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    pub fn deployments(&self) -> Api<InferenceDeployment> {
        self.api()
    }

    /// Status of an InferenceDeployment that has one.
    pub async fn status(&self, name: &str) -> InferenceDeploymentStatus {
        let object = self.deployments().get(name).await.expect("it is there");
        object.status.expect("a status")
    }

    /// The message of a condition; empty without it.
    pub async fn said(&self, name: &str, condition: &str) -> String {
        let conditions = self.status(name).await.conditions;
        let found = conditions.into_iter().find(|c| c.type_ == condition);
        found.map(|c| c.message).unwrap_or_default()
    }

    pub fn replicas(&self) -> Api<InferenceReplica> {
        self.api()
    }

    /// Server-side apply of any object, as a user with kubectl would do it.
    pub async fn apply(&self, object: &Value) {
        let object: DynamicObject = serde_json::from_value(object.clone()).expect("an object");
        let types = object.types.clone().expect("apiVersion and kind");
        let gvk = kube::core::GroupVersionKind::try_from(&types).expect("a group, a version and a kind");
        let (resource, _) = discovery::pinned_kind(&self.client, &gvk)
            .await
            .expect("the kind is known");
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.name, &resource);
        let name = object.metadata.name.clone().expect("metadata.name");
        api.patch(&name, &PatchParams::apply("e2e").force(), &Patch::Apply(&object))
            .await
            .expect("the API server takes it");
    }

    /// What kubectl says to creating the object without doing it; with `validate` it checks the fields first, as it does for users.
    pub fn dry_run(&self, object: &Value, validate: bool) -> Result<(), String> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(object.to_string().as_bytes()).expect("written");
        file.rewind().expect("rewound");
        let output = Command::new("kubectl")
            .args(["-n", &self.name, "create", "--dry-run=server", "-f", "-"])
            .arg(format!("--validate={validate}"))
            .stdin(file)
            .output()
            .expect("kubectl runs");
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// kubectl in this namespace.
    pub fn kubectl(&self, args: &[&str]) -> String {
        kubectl(&[&["-n", &self.name], args].concat())
    }

    /// Waits for a condition of an InferenceDeployment; returns how long it took.
    pub async fn wait(&self, name: &str, condition: &str, status: &str) -> Duration {
        wait::condition(self, name, condition, status, None, PODS).await
    }

    /// Waits for a condition with a reason.
    pub async fn wait_reason(&self, name: &str, condition: &str, status: &str, reason: &str) -> Duration {
        wait::condition(self, name, condition, status, Some(reason), PODS).await
    }

    /// Pods of an InferenceDeployment that are not being deleted, by name.
    pub async fn pods(&self, deployment: &str) -> Vec<Pod> {
        let selector = ListParams::default().labels(&format!("inference-operator.dev/deployment={deployment}"));
        let pods = self.api::<Pod>().list(&selector).await.expect("pods can be listed");
        pods.items
            .into_iter()
            .filter(|p| p.metadata.deletion_timestamp.is_none())
            .collect()
    }

    pub async fn pod_uids(&self, deployment: &str) -> Vec<String> {
        let mut uids: Vec<_> = self
            .pods(deployment)
            .await
            .into_iter()
            .filter_map(|p| p.metadata.uid)
            .collect();
        uids.sort();
        uids
    }

    /// Base address of the Service, by its name.
    pub fn service(&self, name: &str) -> String {
        format!("http://{name}.{}.svc.cluster.local", self.name)
    }

    /// Deletes the namespace without waiting for it.
    pub async fn done(self) {
        Api::<core::Namespace>::all(self.client)
            .delete(&self.name, &DeleteParams::default())
            .await
            .expect("deleted");
    }
}
