//! Deletes pods whose runtime gave up because of a GPU: the kubelet alone would start them again on the same one.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

use super::{ApplyError, Writer};
use crate::controller::{call::call, decide::Doomed, metrics::Verb};

impl Writer<'_> {
    /// Deletes pods, for their ReplicaSet to make others. Doing it again does no harm.
    pub async fn replace(&self, pods: &[Doomed]) -> Result<(), ApplyError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.subject.namespace);
        for Doomed { name, uid } in pods {
            let params = DeleteParams::default().preconditions(Preconditions {
                uid: Some(uid.clone()),
                resource_version: None,
            });
            self.metrics.wrote(Verb::Delete);
            let words = format!("delete Pod {}/{name}", self.subject.namespace);
            match call(&words, api.delete(name, &params)).await {
                // Gone, or another one of the same name: either way this one is no more.
                Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error.into()),
                _ => tracing::info!(pod = name, "a pod whose runtime gave up on its GPU is replaced"),
            }
        }
        Ok(())
    }
}
