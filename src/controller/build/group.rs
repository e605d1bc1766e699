//! The LeaderWorkerSet of a model that is spread over nodes: a replica is a group of pods, of which one leads and answers.

use k8s_openapi::api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec};
use serde::{Deserialize, Serialize};

use super::{BuildError, Defaults, Subject, Tier, deployment::note_hash, pod};
use crate::{
    api::InferenceDeploymentSpec,
    controller::groups::{LeaderWorkerSet, LeaderWorkerSetSpec, LeaderWorkerTemplate, RollingUpdate, RolloutStrategy},
};

/// The two templates, as a revision keeps them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Templates {
    leader_template: PodTemplateSpec,
    worker_template: PodTemplateSpec,
}

/// Renders the pods of a group.
pub fn render(
    subject: &Subject,
    spec: &InferenceDeploymentSpec,
    defaults: &Defaults,
    hash: &str,
) -> Result<Templates, BuildError> {
    Ok(Templates {
        leader_template: pod::render(subject, spec, Tier::Local, defaults, hash)?,
        worker_template: pod::render(subject, spec, Tier::Follower, defaults, hash)?,
    })
}

/// Its name, and that of the Service that its own controller makes for it: another than the Deployment's, which peers know a Service by.
pub fn name(subject: &Subject) -> String {
    format!("{}-nodes", subject.name)
}

/// Groups of `nodes` pods with the templates of `revision`. They begin together, and when a part of an engine ends the whole group begins
/// anew: the other parts cannot go on.
pub fn build(
    subject: &Subject,
    replicas: i32,
    nodes: u32,
    revision: &ControllerRevision,
) -> Result<LeaderWorkerSet, BuildError> {
    let spec = LeaderWorkerSetSpec {
        replicas: Some(replicas),
        leader_worker_template: LeaderWorkerTemplate {
            size: i32::try_from(nodes).ok(),
            restart_policy: Some("RecreateGroupOnPodRestart".to_owned()),
            leader_template: None,
            worker_template: PodTemplateSpec::default(),
        },
        rollout_strategy: RolloutStrategy {
            r#type: "RollingUpdate".to_owned(),
            rolling_update_configuration: Some(RollingUpdate {
                max_unavailable: 1.into(),
                max_surge: 0.into(),
            }),
        },
        startup_policy: "LeaderCreated".to_owned(),
    };
    let mut group = LeaderWorkerSet::new("", spec);
    group.metadata = subject.meta(name(subject), subject.tier_labels(Tier::Local));
    set_templates(&mut group, revision)?;
    Ok(group)
}

/// Takes the pod templates of `revision`, verbatim.
///
/// # Errors
/// When somebody put something else into the revision.
pub fn set_templates(group: &mut LeaderWorkerSet, revision: &ControllerRevision) -> Result<(), BuildError> {
    let templates: Templates = serde_json::from_value(revision.data.0.clone())?;
    note_hash(&mut group.metadata, revision);
    group.spec.leader_worker_template.leader_template = Some(templates.leader_template);
    group.spec.leader_worker_template.worker_template = templates.worker_template;
    Ok(())
}
