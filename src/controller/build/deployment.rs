//! The Deployment of a tier around a rendered pod template.

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kube::ResourceExt;

use super::{BuildError, Subject, Tier};
use crate::api::names;

/// Seconds an engine has to load its model, plus the minute that design section 10 adds.
const PROGRESS_DEADLINE_SECONDS: i32 = 600 + 60;
/// Seconds that a download may take in addition. It ends by itself when nothing comes any more; this is for one that never ends.
const DOWNLOAD_SECONDS: i32 = 4 * 60 * 60;

/// The Deployment of `tier` with the template of `revision`. `downloads` when its pods bring the model themselves.
pub fn build(
    subject: &Subject,
    tier: Tier,
    replicas: i32,
    downloads: bool,
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
            progress_deadline_seconds: Some(PROGRESS_DEADLINE_SECONDS + if downloads { DOWNLOAD_SECONDS } else { 0 }),
            revision_history_limit: Some(2),
            ..DeploymentSpec::default()
        },
        status: None,
    };
    set_template(&mut deployment, revision)?;
    Ok(deployment)
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
    let hash = revision.annotations().get(names::ANNOTATION_POD_HASH).cloned();
    deployment.metadata.annotations = hash.map(|h| [(names::ANNOTATION_POD_HASH.to_owned(), h)].into());
    deployment.spec.template = template;
    Ok(())
}
