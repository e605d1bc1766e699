//! `serve --file`: the same object as in a cluster, held against the same schema and rules.

use std::{fmt, io, path::Path, path::PathBuf};

use serde_json::Value;

use super::{Snapshot, structure};
use crate::{
    api::{
        GROUP, InferenceDeployment, VERSION,
        schema::{CrdError, SchemaViolation, check_rules, inference_deployment_crd},
    },
    policy::support::{Mode, unsupported},
};

/// Why a file is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is no YAML document.
    #[error("{} is no valid YAML: {message}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// The object breaks the schema, a rule, or asks for what this mode does not do.
    #[error("{} is no valid InferenceDeployment:{}", path.display(), Lines(violations))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Every field that is wrong.
        violations: Vec<SchemaViolation>,
    },
    /// A defect of this program.
    #[error(transparent)]
    Schema(#[from] CrdError),
}

struct Lines<'a>(&'a [SchemaViolation]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

/// Reads and checks the file. All violations are found in one go.
pub fn load(path: &Path) -> Result<Snapshot, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read {
        path: path.to_owned(),
        error,
    })?;
    let value: Value = serde_saphyr::from_str(&text).map_err(|error| ConfigError::Yaml {
        path: path.to_owned(),
        message: error.to_string(),
    })?;
    check(value)?.map_err(|violations| ConfigError::Invalid {
        path: path.to_owned(),
        violations,
    })
}

fn check(value: Value) -> Result<Result<Snapshot, Vec<SchemaViolation>>, CrdError> {
    let mut violations = head(&value);
    violations.extend(structure::violations(&inference_deployment_crd()?, &value));
    if !violations.is_empty() {
        return Ok(Err(violations));
    }
    Ok(typed(value))
}

fn typed(value: Value) -> Result<Snapshot, Vec<SchemaViolation>> {
    let object: InferenceDeployment = serde_path_to_error::deserialize(value).map_err(|error| {
        vec![SchemaViolation {
            field: error.path().to_string(),
            message: error.inner().to_string(),
        }]
    })?;
    check_rules(&object)?;
    let refused: Vec<_> = unsupported(&object.spec, Mode::File)
        .into_iter()
        .map(|u| SchemaViolation {
            field: u.field,
            message: u.message,
        })
        .collect();
    if refused.is_empty() {
        Ok(object.into())
    } else {
        Err(refused)
    }
}

/// `apiVersion`, `kind` and the name: the schema leaves them to the API server.
fn head(value: &Value) -> Vec<SchemaViolation> {
    let wanted = [
        ("apiVersion", format!("{GROUP}/{VERSION}")),
        ("kind", "InferenceDeployment".to_owned()),
    ];
    let mut found: Vec<_> = wanted
        .into_iter()
        .filter(|(field, want)| value.get(field).and_then(Value::as_str) != Some(want))
        .map(|(field, want)| violation(field, format!("must be {want}")))
        .collect();
    if !value.pointer("/metadata/name").is_some_and(Value::is_string) {
        found.push(violation(
            "metadata.name",
            "is required: the name of the endpoint".into(),
        ));
    }
    found
}

fn violation(field: &str, message: String) -> SchemaViolation {
    SchemaViolation {
        field: field.to_owned(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r"
apiVersion: inference-operator.dev/v1alpha1
kind: InferenceDeployment
metadata: {name: assistant}
spec:
  backends:
  - name: openai
    remote:
      provider: OpenAI
      endpoint: https://api.openai.com/v1
      model: gpt-4o-mini
      credentials: {secret: {name: openai, key: api-key}}
";

    fn read(text: &str) -> Result<Snapshot, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deployment.yaml");
        std::fs::write(&file, text).unwrap();
        load(&file)
    }

    #[test]
    fn a_good_file_is_read() {
        let snapshot = read(GOOD).unwrap();
        assert_eq!(
            (snapshot.model(), snapshot.full_name()),
            ("assistant", "default/assistant".into())
        );
    }

    #[test]
    fn every_fault_is_named_with_its_field() {
        for (from, to, field) in [
            ("model: gpt", "modell: gpt", "spec.backends[0].remote.modell"),
            (
                "provider: OpenAI",
                "provider: OpenApi",
                "spec.backends[0].remote.provider",
            ),
            (
                "https://api.openai.com/v1",
                "ftp://x.example",
                "spec.backends[0].remote.endpoint",
            ),
            (
                "  backends:",
                "  access: {type: ServiceAccount, serviceAccount: {audiences: [a]}}\n  backends:",
                "spec.access.type",
            ),
            ("  backends:", "  replicas: -1\n  backends:", "spec.replicas"),
            ("  backends:", "  budget: {limit: \"5.00\"}\n  backends:", "spec"),
            ("{name: assistant}", "{name: Assistant}", "metadata.name"),
            ("{name: assistant}", "{}", "metadata.name"),
            ("kind: InferenceDeployment", "kind: Deployment", "kind"),
            (
                "  backends:",
                "  serving: {drain: 5x}\n  backends:",
                "spec.serving.drain",
            ),
        ] {
            let error = read(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(matches!(error, ConfigError::Invalid { .. }), "{error}");
            assert!(error.to_string().contains(field), "{field} in {error}");
        }
    }

    #[test]
    fn what_is_no_yaml_is_said_with_its_place() {
        let error = read("spec: [unclosed").unwrap_err();
        assert!(matches!(error, ConfigError::Yaml { .. }), "{error}");
        assert!(matches!(
            load(Path::new("/nonexistent.yaml")),
            Err(ConfigError::Read { .. })
        ));
    }
}
