//! Holds a Lease while this process works. Nothing that must be right leans on it: two leaders do no harm, they only waste calls.

mod state;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, ResourceExt, api::PostParams};
use state::{Election, LEASE, RENEW_DEADLINE, RETRY, Seen, Step};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call::{CallError, call};

/// The Lease is lost: the process must end.
#[derive(Debug, thiserror::Error)]
#[error("the Lease could not be renewed in time: another controller may be working")]
pub struct LeaseLost;

/// The Lease could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum SeizeError {
    /// The API server refuses, or does not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Somebody else took it.
    #[error(transparent)]
    Lost(#[from] LeaseLost),
}

/// Takes part in the election.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    start: Instant,
    election: Election,
    last: Option<Lease>,
}

impl Candidate {
    /// A candidate for the Lease `name` of `namespace`. The client is its own: a renewal must not queue behind other calls.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            start: Instant::now(),
            election: Election::new(identity.to_owned()),
            last: None,
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Returns when this process leads; false when `stop` came first.
    pub async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        while !self.election.leads(self.now()) {
            self.step().await;
            if !self.election.leads(self.now()) && stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                return false;
            }
        }
        true
    }

    /// Takes the Lease from whoever holds it, and returns when that process must have ended: for what may not be undone behind our back.
    ///
    /// # Errors
    /// When it cannot be read or written, or is lost again.
    pub async fn seize(&mut self) -> Result<(), SeizeError> {
        loop {
            let began = self.now();
            let taken = async { self.take(self.find().await?.as_ref()).await };
            match taken.await {
                Ok(lease) => {
                    self.election.wrote(began);
                    self.last = Some(lease);
                    break;
                }
                Err(error) if error.is_conflict() || error.is_already_exists() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let former = CancellationToken::new();
        tokio::time::timeout(RENEW_DEADLINE, self.hold(&former))
            .await
            .unwrap_or(Ok(()))?;
        Ok(())
    }

    /// Renews until `stop`.
    ///
    /// # Errors
    /// When the Lease is lost.
    pub async fn hold(&mut self, stop: &CancellationToken) -> Result<(), LeaseLost> {
        while stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_some() {
            self.step().await;
            if self.election.lost(self.now()) {
                return Err(LeaseLost);
            }
        }
        Ok(())
    }

    /// Gives the Lease up, so that the next one need not wait.
    pub async fn release(mut self) {
        let Some(mut lease) = self.last.take().filter(|_| self.election.leads(self.now())) else {
            return;
        };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
        }
        if let Err(error) = self.replace(lease).await {
            tracing::warn!(%error, "the Lease was not released");
        }
    }

    async fn step(&mut self) {
        let began = self.now();
        // The renewal deadline counts from before the calls: they may hang.
        match tokio::time::timeout(RENEW_DEADLINE / 2, self.try_once()).await {
            Ok(Ok(true)) => self.election.wrote(began),
            Ok(Ok(false)) => {}
            Ok(Err(error)) if error.is_conflict() || error.is_already_exists() => self.last = None,
            Ok(Err(error)) => tracing::warn!(%error, "leader election"),
            Err(_) => tracing::warn!("leader election: no answer"),
        }
    }

    async fn try_once(&mut self) -> Result<bool, CallError> {
        let found = self.find().await?;
        if self.election.observe(found.as_ref().map(seen), self.now()) == Step::Wait {
            return Ok(false);
        }
        self.last = Some(self.take(found.as_ref()).await?);
        Ok(true)
    }

    async fn find(&self) -> Result<Option<Lease>, CallError> {
        call("get the Lease", self.api.get_opt(&self.name)).await
    }

    /// Writes our name over what was found, or where there was nothing.
    async fn take(&self, found: Option<&Lease>) -> Result<Lease, CallError> {
        let lease = self.ours(found);
        if found.is_some() {
            return self.replace(lease).await;
        }
        call("create the Lease", self.api.create(&PostParams::default(), &lease)).await
    }

    /// Carries the resourceVersion that was read: a conflict when anybody else wrote since.
    async fn replace(&self, lease: Lease) -> Result<Lease, CallError> {
        call(
            "update the Lease",
            self.api.replace(&self.name, &PostParams::default(), &lease),
        )
        .await
    }

    fn ours(&self, found: Option<&Lease>) -> Lease {
        let before = found.and_then(|l| l.spec.clone()).unwrap_or_default();
        let now = MicroTime(Timestamp::now());
        let same = before.holder_identity.as_deref() == Some(&self.identity);
        let transitions = before.lease_transitions.unwrap_or(0) + i32::from(found.is_some() && !same);
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: found.and_then(ResourceExt::resource_version),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
                acquire_time: before.acquire_time.filter(|_| same).or_else(|| Some(now.clone())),
                renew_time: Some(now),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn seen(lease: &Lease) -> Seen {
    let holder = lease.spec.as_ref().and_then(|s| s.holder_identity.clone());
    Seen {
        holder: holder.unwrap_or_default(),
        resource_version: lease.resource_version().unwrap_or_default(),
    }
}
