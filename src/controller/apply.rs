//! Step 4: makes the cluster so. Created when absent, applied only when the controller owner reference is ours: a stranger's object is
//! never overwritten. What nobody touched since the last apply is left alone.

mod replace;
mod sweep;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    marker::PhantomData,
};

use k8s_openapi::{
    api::apps::v1::{ControllerRevision, Deployment},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{
    build::{Applied, BuildError, Prepared, Resources, Subject, set_template, set_templates},
    call::{CallError, call},
    decide::newly_denied,
    dereference::{Live, controller_of},
    groups::LeaderWorkerSet,
    kinds::{Child, Kind},
    memory::Memory,
    metrics::{Metrics, Verb},
};
use crate::api::{InferenceDeployment, InferenceReplica, names};

/// Why the cluster is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The name of a child is taken.
    #[error("{kind} {name} exists and {}: delete or rename it, or choose another name for the InferenceDeployment", owned_by(owner.as_deref()))]
    NameConflict {
        /// Kind of the child.
        kind: Kind,
        /// Its name.
        name: String,
        /// `KIND/NAME` of its controller.
        owner: Option<String>,
    },
    /// An earlier `InferenceDeployment` of the same name has left it, and the garbage collector has not come by yet.
    #[error("{0} {1} of the InferenceDeployment that had this name before is still being removed")]
    Leaving(Kind, String),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A revision holds no pod template.
    #[error("the ControllerRevision holds no pod template: {0}")]
    Template(#[from] BuildError),
    /// An object could not be written as JSON.
    #[error("cannot write {0} as JSON: {1}")]
    Json(Kind, serde_json::Error),
}

fn owned_by(owner: Option<&str>) -> String {
    owner.map_or_else(
        || "has no controller".to_owned(),
        |owner| format!("is controlled by {owner}"),
    )
}

/// Writes the children of one `InferenceDeployment`.
pub struct Writer<'a> {
    /// The API server.
    pub client: &'a Client,
    /// Whose children.
    pub subject: &'a Subject,
    /// What exists.
    pub live: &'a Live,
    /// What was written before.
    pub memory: &'a Memory,
    /// Counters.
    pub metrics: &'a Metrics,
}

/// What was made, and the children of earlier specs that are still needed.
pub struct Outcome {
    /// The children.
    pub resources: Resources<Applied>,
    /// Deployments that serve until their successors are Ready.
    pub kept: Vec<String>,
    /// A replica reported while it was told: it must be decided on again.
    pub missed: Option<CallError>,
}

