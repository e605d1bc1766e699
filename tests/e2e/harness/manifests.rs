//! The objects that the tests apply.

use std::env;

use serde_json::{Value, json};

use crate::support::cases;

fn image(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run this through `make test-e2e`"))
}

/// An InferenceDeployment with one local backend `own`: the real engine with the tiny random model.
pub fn local(name: &str) -> Value {
    let source = json!({"image": {"reference": image("E2E_TINY_MODEL_IMAGE"), "path": "tiny.gguf"}});
    let own = json!({
        "engine": "LlamaCpp",
        "image": image("E2E_ENGINE_IMAGE"),
        "source": source,
        "contextLength": 512,
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
    });
    deployment(name, json!([{"name": "own", "local": own}]))
}

/// An InferenceDeployment with one remote backend `far`, with the key `api-key` of Secret `provider`.
pub fn remote(name: &str, endpoint: &str) -> Value {
    let far = json!({
        "provider": "OpenAICompatible",
        "endpoint": endpoint,
        "model": "upstream-model",
        "credentials": {"secret": {"name": "provider", "key": "api-key"}},
    });
    deployment(name, json!([{"name": "far", "remote": far}]))
}

fn deployment(name: &str, backends: Value) -> Value {
    json!({
        "apiVersion": "inference-operator.dev/v1alpha1",
        "kind": "InferenceDeployment",
        "metadata": {"name": name},
        "spec": {"backends": backends, "serving": {"drain": "10m"}},
    })
}

/// Secret `provider` with a key.
pub fn secret(key: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "provider"}, "stringData": {"api-key": key}})
}

/// The object with one field of its spec set.
pub fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    cases::set(&mut object, pointer, &value);
    object
}
