//! Whether the API server keeps volumes that are OCI images. One without the feature gate `ImageVolume` (its default before Kubernetes
//! 1.35) drops the field and says nothing, and an engine would start without its model.

use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client, api::PostParams};
use serde_json::json;

use super::{
    call::{CallError, call},
    status::Problem,
};
use crate::api::{InferenceDeploymentSpec, conditions::reason};

/// Name of the volume that is looked for.
const VOLUME: &str = "model";

/// What is known of it: true once the API server has kept such a volume, or would not say.
#[derive(Debug, Default)]
pub struct ImageVolumes(AtomicBool);

impl ImageVolumes {
    /// Why `spec` cannot be carried out, if it has a model in an image. Asked of the API server until it is known to keep such volumes.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn missing(
        &self,
        client: &Client,
        namespace: &str,
        spec: &InferenceDeploymentSpec,
    ) -> Result<Option<Problem>, CallError> {
        let of_an_image = |backend: &crate::api::Backend| {
            let source = backend.local.as_ref().and_then(|local| local.source.as_ref());
            source.is_some_and(|source| source.image.is_some())
        };
        let Some(index) = spec.backends.iter().position(of_an_image) else {
            return Ok(None);
        };
        if self.0.load(Ordering::Relaxed) || are_kept(client, namespace).await? {
            self.0.store(true, Ordering::Relaxed);
            return Ok(None);
        }
        Ok(Some(Problem {
            reason: reason::UNSUPPORTED,
            message: format!(
                "spec.backends[{index}].local.source.image: this cluster drops volumes that are OCI images (on by default from Kubernetes \
                 1.35; from 1.33 with the feature gate ImageVolume of API server and kubelets); turn it on, or use \
                 persistentVolumeClaim, huggingFace or url"
            ),
        }))
    }
}

/// Tries it without a trace. A server that refuses the trial, for a policy of its own, is taken at its word when the real pods come.
async fn are_kept(client: &Client, namespace: &str) -> Result<bool, CallError> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match call("try a volume that is an image", api.create(&parameters, &trial())).await {
        Ok(kept) => Ok(has_volume(&kept)),
        Err(error) if error.is_refusal() => Ok(true),
        Err(error) => Err(error),
    }
}

fn has_volume(deployment: &Deployment) -> bool {
    let pod = deployment.spec.template.spec.as_ref();
    let mut volumes = pod.and_then(|pod| pod.volumes.as_ref()).into_iter().flatten();
    volumes.any(|volume| volume.name == VOLUME && volume.image.is_some())
}

fn trial() -> Deployment {
    let labels = json!({"inference-operator.dev/trial": "image-volume"});
    let pod = json!({
        "containers": [{"name": "c", "image": "localhost/none:1", "volumeMounts": [{"name": VOLUME, "mountPath": "/model"}]}],
        "volumes": [{"name": VOLUME, "image": {"reference": "localhost/none:1"}}],
    });
    let deployment = json!({
        "metadata": {"generateName": "image-volume-"},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    });
    serde_json::from_value(deployment).unwrap_or_default()
}
