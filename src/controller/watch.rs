//! Fills the caches and says whom a change concerns. Children are watched by label; what no step reads is dropped before it is kept.

use std::{convert::Infallible, fmt::Debug, sync::Arc};

use futures::{Stream, StreamExt, stream::BoxStream};
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, Deployment},
    core::v1::{Container, Pod, PodSpec, Service, ServiceAccount},
    policy::v1::PodDisruptionBudget,
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{NamespaceResourceScope, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, Store, store, store::WriterDropped},
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;

use super::{
    metrics::Metrics,
    stores::{Guarded, Stores},
};
use crate::api::{InferenceDeployment, InferenceReplica, names};

/// Whom a change concerns.
pub type Target = ObjectRef<Guarded<InferenceDeployment>>;
/// A stream of [`Target`]s that never fails: watches start again by themselves.
pub type Targets = BoxStream<'static, Result<Target, Infallible>>;

/// Objects of a page of the first list: bounds what is in memory twice.
const PAGE: u32 = 100;

struct Watches<'a> {
    client: &'a Client,
    namespace: Option<&'a str>,
    metrics: &'a Arc<Metrics>,
    streams: Vec<BoxStream<'static, Target>>,
}

/// The caches and the stream that fills them; `gone` is told of every deployment that is deleted.
pub fn start(
    client: &Client,
    namespace: Option<&str>,
    metrics: &Arc<Metrics>,
    gone: impl Fn(&str, &str, &str) + Send + Sync + 'static,
) -> (Stores, Targets) {
    let mut watches = Watches {
        client,
        namespace,
        metrics,
        streams: Vec::new(),
    };
    let stores = Stores {
        deployments: watches.deployments(gone),
        pods: watches.children(strip_pod),
        replicas: watches.children(|_: &mut Guarded<InferenceReplica>| {}),
        workloads: watches.children(|_: &mut Deployment| {}),
        revisions: watches.children(|_: &mut ControllerRevision| {}),
        services: watches.children(|_: &mut PartialObjectMeta<Service>| {}),
        accounts: watches.children(|_: &mut PartialObjectMeta<ServiceAccount>| {}),
        roles: watches.children(|_: &mut PartialObjectMeta<Role>| {}),
        bindings: watches.children(|_: &mut PartialObjectMeta<RoleBinding>| {}),
        disruptions: watches.children(|_: &mut PartialObjectMeta<PodDisruptionBudget>| {}),
    };
    let targets = futures::stream::select_all(watches.streams).map(Ok).boxed();
    (stores, targets)
}

/// Returns when every cache has been filled once.
///
/// # Errors
/// When a watch has ended for good.
pub async fn synced(stores: &Stores) -> Result<(), WriterDropped> {
    let Stores {
        deployments,
        pods,
        replicas,
        workloads,
        revisions,
        services,
        accounts,
        roles,
        bindings,
        disruptions,
    } = stores;
    deployments.wait_until_ready().await?;
    pods.wait_until_ready().await?;
    replicas.wait_until_ready().await?;
    workloads.wait_until_ready().await?;
    revisions.wait_until_ready().await?;
    services.wait_until_ready().await?;
    accounts.wait_until_ready().await?;
    roles.wait_until_ready().await?;
    bindings.wait_until_ready().await?;
    disruptions.wait_until_ready().await
}

impl Watches<'_> {
    fn deployments(
        &mut self,
        gone: impl Fn(&str, &str, &str) + Send + Sync + 'static,
    ) -> Store<Guarded<InferenceDeployment>> {
        let config = watcher::Config::default().page_size(PAGE);
        let (reader, events) = self.reflect(config, |_: &mut Guarded<InferenceDeployment>| {});
        let events = events.inspect(move |event| {
            if let Ok(Event::Delete(object)) = event {
                let (namespace, uid) = (object.namespace().unwrap_or_default(), object.uid().unwrap_or_default());
                gone(&namespace, &object.name_any(), &uid);
            }
        });
        let targets = self.touched(events).map(|object| ObjectRef::from_obj(&object));
        self.streams.push(targets.boxed());
        reader
    }

    fn children<K>(&mut self, strip: impl Fn(&mut K) + Send + Sync + 'static) -> Store<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let config = watcher::Config::default()
            .page_size(PAGE)
            .labels(names::LABEL_DEPLOYMENT);
        let (reader, events) = self.reflect(config, strip);
        let targets = self
            .touched(events)
            .filter_map(|object| std::future::ready(owner(&object)));
        self.streams.push(targets.boxed());
        reader
    }

    fn reflect<K>(
        &self,
        config: watcher::Config,
        strip: impl Fn(&mut K) + Send + Sync + 'static,
    ) -> (Store<K>, BoxStream<'static, watcher::Result<Event<K>>>)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let api: Api<K> = match self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let (reader, writer) = store();
        let events = watcher(api, config)
            .modify(move |object| {
                object.managed_fields_mut().clear();
                strip(object);
            })
            .default_backoff()
            .reflect(writer);
        (reader, events.boxed())
    }

    fn touched<K: ResourceExt + Send + 'static>(
        &self,
        events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    ) -> BoxStream<'static, K> {
        let metrics = self.metrics.clone();
        events
            .touched_objects()
            .filter_map(move |item: watcher::Result<K>| {
                if let Err(error) = &item {
                    tracing::warn!(%error, "a watch was interrupted and starts again");
                    metrics.watch_failed();
                }
                std::future::ready(item.ok())
            })
            .boxed()
    }
}

/// The deployment that a child's label names.
fn owner(child: &impl ResourceExt) -> Option<Target> {
    let name = child.labels().get(names::LABEL_DEPLOYMENT)?;
    Some(ObjectRef::new(name).within(&child.namespace()?))
}

/// Of a pod's spec only what messages name: containers, images and limits.
fn strip_pod(pod: &mut Pod) {
    pod.metadata.annotations = None;
    let Some(spec) = pod.spec.take() else { return };
    let slim = |container: Container| Container {
        name: container.name,
        image: container.image,
        resources: container.resources,
        ..Container::default()
    };
    pod.spec = Some(PodSpec {
        containers: spec.containers.into_iter().map(slim).collect(),
        node_name: spec.node_name,
        ..PodSpec::default()
    });
}
