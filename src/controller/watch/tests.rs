//! What the caches say of themselves.

use super::*;
use crate::controller::mock::Server;

#[tokio::test]
async fn what_is_not_filled_is_named() {
    let (mut stores, _targets) = start(&Server::default().client(), None, &Arc::default(), |_, _, _| {});
    assert_eq!(unfilled(&stores).await.len(), 12);
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
