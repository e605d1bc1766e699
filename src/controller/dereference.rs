//! Step 1: what exists. Everything comes from the caches; a cache that has not yet seen this process' own writes is refused.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, Deployment},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Api, Client, Resource, ResourceExt, api::ListParams, runtime::reflector::Store};

use super::{
    build::Subject,
    call::{CallError, call},
    groups::LeaderWorkerSet,
    kinds::Kind,
    memory::{Memory, Unseen},
    stores::Stores,
};
use crate::api::{InferenceDeployment, InferenceReplica, names};

/// Why the live state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DereferenceError {
    /// The cache lags behind our own writes: deciding now could repeat them.
    #[error("the cache has not seen the controller's own write of {0} yet")]
    Stale(Unseen),
    /// The cache lags behind what was recorded.
    #[error("the cache has not seen the controller's own record of decisions yet")]
    StaleRecord,
}

/// A child that exists.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its kind.
    pub kind: Kind,
    /// Its metadata.
    pub meta: ObjectMeta,
}

impl Found {
    /// Its controller.
    pub fn owner(&self) -> Option<&OwnerReference> {
        controller_of(&self.meta)
    }
}

/// The owner reference that says `controller: true`.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|o| o.controller == Some(true))
}

/// What exists of one `InferenceDeployment`.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Everything with its label.
    pub children: Vec<Found>,
    /// Its pods, in order of their names.
    pub pods: Vec<Arc<Pod>>,
    /// What its pods report, in order of their names.
    pub replicas: Vec<InferenceReplica>,
    /// Its Deployments.
    pub workloads: Vec<Arc<Deployment>>,
    /// Its LeaderWorkerSets.
    pub groups: Vec<Arc<LeaderWorkerSet>>,
    /// Its rendered pod templates.
    pub revisions: Vec<Arc<ControllerRevision>>,
}

impl Live {
    /// The child of that kind and name.
    pub fn find(&self, kind: Kind, name: &str) -> Option<&Found> {
        self.children
            .iter()
            .find(|c| c.kind == kind && c.meta.name.as_deref() == Some(name))
    }

    /// The Deployment of that name.
    pub fn workload(&self, name: &str) -> Option<&Deployment> {
        self.workloads
            .iter()
            .map(AsRef::as_ref)
            .find(|d| d.metadata.name.as_deref() == Some(name))
    }
}

/// Reads what exists of `subject`, whose own object is `deployment`.
pub fn dereference(
    stores: &Stores,
    memory: &Memory,
    subject: &Subject,
    deployment: &ObjectMeta,
) -> Result<Live, DereferenceError> {
    if memory.record_unseen(subject, deployment) {
        return Err(DereferenceError::StaleRecord);
    }
    let live = read(stores, subject);
    match memory.unseen(subject, &live) {
        Some(unseen) => Err(DereferenceError::Stale(unseen)),
        None => Ok(live),
    }
}

/// Reads the deployment, its pods and their replicas from the API server itself, in this order; the rest is as in `cached`.
///
/// # Errors
/// A call that fails, and an object that cannot be decoded.
pub async fn read_live(
    client: &Client,
    subject: &Subject,
    cached: &Live,
) -> Result<(InferenceDeployment, Live), CallError> {
    let (name, namespace) = (subject.name.as_str(), subject.namespace.as_str());
    let deployments: Api<InferenceDeployment> = Api::namespaced(client.clone(), namespace);
    let deployment = call("read the InferenceDeployment live", deployments.get(name)).await?;
    let labelled = ListParams::default().labels(&format!("{}={name}", names::LABEL_DEPLOYMENT));
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pods = call("read its pods live", pods.list(&labelled)).await?;
    let replicas: Api<InferenceReplica> = Api::namespaced(client.clone(), namespace);
    let replicas = call("read its replicas live", replicas.list(&labelled)).await?;
    let mut live = Live {
        pods: pods.items.into_iter().map(Arc::new).collect(),
        replicas: replicas.items,
        ..cached.clone()
    };
    live.pods.sort_by_cached_key(|pod| pod.name_any());
    live.replicas.sort_by_cached_key(ResourceExt::name_any);
    live.children.retain(|child| child.kind != Kind::InferenceReplica);
    live.children.extend(live.replicas.iter().map(|replica| Found {
        kind: Kind::InferenceReplica,
        meta: replica.metadata.clone(),
    }));
    Ok((deployment, live))
}

fn read(stores: &Stores, subject: &Subject) -> Live {
    let mut live = Live {
        children: Vec::new(),
        pods: labelled(&stores.pods, subject),
        replicas: replicas(stores, subject),
        workloads: labelled(&stores.workloads, subject),
        groups: labelled(&stores.groups, subject),
        revisions: labelled(&stores.revisions, subject),
    };
    let children = &mut live.children;
    gather(children, Kind::ServiceAccount, &labelled(&stores.accounts, subject));
    gather(children, Kind::Role, &labelled(&stores.roles, subject));
    gather(children, Kind::RoleBinding, &labelled(&stores.bindings, subject));
    gather(
        children,
        Kind::PodDisruptionBudget,
        &labelled(&stores.disruptions, subject),
    );
    gather(children, Kind::Service, &labelled(&stores.services, subject));
    gather(children, Kind::NetworkPolicy, &labelled(&stores.networks, subject));
    gather(
        children,
        Kind::ResourceClaimTemplate,
        &labelled(&stores.claims, subject),
    );
    gather(children, Kind::ControllerRevision, &live.revisions);
    gather(children, Kind::Deployment, &live.workloads);
    gather(children, Kind::LeaderWorkerSet, &live.groups);
    gather(children, Kind::InferenceReplica, &labelled(&stores.replicas, subject));
    live
}

fn gather<K: Resource>(into: &mut Vec<Found>, kind: Kind, objects: &[Arc<K>]) {
    into.extend(objects.iter().map(|o| Found {
        kind,
        meta: o.meta().clone(),
    }));
}

fn replicas(stores: &Stores, subject: &Subject) -> Vec<InferenceReplica> {
    labelled(&stores.replicas, subject)
        .into_iter()
        .filter_map(|guard| guard.0.as_ref().ok().cloned())
        .collect()
}

fn labelled<K>(store: &Store<K>, subject: &Subject) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let mut found = store.state_filter(|o| {
        o.meta().namespace.as_deref() == Some(&subject.namespace)
            && o.labels().get(names::LABEL_DEPLOYMENT) == Some(&subject.name)
    });
    found.sort_by_cached_key(|o| o.name_any());
    found
}
