//! The CRDs as they are installed, and the same schema's rules without a cluster.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::{InferenceDeployment, InferenceReplica};

/// A rule of the schema that an object breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct SchemaViolation {
    /// Path of the field, for example `spec.backends[0]`.
    pub field: String,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// Why a CRD could not be made; a defect of the build, never of a user's input.
#[derive(Debug, thiserror::Error)]
#[error("the schema is no valid CustomResourceDefinition: {0}")]
pub struct CrdError(#[from] serde_json::Error);

/// The CRD of `InferenceDeployment`: derived, with the status default of design section 4 (kstatus never calls a new object Current)
/// and without the descriptions of Kubernetes' own types, which would make it too large for client-side apply.
///
/// # Errors
/// When the derived schema is no CRD, which a unit test excludes.
pub fn inference_deployment_crd() -> Result<CustomResourceDefinition, CrdError> {
    let mut crd = serde_json::to_value(InferenceDeployment::crd())?;
    if let Some(status) = crd.pointer_mut(&format!("{OPEN_API_ROOT}/properties/status")) {
        // The API server fills defaults into an absent object only when the object itself has one.
        if let Some(status) = status.as_object_mut() {
            status.remove("nullable");
            status.insert("default".into(), json!({"observedGeneration": -1}));
        }
    }
    // The default of `replicas` takes the place of null too.
    let replicas = crd.pointer_mut(&format!("{OPEN_API_ROOT}/properties/spec/properties/replicas"));
    if let Some(replicas) = replicas.and_then(Value::as_object_mut) {
        replicas.remove("nullable");
    }
    for field in ["podTemplate", "resources"] {
        if let Some(schema) = crd.pointer_mut(&format!("{LOCAL_ROOT}/{field}/properties")) {
            strip_descriptions(schema, 0);
        }
    }
    strip_unknown_formats(&mut crd);
    Ok(serde_json::from_value(crd)?)
}

/// The CRD of `InferenceReplica`.
///
/// # Errors
/// When the derived schema is no CRD, which a unit test excludes.
pub fn inference_replica_crd() -> Result<CustomResourceDefinition, CrdError> {
    let mut crd = serde_json::to_value(InferenceReplica::crd())?;
    strip_unknown_formats(&mut crd);
    Ok(serde_json::from_value(crd)?)
}

/// Removes the formats of unsigned numbers, which the API server does not know and warns of; their bounds stay.
fn strip_unknown_formats(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map
                .get("format")
                .and_then(Value::as_str)
                .is_some_and(|f| f.starts_with("uint"))
            {
                map.remove("format");
            }
            map.values_mut().for_each(strip_unknown_formats);
        }
        Value::Array(list) => list.iter_mut().for_each(strip_unknown_formats),
        _ => {}
    }
}

const OPEN_API_ROOT: &str = "/spec/versions/0/schema/openAPIV3Schema";
const LOCAL_ROOT: &str =
    "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/backends/items/properties/local/properties";

/// Removes descriptions below the second level: there the types are Kubernetes' own.
fn strip_descriptions(value: &mut Value, depth: usize) {
    match value {
        Value::Object(map) => {
            if depth > 1 && map.get("description").is_some_and(Value::is_string) {
                map.remove("description");
            }
            map.values_mut().for_each(|v| strip_descriptions(v, depth + 1));
        }
        Value::Array(list) => list.iter_mut().for_each(|v| strip_descriptions(v, depth + 1)),
        _ => {}
    }
}

/// Evaluates the CEL rules of the schema without an API server.
///
/// # Errors
/// All rules that the object breaks, in the schema's order.
pub fn check_rules(deployment: &InferenceDeployment) -> Result<(), Vec<SchemaViolation>> {
    let Err(errors) = deployment.validate_cel() else {
        return Ok(());
    };
    Err(errors
        .into_vec()
        .into_iter()
        .map(|e| SchemaViolation {
            field: e.field_path,
            message: e.message,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_crds_can_be_made() {
        let deployment = serde_json::to_value(inference_deployment_crd().unwrap()).unwrap();
        assert_eq!(
            deployment.pointer(&format!("{OPEN_API_ROOT}/properties/status/default/observedGeneration")),
            Some(&json!(-1))
        );
        assert!(
            serde_json::to_string(&deployment).unwrap().len() < 200_000,
            "client-side apply keeps a copy in an annotation of at most 256 KiB"
        );
        assert_eq!(inference_replica_crd().unwrap().spec.names.kind, "InferenceReplica");
    }
}
