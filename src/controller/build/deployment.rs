//! The Deployment of a tier around a rendered pod template.

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use kube::ResourceExt;

use super::{BuildError, Subject, Tier, volumes::downloads};
use crate::api::{LocalBackend, names};

/// Seconds that a download may take in addition. It ends by itself when nothing comes any more; this is for one that never ends.
const DOWNLOAD_SECONDS: i32 = 4 * 60 * 60;

/// The Deployment of `tier` with the template of `revision`; `local` is what its pods hold.
pub fn build(
    subject: &Subject,
    tier: Tier,
    replicas: i32,
    local: Option<&LocalBackend>,
    revision: &ControllerRevision,
) -> Result<Deployment, BuildError> {
    let mut deployment = Deployment {
        metadata: subject.meta(tier.workload(&subject.name), subject.tier_labels(tier)),
        spec: DeploymentSpec {
            replicas: Some(replicas),
            selector: LabelSelector {
                match_labels: Some(tier.selector(&subject.name)),
                ..LabelSelector::default()
            },
            strategy: Some(strategy()),
            progress_deadline_seconds: local.map(deadline_seconds),
            revision_history_limit: Some(2),
            ..DeploymentSpec::default()
        },
        status: None,
    };
    set_template(&mut deployment, revision)?;
    Ok(deployment)
}

/// How long a local pod may take to get Ready: the engine's limit for loading, and the minute that design section 10 adds.
pub fn deadline_seconds(local: &LocalBackend) -> i32 {
    let load = i32::try_from(local.load_timeout().as_secs()).unwrap_or(i32::MAX);
    let download = if downloads(local) { DOWNLOAD_SECONDS } else { 0 };
    load + 60 + download
}

/// Never more pods than wanted: a GPU for a surge is seldom there.
fn strategy() -> DeploymentStrategy {
    DeploymentStrategy {
        type_: Some("RollingUpdate".into()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::Int(0)),
            max_unavailable: Some(IntOrString::Int(1)),
        }),
    }
}

/// Takes the pod template of `revision`, verbatim.
///
/// # Errors
/// When somebody put something else into the revision.
pub fn set_template(deployment: &mut Deployment, revision: &ControllerRevision) -> Result<(), BuildError> {
    let data = revision.data.0.clone();
    let template: PodTemplateSpec = serde_json::from_value(data)?;
    note_hash(&mut deployment.metadata, revision);
    deployment.spec.template = template;
    Ok(())
}

/// Whose pods these are, beside what else is noted.
pub fn note_hash(meta: &mut ObjectMeta, revision: &ControllerRevision) {
    let hash = revision.annotations().get(names::ANNOTATION_POD_HASH).cloned();
    let noted = hash.map(|hash| (names::ANNOTATION_POD_HASH.to_owned(), hash));
    meta.annotations.get_or_insert_default().extend(noted);
}
