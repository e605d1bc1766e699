//! One state of the configuration.

use std::sync::LazyLock;

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
    /// The budget does not pay for GPUs: there are no local pods, whoever wants them.
    pub released: bool,
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

    /// True when local pods that were let go come back for a request.
    #[must_use]
    pub fn comes_back(&self) -> bool {
        self.spec.scale_to_zero.is_some() && self.spec.replicas() > 0 && !self.released
    }

    /// How requests are taken in.
    #[must_use]
    pub fn serving(&self) -> &Serving {
        static DEFAULT: LazyLock<Serving> = LazyLock::new(Serving::default);
        self.spec.serving.as_ref().unwrap_or(&DEFAULT)
    }
}

impl From<InferenceDeployment> for Snapshot {
    fn from(object: InferenceDeployment) -> Self {
        let InferenceDeployment { metadata, spec, status } = object;
        let ledger = status
            .and_then(|status| status.budget)
            .filter(|_| spec.budget.is_some());
        Self {
            released: ledger.is_some_and(|ledger| ledger.released_at().is_some()),
            namespace: metadata.namespace.unwrap_or_else(|| "default".into()),
            name: metadata.name.unwrap_or_default(),
            generation: metadata.generation,
            spec,
        }
    }
}
