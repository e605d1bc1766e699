//! APIs that not every cluster has: asked for by those specs alone that need one.

use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIGroup;
use kube::Client;

use super::{
    call::{CallError, call},
    status::Problem,
};
use crate::api::{InferenceDeploymentSpec, conditions::reason};

/// The group of dynamic resource allocation.
const RESOURCE: &str = "/apis/resource.k8s.io";

/// What `spec` needs and this cluster does not have. Without it the API server would leave the field out, and the pods would start without
/// GPUs.
pub async fn missing(client: &Client, spec: &InferenceDeploymentSpec) -> Result<Option<Problem>, CallError> {
    let needed = spec.backends.iter().position(|backend| {
        let gpus = backend.local.as_ref().and_then(|local| local.gpus.as_ref());
        gpus.is_some_and(|gpus| gpus.claim_template.is_some())
    });
    let Some(index) = needed else { return Ok(None) };
    let request = Request::get(RESOURCE).body(Vec::new()).unwrap_or_default();
    match call("get the API group resource.k8s.io", client.request::<APIGroup>(request)).await {
        Ok(_) => Ok(None),
        Err(error) if error.is_not_found() => Ok(Some(Problem {
            reason: reason::UNSUPPORTED,
            message: format!(
                "spec.backends[{index}].local.gpus.claimTemplate: this cluster does not have the API resource.k8s.io (dynamic resource \
                 allocation, on by default from Kubernetes 1.34); turn it on or use gpus.count"
            ),
        })),
        Err(error) => Err(error),
    }
}
