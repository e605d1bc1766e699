//! Fills the caches and says whom a change concerns. Children are watched by label; what no step reads is dropped before it is kept.

use std::{borrow::Cow, convert::Infallible, fmt::Debug, sync::Arc, time::Duration};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream::BoxStream};
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, Deployment},
    core::v1::{Container, Pod, PodSpec, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
    rbac::v1::{Role, RoleBinding},
    resource::v1::ResourceClaimTemplate,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{NamespaceResourceScope, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store, store, store::WriterDropped},
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;

use super::{
    batch::batched,
    discover::is_served,
    groups::LeaderWorkerSet,
    metrics::Metrics,
    stores::{Guarded, Stores},
};
use crate::api::{InferenceDeployment, InferenceReplica, names};

/// Whom a change concerns.
pub type Target = ObjectRef<Guarded<InferenceDeployment>>;
/// A stream of [`Target`]s that never fails: watches start again by themselves.
pub type Targets = BoxStream<'static, Result<Target, Infallible>>;

/// How often is looked whether an API has come that was not there.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Objects of a page of the first list: bounds what is in memory twice.
const PAGE: u32 = 100;

/// What can be watched.
trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Watched for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

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
        networks: watches.children(|_: &mut PartialObjectMeta<NetworkPolicy>| {}),
        accounts: watches.children(|_: &mut PartialObjectMeta<ServiceAccount>| {}),
        roles: watches.children(|_: &mut PartialObjectMeta<Role>| {}),
        bindings: watches.children(|_: &mut PartialObjectMeta<RoleBinding>| {}),
        claims: watches.optional_children(|_: &mut PartialObjectMeta<ResourceClaimTemplate>| {}),
        disruptions: watches.children(|_: &mut PartialObjectMeta<PodDisruptionBudget>| {}),
        groups: watches.optional_children(|_: &mut LeaderWorkerSet| {}),
    };
    let targets = batched(futures::stream::select_all(watches.streams)).map(Ok).boxed();
    (stores, targets)
}

/// Returns when every cache has been filled once. For one task only: of several that wait, kube wakes one.
///
/// # Errors
/// When a watch has ended for good.
pub async fn synced(stores: &Stores) -> Result<(), WriterDropped> {
    for (_, filled) in waits(stores) {
        filled.await?;
    }
    Ok(())
}

/// The caches that have not been filled yet, for the task that waits in [`synced`].
pub async fn unfilled(stores: &Stores) -> Vec<Cow<'static, str>> {
    let mut unfilled = Vec::new();
    for (name, filled) in waits(stores) {
        if futures::poll!(filled).is_pending() {
            unfilled.push(name);
        }
    }
    unfilled
}

type Wait<'a> = (Cow<'static, str>, BoxFuture<'a, Result<(), WriterDropped>>);

fn wait<K>(store: &Store<K>) -> Wait<'_>
where
    K: reflector::Lookup<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    (K::plural(&()), store.wait_until_ready().boxed())
}

fn waits(stores: &Stores) -> [Wait<'_>; 13] {
    let Stores {
        deployments,
        pods,
        replicas,
        workloads,
        revisions,
        services,
        networks,
        accounts,
        roles,
        bindings,
        claims,
        disruptions,
        groups,
    } = stores;
    [
        wait(deployments),
        wait(pods),
        wait(replicas),
        wait(workloads),
        wait(revisions),
        wait(services),
        wait(networks),
        wait(accounts),
        wait(roles),
        wait(bindings),
        wait(claims),
        wait(disruptions),
        wait(groups),
    ]
}

