//! APIs that not every cluster has: asked for by those specs alone that need one.

use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;

use super::{
    call::{CallError, call},
    status::Problem,
};
use crate::api::{InferenceDeploymentSpec, LocalBackend, conditions::reason};

/// Dynamic resource allocation.
const RESOURCE: &str = "resource.k8s.io/v1";

/// An API that a field of a local backend needs.
struct Need {
    field: &'static str,
    api: &'static str,
    /// What it is and what to do without it.
    advice: &'static str,
}

fn need(local: &LocalBackend) -> Option<Need> {
    let gpus = local.gpus.as_ref().filter(|gpus| gpus.are_claimed())?;
    let inline = gpus.device_class_name.is_some();
    Some(Need {
        field: if inline {
            "gpus.deviceClassName"
        } else {
            "gpus.claimTemplate"
        },
        api: RESOURCE,
        advice: "dynamic resource allocation, on by default from Kubernetes 1.34; turn it on or use gpus.resourceName with gpus.count",
    })
}

/// What `spec` needs and this cluster does not have. Without it the API server would leave the field out, and the pods would start without
/// GPUs.
pub async fn missing(client: &Client, spec: &InferenceDeploymentSpec) -> Result<Option<Problem>, CallError> {
    let mut locals = spec.backends.iter().enumerate();
    let needed = locals.find_map(|(index, backend)| Some((index, need(backend.local.as_ref()?)?)));
    let Some((index, Need { field, api, advice })) = needed else {
        return Ok(None);
    };
    if is_served(client, api).await? {
        return Ok(None);
    }
    Ok(Some(Problem {
        reason: reason::UNSUPPORTED,
        message: format!("spec.backends[{index}].local.{field}: this cluster does not have the API {api} ({advice})"),
    }))
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
