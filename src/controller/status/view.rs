//! What the conditions look at: the applied Deployments, the pods and their reports, joined.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::ResourceExt;

use super::{budget, pods};
use crate::{
    api::{
        Backend, BackendReport, BudgetStatus, CircuitStatus, GpuTrouble, InferenceDeploymentSpec, InferenceReplica,
        InferenceReplicaStatus, NanoUsd,
    },
    controller::{
        build::{Subject, Tier, scaled_tier, tier_of, tiers},
        decide::{Record, Situation, unread_annotations},
        dereference::Live,
    },
    policy::pricing::Prices,
};

/// Why the spec is not carried out, for the Stalled condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A reason constant.
    pub reason: &'static str,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// A pod with its report.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its tier.
    pub tier: Tier,
    /// The pod.
    pub pod: &'a Pod,
    /// What its runtime reports; from this pod, not from one of the same name before.
    pub report: Option<&'a InferenceReplicaStatus>,
}

impl Member<'_> {
    /// The kubelet calls it Ready and it is not going.
    pub fn is_ready(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_none() && is_ready(self.pod)
    }
}

/// Pods of the scaled kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// That exist.
    pub replicas: i32,
    /// That are Ready.
    pub ready: i32,
}

/// Everything that the status is computed from.
#[derive(Debug)]
pub struct View<'a> {
    /// Whose status.
    pub subject: &'a Subject,
    /// Its generation.
    pub generation: i64,
    /// Its spec.
    pub spec: &'a InferenceDeploymentSpec,
    /// Its Deployments as the API server has them.
    pub deployments: &'a [Deployment],
    /// Old Deployments that stay until the new ones are Ready.
    pub kept: &'a [String],
    /// Why the spec is not carried out.
    pub problem: Option<Problem>,
    /// Pods with their reports, in order of their names.
    pub members: Vec<Member<'a>>,
    /// The merged circuits.
    pub circuits: Vec<CircuitStatus>,
    /// GPUs that pods failed on.
    pub gpus: Vec<GpuTrouble>,
    /// The ledger.
    pub ledger: Option<&'a BudgetStatus>,
    /// A replica was told that there is no money for what it wants.
    pub denied: bool,
    /// What is wrong with annotations on the budget.
    pub unread: Vec<String>,
}

impl<'a> View<'a> {
    /// Joins pods and reports.
    pub fn new(
        situation: Situation<'a>,
        deployments: &'a [Deployment],
        kept: &'a [String],
        problem: Option<Problem>,
        record: &'a Record,
    ) -> Self {
        let Situation {
            subject,
            deployment,
            live,
            ..
        } = situation;
        Self {
            subject,
            generation: deployment.metadata.generation.unwrap_or(0),
            spec: &deployment.spec,
            deployments,
            kept,
            problem,
            members: members(subject, live),
            gpus: record.gpus.clone(),
            circuits: record.circuits.clone(),
            ledger: record.budget.as_ref(),
            denied: live.replicas.iter().any(is_denied),
            unread: unread_annotations(deployment),
        }
    }

    /// Wanted pods of all tiers.
    pub fn wanted(&self) -> i32 {
        let released = self.released().is_some();
        let tiers = tiers(self.spec).into_iter();
        tiers
            .filter(|(tier, _)| *tier != Tier::Local || !released)
            .map(|(_, replicas)| replicas)
            .sum()
    }

    /// The limit at which the local pods were let go because the budget does not pay for their GPUs.
    pub fn released(&self) -> Option<NanoUsd> {
        let ledger = self
            .ledger
            .filter(|ledger| self.spec.budget.is_some() && ledger.lost.is_none())?;
        ledger.gpu_time.as_ref()?.released_at
    }

    /// Pods of the scaled kind as their Deployment counts them.
    pub fn scaled(&self) -> Counts {
        let name = scaled_tier(self.spec).workload(&self.subject.name);
        let deployment = self.deployments.iter().find(|d| d.name_any() == name);
        let status = deployment.and_then(|d| d.status.as_ref());
        status.map_or_else(Counts::default, |s| Counts {
            replicas: s.replicas.unwrap_or(0),
            ready: s.ready_replicas.unwrap_or(0),
        })
    }

    /// Label selector of the scaled kind.
    pub fn selector(&self) -> String {
        let labels = scaled_tier(self.spec).selector(&self.subject.name);
        let pairs: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(",")
    }

    /// Pods that are Ready.
    pub fn ready(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members.iter().filter(|m| m.is_ready())
    }

    /// Reports of pods that are not going.
    pub fn reports(&self) -> Vec<&'a InferenceReplicaStatus> {
        let staying = self
            .members
            .iter()
            .filter(|m| m.pod.metadata.deletion_timestamp.is_none());
        staying.filter_map(|m| m.report).collect()
    }

    /// What Ready pods say of a backend.
    pub fn backend(&self, name: &str) -> Vec<&'a BackendReport> {
        let reports = self.ready().filter_map(|m| m.report);
        reports.flat_map(|r| &r.backends).filter(|b| b.name == name).collect()
    }

    /// The first backend in order that some Ready pod may send to, and that the budget admits.
    pub fn active_backend(&self) -> Option<&'a str> {
        let paid = |backend: &Backend| {
            let price = backend.remote.as_ref().and_then(|remote| remote.price.as_ref());
            price.is_some_and(|price| !Prices::from(price).are_free())
        };
        let admitted = self
            .available()
            .filter(|backend| !paid(backend) || budget::admits(self));
        admitted.map(|backend| backend.name.as_str()).next()
    }

    /// Backends in order that some Ready pod may send to if there is money.
    pub fn available(&self) -> impl Iterator<Item = &'a Backend> {
        let available = |backend: &&Backend| self.backend(&backend.name).iter().any(|b| b.available);
        self.spec.backends.iter().filter(available)
    }
}

fn is_denied(replica: &InferenceReplica) -> bool {
    let told = replica.spec.budget.as_ref();
    replica.metadata.deletion_timestamp.is_none() && told.is_some_and(|told| told.denied.is_some())
}

fn members<'a>(subject: &Subject, live: &'a Live) -> Vec<Member<'a>> {
    live.pods
        .iter()
        .filter_map(|pod| {
            Some(Member {
                tier: tier_of(subject, pod)?,
                pod,
                report: report(&live.replicas, pod).filter(|_| !has_ended(pod)),
            })
        })
        .collect()
}

/// The kubelet calls it Ready.
pub fn is_ready(pod: &Pod) -> bool {
    pods::condition(pod, "Ready") == Some("True")
}

/// An evicted pod stays and speaks no more: its last report says nothing of now.
pub fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

fn report<'a>(replicas: &'a [InferenceReplica], pod: &Pod) -> Option<&'a InferenceReplicaStatus> {
    let replica = replicas
        .iter()
        .find(|r| r.metadata.name == pod.metadata.name && Some(&r.spec.pod_uid) == pod.metadata.uid.as_ref())?;
    replica.status.as_ref()
}