impl Watches<'_> {
    fn deployments(
        &mut self,
        gone: impl Fn(&str, &str, &str) + Send + Sync + 'static,
    ) -> Store<Guarded<InferenceDeployment>> {
        let config = watcher::Config::default().page_size(PAGE);
        let (reader, events) = self.reflect(config, |_: &mut Guarded<InferenceDeployment>| {});
        let events = tell_gone(events, reader.clone(), gone);
        let targets = self.touched(events).map(|object| ObjectRef::from_obj(&object));
        self.streams.push(targets.boxed());
        reader
    }

    fn children<K: Watched>(&mut self, strip: impl Fn(&mut K) + Send + Sync + 'static) -> Store<K> {
        let (reader, events) = self.reflect(labelled(), strip);
        self.concern(events);
        reader
    }

    /// The same of a kind whose API not every cluster has: there are none until it has.
    fn optional_children<K: Watched>(&mut self, strip: impl Fn(&mut K) + Send + Sync + 'static) -> Store<K> {
        let (reader, writer) = store();
        let watch = watcher(self.api::<K>(), labelled()).default_backoff();
        let events = once_served::<K>(self.client.clone(), watch.boxed());
        self.concern(slim(events, strip).reflect(writer).boxed());
        reader
    }

    fn concern<K: Watched>(&mut self, events: BoxStream<'static, watcher::Result<Event<K>>>) {
        let targets = self
            .touched(events)
            .filter_map(|object| std::future::ready(owner(&object)));
        self.streams.push(targets.boxed());
    }

    fn reflect<K: Watched>(
        &self,
        config: watcher::Config,
        strip: impl Fn(&mut K) + Send + Sync + 'static,
    ) -> (Store<K>, BoxStream<'static, watcher::Result<Event<K>>>) {
        let (reader, writer) = store();
        let events = slim(watcher(self.api::<K>(), config).default_backoff(), strip);
        (reader, events.reflect(writer).boxed())
    }

    fn api<K: Watched>(&self) -> Api<K> {
        match self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
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

/// Tells `gone` of every deployment that is deleted: also while the watch was interrupted, of which a new list says nothing.
fn tell_gone(
    events: BoxStream<'static, watcher::Result<Event<Guarded<InferenceDeployment>>>>,
    cache: Store<Guarded<InferenceDeployment>>,
    gone: impl Fn(&str, &str, &str) + Send + Sync + 'static,
) -> impl Stream<Item = watcher::Result<Event<Guarded<InferenceDeployment>>>> + Send + 'static {
    let tell = move |object: &Guarded<InferenceDeployment>| {
        let (namespace, uid) = (object.namespace().unwrap_or_default(), object.uid().unwrap_or_default());
        gone(&namespace, &object.name_any(), &uid);
    };
    let mut before = Vec::new();
    events.inspect(move |event| match event {
        Ok(Event::Delete(object)) => tell(object),
        // The cache has the last list until this one is complete.
        Ok(Event::Init) => before = cache.state(),
        Ok(Event::InitDone) => {
            let left =
                |object: &Arc<_>| cache.get(&ObjectRef::from_obj(&**object)).map(|now| now.uid()) != Some(object.uid());
            before.drain(..).filter(left).for_each(|object| tell(&object));
        }
        _ => {}
    })
}

fn labelled() -> watcher::Config {
    let config = watcher::Config::default().page_size(PAGE);
    config.labels(names::LABEL_DEPLOYMENT)
}

/// Without what no step reads.
fn slim<K: Watched>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    strip: impl Fn(&mut K) + Send + Sync + 'static,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static {
    events.modify(move |object| {
        object.managed_fields_mut().clear();
        strip(object);
    })
}

/// `watch` as soon as the cluster serves the API of its kind; an empty list before, so that nobody waits for it.
fn once_served<K: Watched>(
    client: Client,
    watch: BoxStream<'static, watcher::Result<Event<K>>>,
) -> BoxStream<'static, watcher::Result<Event<K>>> {
    let group = K::api_version(&()).into_owned();
    let begin = async move {
        if matches!(is_served(&client, &group).await, Ok(true)) {
            return watch;
        }
        let none = futures::stream::iter([Ok(Event::Init), Ok(Event::InitDone)]);
        let later = async move {
            while !matches!(is_served(&client, &group).await, Ok(true)) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            watch
        };
        none.chain(later.flatten_stream()).boxed()
    };
    begin.flatten_stream().boxed()
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

#[cfg(test)]
mod tests;
