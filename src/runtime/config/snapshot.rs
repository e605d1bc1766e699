//! One state of the configuration.

use crate::api::{InferenceDeployment, InferenceDeploymentSpec, Serving};

/// One state of the configuration, valid as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Namespace; `default` with `--file` when the file names none.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.generation`; unknown with `--file`.
    pub generation: Option<i64>,
    /// The spec.
    pub spec: InferenceDeploymentSpec,
}

impl Snapshot {
    /// What clients put in `model`.
    #[must_use]
    pub fn model(&self) -> &str {
        self.spec.model(&self.name)
    }

    /// `NAMESPACE/NAME`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// How requests are taken in.
    #[must_use]
    pub fn serving(&self) -> Serving {
        self.spec.serving.clone().unwrap_or_default()
    }
}

impl From<InferenceDeployment> for Snapshot {
    fn from(object: InferenceDeployment) -> Self {
        let InferenceDeployment {
            metadata,
            spec,
            status: _,
        } = object;
        Self {
            namespace: metadata.namespace.unwrap_or_else(|| "default".into()),
            name: metadata.name.unwrap_or_default(),
            generation: metadata.generation,
            spec,
        }
    }
}
