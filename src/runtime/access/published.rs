//! The keys that the API server publishes: kept, followed, and never asked for by a request whose key is known.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::Request;
use jsonwebtoken::{DecodingKey, jwk::Jwk};
use kube::Client;
use serde::Deserialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tracing::warn;

use super::Denied;

const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// A token with an unknown key id makes us fetch keys, but not more often than this.
pub const REFETCH: Duration = Duration::from_secs(10);
/// After a fetch that failed the next one is made no sooner.
const RETRY: Duration = Duration::from_secs(1);
/// Keys of this age are fetched again, in the background: a key that the cluster withdrew is refused from then on.
pub const FRESH: Duration = Duration::from_secs(300);

/// The published keys. Without the API server those that were fetched last stay.
pub struct Published {
    client: Client,
    state: ArcSwap<State>,
    /// One fetch at a time, and the last one that came to an end.
    fetched: Mutex<Option<Fetched>>,
}

#[derive(Default)]
struct State {
    keys: HashMap<String, Arc<DecodingKey>>,
    /// When they are fetched again.
    stale_at: Option<Instant>,
}

impl std::fmt::Debug for Published {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Published").finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug)]
struct Fetched {
    at: Instant,
    succeeded: bool,
}

/// What the API server publishes. A key of a kind that is not known here does not hide the others.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

impl Published {
    /// Keys that are fetched when the first is asked for.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            state: ArcSwap::default(),
            fetched: Mutex::new(None),
        }
    }

    /// The key of an id.
    pub async fn key(self: &Arc<Self>, id: &str) -> Result<Arc<DecodingKey>, Denied> {
        if let Some(key) = self.known(id) {
            self.follow();
            return Ok(key);
        }
        self.refresh(id).await?;
        self.known(id)
            .ok_or_else(|| Denied::Caller("the token is signed with a key that the cluster does not publish".into()))
    }

    fn known(&self, id: &str) -> Option<Arc<DecodingKey>> {
        self.state.load().keys.get(id).cloned()
    }

    /// Fetches stale keys in the background.
    fn follow(self: &Arc<Self>) {
        if self.state.load().stale_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        let published = Arc::clone(self);
        tokio::spawn(async move {
            // Who holds it fetches already.
            let Ok(mut last) = published.fetched.try_lock() else {
                return;
            };
            let stale = last.is_none_or(|last| last.at.elapsed() >= if last.succeeded { FRESH } else { REFETCH });
            if stale {
                *last = Some(published.fetch().await);
            }
        });
    }

    /// One fetch at a time: who comes meanwhile waits for it, and a fetch that was given up counts for nothing.
    async fn refresh(&self, id: &str) -> Result<(), Denied> {
        let mut last = self.fetched.lock().await;
        match *last {
            _ if self.known(id).is_some() => return Ok(()),
            Some(Fetched { at, succeeded: true }) if at.elapsed() < REFETCH => return Ok(()),
            Some(Fetched { at, succeeded: false }) if at.elapsed() < RETRY => {}
            _ => *last = Some(self.fetch().await),
        }
        if last.is_some_and(|last| last.succeeded) {
            return Ok(());
        }
        Err(Denied::Ourselves("the cluster's token keys cannot be fetched".into()))
    }

    async fn fetch(&self) -> Fetched {
        let result = self.read().await;
        let succeeded = match result {
            Ok(keys) => {
                self.state.store(Arc::new(State {
                    keys,
                    stale_at: Some(Instant::now() + FRESH),
                }));
                true
            }
            Err(error) => {
                warn!(error, "cannot fetch the cluster's token keys");
                false
            }
        };
        Fetched {
            at: Instant::now(),
            succeeded,
        }
    }

    async fn read(&self) -> Result<HashMap<String, Arc<DecodingKey>>, String> {
        let request = Request::get("/openid/v1/jwks").body(Vec::new());
        let request = request.map_err(|error| error.to_string())?;
        let answer = timeout(CALL_DEADLINE, self.client.request::<KeySet>(request)).await;
        let set = answer.map_err(|_| format!("no answer within {CALL_DEADLINE:?}"))?;
        let set = set.map_err(|error| error.to_string())?;
        Ok(set.keys.into_iter().filter_map(usable).collect())
    }
}

fn usable(key: serde_json::Value) -> Option<(String, Arc<DecodingKey>)> {
    let key: Jwk = serde_json::from_value(key).ok()?;
    let decoding = DecodingKey::from_jwk(&key).ok()?;
    Some((key.common.key_id?, Arc::new(decoding)))
}
