//! What the replica tells the cluster: the status of its `InferenceReplica`.

pub mod events;
pub mod inbox;
mod replica;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use kube::Client;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

pub use replica::{OwnReplica, ReportError};

use crate::{
    api::{InferenceReplica, InferenceReplicaStatus},
    policy::write_rate::{Haste, WriteRate},
};

/// The longest wait after writes that fail.
const BACKOFF_MOST: Duration = Duration::from_secs(30);
/// How long the last report may take before the process ends all the same.
const FINAL_REPORT: Duration = Duration::from_secs(5);

/// What the rest of the runtime publishes through a `tokio::sync::watch` for the reporter.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// The whole status as it should read now.
    pub status: InferenceReplicaStatus,
    /// Urgent transitions so far (a circuit opened or closed, a probe, credentials refused): a rise is written at once, the rest
    /// at most every 5 s (design section 8, write rates).
    pub urgent: u64,
    /// The status accepts something that was told by this resourceVersion of our object: it is written only over that state.
    pub over: Option<String>,
}

/// What the rest of the runtime is told by the reporter and the inbox.
pub trait Ears: Send + Sync {
    /// A state of our object, never an older one than before.
    fn told(&self, replica: &InferenceReplica);
    /// Version of the state that was told last.
    fn told_version(&self) -> Option<String>;
    /// The API server has taken this status.
    fn written(&self, news: &News);
}

/// Reports until `shutdown`, then writes what is the news at that moment once more and returns.
///
/// It begins when `gate` is open, which the inbox opens. It never gives up: without the API server it tries again with a growing,
/// jittered wait.
pub async fn run(
    client: Client,
    own: OwnReplica,
    mut news: watch::Receiver<News>,
    ears: Arc<dyn Ears>,
    mut gate: watch::Receiver<bool>,
    shutdown: CancellationToken,
) {
    let mut reporter = Reporter::new(own.connect(client), ears);
    let opened = shutdown.run_until_cancelled(gate.wait_for(|open| *open));
    if matches!(opened.await, Some(Ok(_))) {
        shutdown.run_until_cancelled(reporter.follow(&mut news)).await;
    }
    let last = News {
        over: None,
        ..news.borrow_and_update().clone()
    };
    let _ = tokio::time::timeout(FINAL_REPORT, reporter.write_at_last(&last)).await;
}

struct Reporter {
    replica: replica::Connected,
    ears: Arc<dyn Ears>,
    started: Instant,
    rate: WriteRate,
    written: Option<InferenceReplicaStatus>,
    /// Version of our object after our last write.
    version: Option<String>,
    urgent_written: u64,
    backoff: Backoff,
}

impl Reporter {
    fn new(replica: replica::Connected, ears: Arc<dyn Ears>) -> Self {
        Self {
            replica,
            ears,
            started: Instant::now(),
            rate: WriteRate::default(),
            written: None,
            version: None,
            urgent_written: 0,
            backoff: Backoff::default(),
        }
    }

    async fn follow(&mut self, news: &mut watch::Receiver<News>) {
        loop {
            let current = news.borrow_and_update().clone();
            let changed = if self.written.as_ref() == Some(&current.status) {
                news.changed().await
            } else {
                let at = self.rate.next(self.started.elapsed(), self.haste(&current));
                tokio::select! {
                    changed = news.changed() => changed,
                    () = tokio::time::sleep_until(self.started + at) => {
                        self.write(&current).await;
                        Ok(())
                    }
                }
            };
            if changed.is_err() {
                return;
            }
        }
    }

    const fn haste(&self, news: &News) -> Haste {
        Haste::urgent_if(news.urgent > self.urgent_written)
    }

    async fn write(&mut self, news: &News) {
        if self.written.as_ref() == Some(&news.status) {
            return;
        }
        self.rate.wrote(self.started.elapsed());
        match self.send(news).await {
            Ok(version) => {
                self.version = Some(version);
                self.written = Some(news.status.clone());
                self.urgent_written = news.urgent;
                self.backoff = Backoff::default();
                self.ears.written(news);
            }
            Err(error) => {
                tracing::warn!(%error, "the status of our InferenceReplica could not be written");
                tokio::time::sleep(self.backoff.next()).await;
            }
        }
    }
}

impl Reporter {
    /// Until it is written.
    async fn write_at_last(&mut self, news: &News) {
        while self.written.as_ref() != Some(&news.status) {
            self.write(news).await;
        }
    }

    /// Every status is written over a state that we know: so nothing that a process of this pod sent before it died arrives after the
    /// first word of the next one. What accepts something goes over the state that it was told with, all else over the newest.
    async fn send(&mut self, news: &News) -> Result<String, ReportError> {
        if let Some(over) = &news.over {
            return self.replica.write(&news.status, over).await;
        }
        let known = newer(self.version.clone(), self.ears.told_version()).unwrap_or_default();
        match self.replica.write(&news.status, &known).await {
            Err(error) if error.is_conflict() => {
                let live = self.replica.find().await?;
                let version = live.metadata.resource_version.unwrap_or_default();
                self.replica.write(&news.status, &version).await
            }
            written => written,
        }
    }
}

/// The newer of two versions of one object.
fn newer(one: Option<String>, other: Option<String>) -> Option<String> {
    let number = |version: &Option<String>| version.as_ref().and_then(|v| v.parse::<u64>().ok());
    if number(&other) > number(&one) { other } else { one }
}

/// Full jitter over 0.5 s doubled with every failure, so that replicas do not come back in step.
#[derive(Debug, Default)]
struct Backoff(u32);

impl Backoff {
    fn next(&mut self) -> Duration {
        let bound = Duration::from_millis(500)
            .saturating_mul(1 << self.0.min(6))
            .min(BACKOFF_MOST);
        self.0 = self.0.saturating_add(1);
        bound.mul_f64(rand::random::<f64>())
    }
}
