//! Who this process is in the cluster: set by the controller in the pod's environment.

use std::env;

use crate::api::names;

/// Who this process is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod, which is that of its `InferenceReplica`.
    pub pod: String,
    /// UID of the pod.
    pub pod_uid: String,
    /// Name of the `InferenceDeployment`.
    pub deployment: String,
    /// UID of the `InferenceDeployment`.
    pub deployment_uid: String,
}

/// A variable is missing.
#[derive(Debug, thiserror::Error)]
#[error(
    "the environment variable {0} is not set: the controller sets it in the pods it makes; outside a cluster use `serve --file FILE`"
)]
pub struct IdentityError(&'static str);

impl Identity {
    /// Reads the environment.
    pub fn from_env() -> Result<Self, IdentityError> {
        let get = |name| env::var(name).ok().filter(|v| !v.is_empty()).ok_or(IdentityError(name));
        Ok(Self {
            namespace: get(names::ENV_NAMESPACE)?,
            pod: get(names::ENV_POD_NAME)?,
            pod_uid: get(names::ENV_POD_UID)?,
            deployment: get(names::ENV_DEPLOYMENT)?,
            deployment_uid: get(names::ENV_DEPLOYMENT_UID)?,
        })
    }
}