impl Writer<'_> {
    /// Applies everything in an order in which nothing refers to what is not there yet, then removes what is not wanted any more.
    pub async fn apply(&self, resources: Resources<Prepared>) -> Result<Outcome, ApplyError> {
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
            stage: PhantomData,
        } = resources;
        // First, and whatever becomes of the rest: without its InferenceReplica a pod may not use remote backends.
        let (replicas, missed) = Box::pin(self.apply_replicas(replicas)).await?;
        let account = self.settle(account).await?;
        let role = self.settle(role).await?;
        let binding = self.settle(binding).await?;
        let services = self.settle_all(services).await?;
        let network = self.settle(network).await?;
        let claims = match claims {
            Some(claims) => Some(self.settle_once(claims).await?),
            None => None,
        };
        let mut settled = Vec::new();
        for revision in revisions {
            settled.push(self.settle_once(revision).await?);
        }
        let deployments = Box::pin(self.settle_deployments(deployments, &settled)).await?;
        let disruptions = self.settle_all(disruptions).await?;
        let group = match group {
            Some(group) => Some(Box::pin(self.settle_group(group, &settled)).await?),
            None => None,
        };
        let resources = Resources {
            account,
            role,
            binding,
            services,
            network,
            claims,
            revisions: settled,
            deployments,
            disruptions,
            group,
            replicas,
            stage: PhantomData,
        };
        let kept = self.sweep(&resources).await?;
        Ok(Outcome {
            resources,
            kept,
            missed,
        })
    }

    /// Tells the replicas what was decided. One that reported meanwhile must be decided on again; neither the others nor the rest wait for
    /// that.
    pub async fn apply_replicas(
        &self,
        replicas: Vec<InferenceReplica>,
    ) -> Result<(Vec<InferenceReplica>, Option<CallError>), ApplyError> {
        let (mut settled, mut missed) = (Vec::with_capacity(replicas.len()), None);
        for replica in replicas {
            match self.settle(replica.clone()).await {
                Ok(told) => {
                    self.count_denial(&replica);
                    settled.push(told);
                }
                Err(ApplyError::Call(error)) if error.is_conflict() => {
                    missed = Some(error);
                    settled.push(replica);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((settled, missed))
    }

    /// Counts a denial that `told` has just heard of. What was told before is in the cache, or the reconcile would not have begun.
    fn count_denial(&self, told: &InferenceReplica) {
        let name = told.name_any();
        let before = self.live.replicas.iter().find(|live| live.name_any() == name);
        let before = before.and_then(|live| live.spec.budget.as_ref());
        if newly_denied(told.spec.budget.as_ref(), before) {
            self.metrics.denied(&self.subject.namespace, &self.subject.name);
        }
    }

    /// Takes the budget's finalizer off replicas whose leases are folded.
    pub async fn release(&self, names: &[String]) -> Result<(), ApplyError> {
        for name in names {
            let Some(found) = self.live.find(Kind::InferenceReplica, name) else {
                continue;
            };
            release(self.client, &self.subject.namespace, &found.meta, self.metrics).await?;
        }
        Ok(())
    }

    async fn settle_all<K: Child>(&self, prepared: Vec<K>) -> Result<Vec<K>, ApplyError> {
        let mut settled = Vec::with_capacity(prepared.len());
        for object in prepared {
            settled.push(self.settle(object).await?);
        }
        Ok(settled)
    }

    async fn settle_deployments(
        &self,
        prepared: Vec<Deployment>,
        revisions: &[ControllerRevision],
    ) -> Result<Vec<Deployment>, ApplyError> {
        let mut settled = Vec::with_capacity(prepared.len());
        for mut deployment in prepared {
            // The revision that exists decides, even when another process made it a moment ago.
            if let Some(revision) = revision_of(&deployment, revisions) {
                set_template(&mut deployment, revision)?;
            }
            let applied = Box::pin(self.settle(deployment)).await?;
            // An unchanged one comes back as prepared: its status is in the cache.
            let live = self.live.workload(&applied.name_any());
            settled.push(live.filter(|_| applied.status.is_none()).cloned().unwrap_or(applied));
        }
        Ok(settled)
    }

    async fn settle_group(
        &self,
        mut group: LeaderWorkerSet,
        revisions: &[ControllerRevision],
    ) -> Result<LeaderWorkerSet, ApplyError> {
        if let Some(revision) = revision_of(&group, revisions) {
            set_templates(&mut group, revision)?;
        }
        let applied = Box::pin(self.settle(group)).await?;
        let live = self
            .live
            .groups
            .iter()
            .find(|live| live.name_any() == applied.name_any());
        let live = live.filter(|_| applied.status.is_none());
        Ok(live.map_or(applied, |live| (**live).clone()))
    }

    /// What is never changed: the first one stays.
    async fn settle_once<K: Child>(&self, prepared: K) -> Result<K, ApplyError> {
        let name = prepared.name_any();
        if let Some(found) = self.live.find(K::KIND, &name) {
            self.must_be_ours(K::KIND, &found.meta)?;
            return Ok(prepared);
        }
        let desired = digest(&prepared)?;
        match self.create(&prepared).await {
            Err(error) if error.is_already_exists() => {
                let found: K = self.get(&name).await?;
                self.must_be_ours(K::KIND, found.meta())?;
                self.remember::<K>(desired, found.meta());
                Ok(found)
            }
            created => {
                let created = created?;
                self.remember::<K>(desired, created.meta());
                Ok(created)
            }
        }
    }

    async fn settle<K: Child>(&self, prepared: K) -> Result<K, ApplyError> {
        let name = prepared.name_any();
        let desired = digest(&prepared)?;
        let Some(found) = self.live.find(K::KIND, &name) else {
            return self.create_or_take(prepared, desired).await;
        };
        self.must_be_ours(K::KIND, &found.meta)?;
        let going = found.meta.deletion_timestamp.is_some();
        if going || self.memory.is_current(self.subject, K::KIND, desired, &found.meta) {
            return Ok(prepared);
        }
        self.patch(prepared, desired, &found.meta).await
    }

    async fn create_or_take<K: Child>(&self, prepared: K, desired: u64) -> Result<K, ApplyError> {
        match self.create(&prepared).await {
            Ok(created) => self.finish(created, desired).await,
            Err(error) if error.is_already_exists() => {
                let found: K = self.get(&prepared.name_any()).await?;
                self.must_be_ours(K::KIND, found.meta())?;
                self.patch(prepared, desired, found.meta()).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The UID makes it a conflict when the object was replaced by another of the same name in the meantime; the version, when
    /// anything was written that the decision did not know of.
    async fn patch<K: Child>(&self, mut prepared: K, desired: u64, found: &ObjectMeta) -> Result<K, ApplyError> {
        prepared.meta_mut().uid.clone_from(&found.uid);
        if K::DECIDED {
            prepared.meta_mut().resource_version.clone_from(&found.resource_version);
        }
        let name = prepared.name_any();
        let params = PatchParams::apply(names::CONTROLLER_MANAGER).force();
        let patch = Patch::Apply(&prepared);
        self.metrics.wrote(Verb::Apply);
        let answer = call(
            &self.words::<K>("apply", &name),
            self.api::<K>().patch(&name, &params, &patch),
        )
        .await?;
        self.finish(answer, desired).await
    }

    /// A create leaves an `Update` entry of ours in managedFields, under which a field that we drop later would stay for ever: it
    /// becomes an `Apply` entry, as client-go's csaupgrade does.
    async fn finish<K: Child>(&self, answer: K, desired: u64) -> Result<K, ApplyError> {
        let Some(upgraded) = upgraded_fields(answer.meta()) else {
            self.remember::<K>(desired, answer.meta());
            return Ok(answer);
        };
        let name = answer.name_any();
        let patch = Patch::Merge(json!({"metadata": {
            "uid": answer.uid(),
            "resourceVersion": answer.resource_version(),
            "managedFields": upgraded,
        }}));
        self.metrics.wrote(Verb::Patch);
        let params = PatchParams {
            field_manager: Some(names::CONTROLLER_MANAGER.into()),
            ..PatchParams::default()
        };
        let words = self.words::<K>("take over the fields of", &name);
        let upgraded: K = call(&words, self.api::<K>().patch(&name, &params, &patch)).await?;
        self.remember::<K>(desired, upgraded.meta());
        Ok(upgraded)
    }

    async fn create<K: Child>(&self, prepared: &K) -> Result<K, CallError> {
        self.metrics.wrote(Verb::Create);
        let params = PostParams {
            field_manager: Some(names::CONTROLLER_MANAGER.into()),
            ..PostParams::default()
        };
        let words = self.words::<K>("create", &prepared.name_any());
        call(&words, self.api::<K>().create(&params, prepared)).await
    }

    async fn get<K: Child>(&self, name: &str) -> Result<K, CallError> {
        call(&self.words::<K>("get", name), self.api::<K>().get(name)).await
    }

    fn remember<K: Child>(&self, desired: u64, answer: &ObjectMeta) {
        self.memory.wrote(self.subject, K::KIND, desired, answer);
    }

    fn api<K: Child>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.subject.namespace)
    }

    fn words<K: Child>(&self, verb: &str, name: &str) -> String {
        format!("{verb} {} {}/{name}", K::KIND, self.subject.namespace)
    }

    fn must_be_ours(&self, kind: Kind, meta: &ObjectMeta) -> Result<(), ApplyError> {
        match controller_of(meta) {
            Some(owner) if owner.uid == self.subject.uid => Ok(()),
            Some(owner) if owner.kind == InferenceDeployment::kind(&()) && owner.name == self.subject.name => {
                Err(ApplyError::Leaving(kind, meta.name.clone().unwrap_or_default()))
            }
            owner => Err(ApplyError::NameConflict {
                kind,
                name: meta.name.clone().unwrap_or_default(),
                owner: owner.map(|o| format!("{}/{}", o.kind, o.name)),
            }),
        }
    }
}

/// The revision of the same tier.
fn revision_of<'a>(workload: &impl ResourceExt, revisions: &'a [ControllerRevision]) -> Option<&'a ControllerRevision> {
    let tier = workload.labels().get(names::LABEL_TIER);
    revisions
        .iter()
        .find(|revision| revision.labels().get(names::LABEL_TIER) == tier)
}

/// Takes the budget's finalizer off an `InferenceReplica`. One that is gone or changed meanwhile is left to the next look.
pub async fn release(
    client: &Client,
    namespace: &str,
    replica: &ObjectMeta,
    metrics: &Metrics,
) -> Result<(), CallError> {
    let name = replica.name.clone().unwrap_or_default();
    let kept = replica
        .finalizers
        .iter()
        .flatten()
        .filter(|name| *name != names::FINALIZER_BUDGET);
    let patch = Patch::Merge(json!({"metadata": {
        "uid": replica.uid,
        "resourceVersion": replica.resource_version,
        "finalizers": kept.collect::<Vec<_>>(),
    }}));
    let api: Api<InferenceReplica> = Api::namespaced(client.clone(), namespace);
    metrics.wrote(Verb::Patch);
    let words = format!("take the finalizer off InferenceReplica {namespace}/{name}");
    match call(&words, api.patch(&name, &PatchParams::default(), &patch)).await {
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}

fn digest<K: Child>(prepared: &K) -> Result<u64, ApplyError> {
    let json = serde_json::to_vec(prepared).map_err(|e| ApplyError::Json(K::KIND, e))?;
    let mut hasher = DefaultHasher::new();
    json.hash(&mut hasher);
    Ok(hasher.finish())
}

/// managedFields with our `Update` entry as an `Apply` entry; `None` when there is none, or when an `Apply` entry is there already.
fn upgraded_fields(meta: &ObjectMeta) -> Option<serde_json::Value> {
    let mut fields = meta.managed_fields.clone()?;
    let ours = |f: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry, operation: &str| {
        f.manager.as_deref() == Some(names::CONTROLLER_MANAGER)
            && f.operation.as_deref() == Some(operation)
            && f.subresource.is_none()
    };
    let update = fields.iter().position(|f| ours(f, "Update"))?;
    if fields.iter().any(|f| ours(f, "Apply")) {
        fields.remove(update);
    } else {
        fields.get_mut(update)?.operation = Some("Apply".into());
    }
    serde_json::to_value(fields).ok()
}
