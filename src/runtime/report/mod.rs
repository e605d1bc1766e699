//! What the replica tells the cluster: the status of its `InferenceReplica`.

pub mod events;
mod replica;
#[cfg(test)]
mod tests;

use std::time::Duration;

use kube::Client;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

pub use replica::{OwnReplica, ReportError};

use crate::{api::InferenceReplicaStatus, policy::write_rate::WriteRate};

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
}

/// Reports until `shutdown`, then writes what is the news at that moment once more and returns.
///
/// First it reads its own `InferenceReplica` live and opens `gate`: before that no remote backend may be sent anything (design
/// section 9). It never gives up: without the API server it tries again with a growing, jittered wait.
pub async fn run(
    client: Client,
    own: OwnReplica,
    mut news: watch::Receiver<News>,
    gate: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    let mut reporter = Reporter::new(own.connect(client));
    if shutdown.run_until_cancelled(reporter.find()).await.is_some() {
        gate.send_replace(true);
        shutdown.run_until_cancelled(reporter.follow(&mut news)).await;
    }
    let last = news.borrow_and_update().clone();
    let _ = tokio::time::timeout(FINAL_REPORT, reporter.write(&last)).await;
}

struct Reporter {
    replica: replica::Connected,
    started: Instant,
    rate: WriteRate,
    written: Option<InferenceReplicaStatus>,
    urgent_written: u64,
    failures: u32,
}

impl Reporter {
    fn new(replica: replica::Connected) -> Self {
        Self {
            replica,
            started: Instant::now(),
            rate: WriteRate::default(),
            written: None,
            urgent_written: 0,
            failures: 0,
        }
    }

    /// Until the controller has made the object for this very pod.
    async fn find(&mut self) {
        while let Err(error) = self.replica.exists_for_us().await {
            tracing::info!(%error, "waiting for our InferenceReplica");
            tokio::time::sleep(self.backoff()).await;
        }
        self.failures = 0;
    }

    async fn follow(&mut self, news: &mut watch::Receiver<News>) {
        loop {
            let current = news.borrow_and_update().clone();
            let changed = if self.written.as_ref() == Some(&current.status) {
                news.changed().await
            } else {
                let at = self
                    .rate
                    .next(self.started.elapsed(), current.urgent > self.urgent_written);
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

    async fn write(&mut self, news: &News) {
        if self.written.as_ref() == Some(&news.status) {
            return;
        }
        self.rate
            .wrote(self.started.elapsed(), news.urgent > self.urgent_written);
        match self.replica.write(&news.status).await {
            Ok(()) => {
                self.written = Some(news.status.clone());
                self.urgent_written = news.urgent;
                self.failures = 0;
            }
            Err(error) => {
                tracing::warn!(%error, "the status of our InferenceReplica could not be written");
                tokio::time::sleep(self.backoff()).await;
            }
        }
    }

    /// Full jitter over 0.5 s doubled with every failure, so that replicas do not come back in step.
    fn backoff(&mut self) -> Duration {
        let bound = Duration::from_millis(500)
            .saturating_mul(1 << self.failures.min(6))
            .min(BACKOFF_MOST);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(rand::random::<f64>())
    }
}
