//! APIs that not every cluster has: asked for by those specs alone that need one.

use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;

use super::{
    call::{CallError, call},
    status::Problem,
};
use crate::api::{InferenceDeploymentSpec, LocalBackend, conditions::reason};

/// Groups of pods.
const GROUPS: &str = "leaderworkerset.x-k8s.io/v1";
/// Dynamic resource allocation.
const RESOURCE: &str = "resource.k8s.io/v1";

/// An API that a field of a local backend needs.
struct Need {
    field: &'static str,
    api: &'static str,
    /// What it is and what to do without it.
    advice: &'static str,
}

fn needs(local: &LocalBackend) -> impl Iterator<Item = Need> {
    let groups = (local.nodes() > 1).then_some(Need {
        field: "nodes",
        api: GROUPS,
        advice: "LeaderWorkerSet, https://lws.sigs.k8s.io; install it or use one node",
    });
    let claimed = local.gpus.as_ref().filter(|gpus| gpus.are_claimed());
    let inline = claimed.is_some_and(|gpus| gpus.device_class_name.is_some());
    let claims = claimed.map(|_| Need {
        field: if inline {
            "gpus.deviceClassName"
        } else {
            "gpus.claimTemplate"
        },
        api: RESOURCE,
        advice: "dynamic resource allocation, on by default from Kubernetes 1.34; turn it on or use gpus.resourceName with gpus.count",
    });
    groups.into_iter().chain(claims)
}

/// What `spec` needs and this cluster does not have. Without it the API server would leave the field out, and the pods would start without
/// GPUs.
pub async fn missing(client: &Client, spec: &InferenceDeploymentSpec) -> Result<Option<Problem>, CallError> {
    let locals = spec
        .backends
        .iter()
        .enumerate()
        .filter_map(|(index, b)| Some((index, b.local.as_ref()?)));
    for (index, Need { field, api, advice }) in locals.flat_map(|(i, local)| needs(local).map(move |need| (i, need))) {
        if !is_served(client, api).await? {
            return Ok(Some(Problem {
                reason: reason::UNSUPPORTED,
                message: format!(
                    "spec.backends[{index}].local.{field}: this cluster does not have the API {api} ({advice})"
                ),
            }));
        }
    }
    Ok(None)
}

/// Whether the cluster has an API, by its group and version.
pub async fn is_served(client: &Client, api: &str) -> Result<bool, CallError> {
    let request = Request::get(format!("/apis/{api}"))
        .body(Vec::new())
        .unwrap_or_default();
    match call(
        &format!("get the API {api}"),
        client.request::<APIResourceList>(request),
    )
    .await
    {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}
