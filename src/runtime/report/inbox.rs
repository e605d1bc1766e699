//! What the controller tells this replica: the spec of its `InferenceReplica`.

use std::sync::Arc;

use futures::{StreamExt, pin_mut};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Backoff, Ears, OwnReplica, replica::Connected};
use crate::api::InferenceReplica;

/// Follows the object until `shutdown`.
///
/// First it reads it live, tells `ears` and opens `gate`: before that no remote backend may be sent anything (design section 9).
pub async fn run(
    client: Client,
    own: OwnReplica,
    ears: Arc<dyn Ears>,
    gate: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    let following = async {
        let replica = own.clone().connect(client);
        let mut inbox = Inbox {
            own,
            ears,
            newest: None,
        };
        inbox.take(&first(&replica).await);
        gate.send_replace(true);
        inbox.follow(&replica).await;
    };
    shutdown.run_until_cancelled(following).await;
}

/// The object that the controller has made for this very pod.
async fn first(replica: &Connected) -> InferenceReplica {
    let mut backoff = Backoff::default();
    loop {
        match replica.find().await {
            Ok(found) => return found,
            Err(error) => info!(%error, "waiting for our InferenceReplica"),
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

struct Inbox {
    own: OwnReplica,
    ears: Arc<dyn Ears>,
    newest: Option<u64>,
}

impl Inbox {
    async fn follow(&mut self, replica: &Connected) {
        let states = replica.watch();
        pin_mut!(states);
        while let Some(state) = states.next().await {
            match state {
                Ok(replica) => self.take(&replica),
                Err(error) => {
                    warn!(%error, "the watch of our InferenceReplica failed; what was told last stays in force");
                }
            }
        }
    }

    /// A list may be older than what was read live: a state that is not newer is none.
    fn take(&mut self, replica: &InferenceReplica) {
        let version = replica.resource_version().and_then(|version| version.parse().ok());
        if !self.own.is(replica) || (version.is_some() && version <= self.newest) {
            return;
        }
        self.newest = version;
        self.ears.told(replica);
    }
}
