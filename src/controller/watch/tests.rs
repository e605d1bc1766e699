//! What the caches say of themselves.

use std::sync::Mutex;

use kube::core::DeserializeGuard;

use super::*;
use crate::controller::{build::fixtures, mock::Server};

#[tokio::test]
async fn what_is_not_filled_is_named() {
    let (mut stores, _targets) = start(&Server::default().client(), None, &Arc::default(), |_, _, _| {});
    assert_eq!(unfilled(&stores).await.len(), 13);
    let (reader, mut writer) = store();
    stores.pods = reader;
    writer.apply_watcher_event(&Event::Init);
    writer.apply_watcher_event(&Event::InitDone);
    let unfilled = unfilled(&stores).await.join(" ");
    assert!(
        unfilled.starts_with("inferencedeployments inferencereplicas deployments"),
        "{unfilled}"
    );
}

#[tokio::test]
async fn a_deployment_that_is_deleted_while_the_watch_is_interrupted_is_forgotten() {
    let deployment = |name: &str, uid: &str| {
        let mut deployment = fixtures::both();
        deployment.metadata.name = Some(name.into());
        deployment.metadata.uid = Some(uid.into());
        DeserializeGuard(Ok(deployment))
    };
    let listed = |objects: Vec<Guarded<InferenceDeployment>>| {
        let objects = objects.into_iter().map(Event::InitApply);
        [Event::Init].into_iter().chain(objects).chain([Event::InitDone])
    };
    let first = ["stays", "goes", "made-again", "deleted"].map(|name| deployment(name, "1"));
    let events = listed(first.into())
        .chain([
            Event::Delete(deployment("deleted", "1")),
            Event::Init,
            Event::InitApply(deployment("stays", "1")),
        ])
        .chain(listed(vec![
            deployment("stays", "1"),
            deployment("made-again", "2"),
            deployment("new", "1"),
        ]));
    let told = Arc::new(Mutex::new(Vec::new()));
    let (cache, writer) = store();
    let events = futures::stream::iter(events.map(Ok).collect::<Vec<_>>())
        .reflect(writer)
        .boxed();
    let tell = {
        let told = told.clone();
        move |namespace: &str, name: &str, uid: &str| told.lock().unwrap().push(format!("{namespace}/{name} {uid}"))
    };
    tell_gone(events, cache, tell)
        .for_each(|_| std::future::ready(()))
        .await;
    let mut told = told.lock().unwrap().clone();
    assert_eq!(told.remove(0), "default/deleted 1");
    told.sort();
    assert_eq!(told, ["default/goes 1", "default/made-again 1"]);
}
