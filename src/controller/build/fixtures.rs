//! Specs for tests.

use serde_json::json;

use crate::api::InferenceDeployment;

/// The identity of the fixtures.
pub fn subject() -> super::Subject {
    crate::controller::validate::subject(&both()).unwrap()
}

/// A local backend, a remote one and a spill pod.
pub fn both() -> InferenceDeployment {
    serde_json::from_value(json!({
        "apiVersion": "inference-operator.dev/v1alpha1", "kind": "InferenceDeployment",
        "metadata": {"name": "assistant", "namespace": "default", "uid": "u-1", "generation": 3, "resourceVersion": "10"},
        "spec": {
            "replicas": 2,
            "backends": [
                {"name": "own", "local": {
                    "engine": "LlamaCpp",
                    "source": {"image": {"reference": "registry.example/model:1", "path": "model.gguf"}},
                    "gpus": {"count": 1},
                    "resources": {"limits": {"memory": "4Gi"}},
                }},
                {"name": "openai", "remote": {
                    "provider": "OpenAICompatible", "endpoint": "https://api.example/v1", "model": "small",
                    "credentials": {"secret": {"name": "openai", "key": "api-key"}},
                }},
            ],
            "spill": {"replicas": 1},
        },
    }))
    .unwrap()
}

/// Only the remote backend, two pods.
pub fn remote() -> InferenceDeployment {
    let mut deployment = both();
    deployment.spec.backends.remove(0);
    deployment.spec.spill = None;
    deployment
}
