//! Step 2: can this spec be carried out? Pure. What cannot becomes Stalled, never an error that is tried again for ever.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use kube::ResourceExt;

use super::build::Subject;
use crate::{
    api::{InferenceDeployment, conditions::reason, schema::check_rules},
    policy::support::{Mode, unsupported},
};

/// Why a spec is not carried out. Messages name the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidateError {
    /// It breaks the schema: it got past an older one, or past none.
    #[error("{0}")]
    InvalidSpec(String),
    /// It asks for what this version does not do.
    #[error("{0}")]
    Unsupported(String),
}

impl ValidateError {
    /// The reason of the Stalled condition.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::InvalidSpec(_) => reason::INVALID_SPEC,
            Self::Unsupported(_) => reason::UNSUPPORTED,
        }
    }
}

/// Whom this is about.
///
/// # Errors
/// An object without name, namespace or UID, which no API server delivers.
pub fn subject(object: &impl ResourceExt) -> Result<Subject, ValidateError> {
    let missing = |field: &str| ValidateError::InvalidSpec(format!("metadata.{field} is missing"));
    Ok(Subject {
        name: object.meta().name.clone().ok_or_else(|| missing("name"))?,
        namespace: object.namespace().ok_or_else(|| missing("namespace"))?,
        uid: object.uid().ok_or_else(|| missing("uid"))?,
    })
}

/// Checks the schema's rules once more and what this version supports.
///
/// # Errors
/// All violations in one message.
pub fn validate(deployment: &InferenceDeployment) -> Result<(), ValidateError> {
    if let Err(violations) = check_rules(&without_status(deployment)) {
        return Err(ValidateError::InvalidSpec(join(&violations)));
    }
    let unsupported = unsupported(&deployment.spec, Mode::Cluster);
    if unsupported.is_empty() {
        Ok(())
    } else {
        Err(ValidateError::Unsupported(join(&unsupported)))
    }
}

/// Verdicts of generations that were validated: the rules of the schema are compiled anew for every check, which takes longer than
/// all the rest of a reconcile.
#[derive(Debug, Default)]
pub struct Validated(Mutex<Verdicts>);

/// Generation and verdict, by UID.
type Verdicts = HashMap<String, (i64, Result<(), ValidateError>)>;

impl Validated {
    fn lock(&self) -> MutexGuard<'_, Verdicts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`validate`], once a generation.
    ///
    /// # Errors
    /// As [`validate`].
    pub fn check(&self, subject: &Subject, deployment: &InferenceDeployment) -> Result<(), ValidateError> {
        let generation = deployment.metadata.generation.unwrap_or(0);
        if let Some((_, verdict)) = self.lock().get(&subject.uid).filter(|(g, _)| *g == generation) {
            return verdict.clone();
        }
        let verdict = validate(deployment);
        self.lock().insert(subject.uid.clone(), (generation, verdict.clone()));
        verdict
    }

    /// Forgets a deployment that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }
}

/// The rules speak of metadata and spec; the status is ours and large.
fn without_status(deployment: &InferenceDeployment) -> InferenceDeployment {
    InferenceDeployment {
        metadata: deployment.metadata.clone(),
        spec: deployment.spec.clone(),
        status: None,
    }
}

fn join(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::build::fixtures;

    #[test]
    fn a_good_spec_passes() {
        assert_eq!(validate(&fixtures::both()), Ok(()));
    }

    #[test]
    fn a_broken_rule_is_invalid_and_names_the_rule() {
        let mut deployment = fixtures::both();
        let twin = deployment.spec.backends[0].clone();
        deployment.spec.backends.push(twin);
        let error = validate(&deployment).unwrap_err();
        assert_eq!(error.reason(), reason::INVALID_SPEC);
        assert!(error.to_string().contains("names of backends are unique"), "{error}");
    }

    #[test]
    fn a_generation_is_validated_once() {
        let validated = Validated::default();
        let (mut deployment, subject) = (fixtures::both(), fixtures::subject());
        assert_eq!(validated.check(&subject, &deployment), Ok(()));
        let twin = deployment.spec.backends[0].clone();
        deployment.spec.backends.push(twin);
        assert_eq!(
            validated.check(&subject, &deployment),
            Ok(()),
            "the same generation has the same spec"
        );
        deployment.metadata.generation = Some(4);
        assert!(validated.check(&subject, &deployment).is_err());
    }

    #[test]
    fn what_this_version_does_not_do_is_unsupported_and_names_the_field() {
        let mut deployment = fixtures::both();
        deployment.spec.backends[0].local.as_mut().unwrap().args = vec!["--port".into()];
        let error = validate(&deployment).unwrap_err();
        assert_eq!(error.reason(), reason::UNSUPPORTED);
        assert!(error.to_string().contains("spec.backends[0].local.args[0]"), "{error}");
    }
}
