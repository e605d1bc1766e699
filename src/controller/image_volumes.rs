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
use crate::api::{Backend, InferenceDeploymentSpec, conditions::reason};

/// Name of the volume that is looked for.
const VOLUME: &str = "model";

/// What is known of it: true once the API server has kept such a volume, or would not say.
#[derive(Debug, Default)]
pub struct ImageVolumes(AtomicBool);

impl ImageVolumes {
    /// Why `spec` cannot be carried out, if it has a volume that is an image. Asked of the API server until it is known to keep such volumes.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn missing(
        &self,
        client: &Client,
        namespace: &str,
        spec: &InferenceDeploymentSpec,
    ) -> Result<Option<Problem>, CallError> {
        let Some(field) = spec.backends.iter().enumerate().find_map(field) else {
            return Ok(None);
        };
        if self.0.load(Ordering::Relaxed) || are_kept(client, namespace).await? {
            self.0.store(true, Ordering::Relaxed);
            return Ok(None);
        }
        Ok(Some(Problem {
            reason: reason::UNSUPPORTED,
            message: format!(
                "{field}: this cluster drops volumes that are OCI images (on by default from Kubernetes \
                 1.35; from 1.33 with the feature gate ImageVolume of API server and kubelets); turn it on, or use \
                 another volume; a model may also come from huggingFace or url"
            ),
        }))
    }
}

/// The field with an image that becomes a volume.
fn field((index, backend): (usize, &Backend)) -> Option<String> {
    let local = backend.local.as_ref()?;
    if local.source.as_ref().is_some_and(|source| source.image.is_some()) {
        return Some(format!("spec.backends[{index}].local.source.image"));
    }
    let volumes = &local.pod_template.as_ref()?.volumes;
    let volume = volumes.iter().position(|volume| volume.image.is_some())?;
    Some(format!(
        "spec.backends[{index}].local.podTemplate.volumes[{volume}].image"
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_named() {
        let named = |local: serde_json::Value| {
            let backend: Backend = serde_json::from_value(json!({"name": "own", "local": local})).unwrap();
            field((1, &backend))
        };
        let volumes = json!([{"name": "a", "emptyDir": {}}, {"name": "b", "image": {"reference": "x:1"}}]);
        let url = json!({"url": {"location": "https://models.example/m.gguf", "sha256": "0"}});
        let image = json!({"image": {"reference": "x:1", "path": "m.gguf"}});
        let cases = [
            (json!({"engine": "LlamaCpp", "source": url}), None),
            (
                json!({"engine": "LlamaCpp", "source": image}),
                Some("spec.backends[1].local.source.image"),
            ),
            (
                json!({"engine": "LlamaCpp", "source": url, "podTemplate": {"volumes": volumes}}),
                Some("spec.backends[1].local.podTemplate.volumes[1].image"),
            ),
        ];
        for (local, expected) in cases {
            assert_eq!(named(local).as_deref(), expected);
        }
    }
}
