//! Removes children that no spec wants any more, found by label and owner.

use std::collections::HashSet;

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, Preconditions},
};

use super::{ApplyError, Writer};
use crate::{
    api::names,
    controller::{
        build::{Applied, Resources},
        call::call,
        dereference::Found,
        kinds::Kind,
        metrics::Verb,
    },
};

impl Writer<'_> {
    /// Deletes what is ours and not in `resources`; returns the Deployments that must stay until their successors are Ready.
    pub(super) async fn sweep(&self, resources: &Resources<Applied>) -> Result<Vec<String>, ApplyError> {
        let wanted = wanted(resources);
        let orphans = self.live.children.iter().filter(|c| {
            let ours = c.owner().is_some_and(|o| o.uid == self.subject.uid);
            ours && c.meta.deletion_timestamp.is_none() && !wanted.contains(&key(c))
        });
        let (kept, doomed) = divide(orphans.collect(), &resources.workloads());
        for orphan in doomed {
            self.delete(orphan).await?;
        }
        Ok(kept)
    }

    async fn delete(&self, orphan: &Found) -> Result<(), ApplyError> {
        let (name, uid) = (
            orphan.meta.name.clone().unwrap_or_default(),
            orphan.meta.uid.clone().unwrap_or_default(),
        );
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.subject.namespace, &orphan.kind.resource());
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: Some(uid.clone()),
            resource_version: None,
        });
        self.metrics.wrote(Verb::Delete);
        let words = format!("delete {} {}/{name}", orphan.kind, self.subject.namespace);
        match call(&words, api.delete(&name, &params)).await {
            // Gone, or another one of the same name: either way this one is no more.
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
            _ => {
                self.memory.deleted(self.subject, orphan.kind, &name, &uid);
                Ok(())
            }
        }
    }
}

fn key(found: &Found) -> (Kind, String) {
    (found.kind, found.meta.name.clone().unwrap_or_default())
}

fn wanted(resources: &Resources<Applied>) -> HashSet<(Kind, String)> {
    let Resources {
        account,
        role,
        binding,
        services,
        network,
        claims,
        revisions,
        deployments,
        disruptions,
        group,
        replicas,
        stage: _,
    } = resources;
    let mut all = HashSet::from([
        (Kind::ServiceAccount, account.name_any()),
        (Kind::Role, role.name_any()),
        (Kind::RoleBinding, binding.name_any()),
        (Kind::NetworkPolicy, network.name_any()),
    ]);
    all.extend(services.iter().map(|o| (Kind::Service, o.name_any())));
    all.extend(claims.iter().map(|o| (Kind::ResourceClaimTemplate, o.name_any())));
    all.extend(revisions.iter().map(|o| (Kind::ControllerRevision, o.name_any())));
    all.extend(deployments.iter().map(|o| (Kind::Deployment, o.name_any())));
    all.extend(disruptions.iter().map(|o| (Kind::PodDisruptionBudget, o.name_any())));
    all.extend(group.iter().map(|o| (Kind::LeaderWorkerSet, o.name_any())));
    all.extend(replicas.iter().map(|o| (Kind::InferenceReplica, o.name_any())));
    all
}

/// While the wanted Deployments are not complete, an old one goes on serving, with its Service and its revision; while they still have old
/// pods, these find the template that their claims are made from. One that another kind takes the place of goes at once: there may be no
/// GPUs for both.
fn divide<'a>(orphans: Vec<&'a Found>, deployments: &[Deployment]) -> (Vec<String>, Vec<&'a Found>) {
    let complete = deployments.iter().all(is_complete);
    let spared = |o: &&Found| complete && deployments.iter().all(is_new) || o.kind != Kind::ResourceClaimTemplate;
    let orphans: Vec<_> = orphans.into_iter().filter(spared).collect();
    let old: Vec<String> = orphans
        .iter()
        .filter(|o| is_workload(o.kind) && !deployments.iter().any(|new| takes_its_place(new, o)))
        .filter_map(|o| o.meta.name.clone())
        .collect();
    if complete || old.is_empty() {
        return (Vec::new(), orphans);
    }
    let doomed = orphans
        .into_iter()
        .filter(|o| !is_workload(o.kind) && !matches!(o.kind, Kind::Service | Kind::ControllerRevision))
        .collect();
    (old, doomed)
}

const fn is_workload(kind: Kind) -> bool {
    matches!(kind, Kind::Deployment | Kind::LeaderWorkerSet)
}

fn takes_its_place(new: &Deployment, old: &Found) -> bool {
    let tier = old
        .meta
        .labels
        .as_ref()
        .and_then(|labels| labels.get(names::LABEL_TIER));
    new.labels().get(names::LABEL_TIER) == tier
}

/// There are no pods of an earlier template.
fn is_new(deployment: &Deployment) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    status.observed_generation >= deployment.metadata.generation && status.replicas == status.updated_replicas
}

/// All wanted pods are Ready; a Deployment scaled to 0 is complete at once.
fn is_complete(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    wanted == 0
        || (status.observed_generation >= deployment.metadata.generation
            && status.ready_replicas.unwrap_or(0) >= wanted)
}
