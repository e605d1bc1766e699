//! What the conditions look at: the applied Deployments, the pods and their reports, joined.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentCondition},
    core::v1::Pod,
};
use kube::ResourceExt;

use super::budget;
use crate::{
    api::{
        Backend, BackendReport, BudgetStatus, CircuitStatus, EngineState, GpuTrouble, InferenceDeployment,
        InferenceDeploymentSpec, InferenceReplica, InferenceReplicaStatus, NanoUsd, conditions as types, names,
    },
    controller::{
        build::{Subject, Tier, deadline_seconds, scaled_tier, tier_of, tiers},
        decide::{Decisions, Situation, unread_annotations},
        dereference::Live,
        pods::{self, has_ended, is_its_replica, is_ready},
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

    /// Its runtime gave up.
    pub fn has_failed(&self) -> bool {
        let engine = self.report.and_then(|report| report.engine.as_ref());
        engine.is_some_and(|engine| engine.state == EngineState::Failed)
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
    /// Pods that follow the leader of their group: of no use alone, and as much needed.
    pub followers: Vec<&'a Pod>,
    /// Pods whose containers run no more: nobody removes them, others have taken their places.
    pub ended: Vec<&'a Pod>,
    /// The merged circuits.
    pub circuits: Vec<CircuitStatus>,
    /// GPUs that pods failed on.
    pub gpus: Vec<GpuTrouble>,
    /// The ledger.
    pub ledger: Option<&'a BudgetStatus>,
    /// A replica was told that there is no money for a request of its own.
    pub denied: bool,
    /// Local pods are away because nobody asks for them.
    pub idle: bool,
    /// The deployment was Ready before.
    pub was_ready: bool,
    /// The wall clock.
    pub now: Timestamp,
    /// What is wrong with annotations on the budget that are not carried out.
    pub unread: Vec<String>,
}

impl<'a> View<'a> {
    /// Joins pods and reports.
    pub fn new(
        situation: Situation<'a>,
        deployments: &'a [Deployment],
        kept: &'a [String],
        problem: Option<Problem>,
        decisions: &'a Decisions,
    ) -> Self {
        let Situation {
            subject,
            deployment,
            live,
            ..
        } = situation;
        let record = &decisions.record;
        let (ended, pods) = pods_of(subject, live);
        let (followers, leading): (Pods<'_>, Pods<'_>) =
            pods.into_iter().partition(|(tier, _)| *tier == Tier::Follower);
        Self {
            subject,
            generation: deployment.metadata.generation.unwrap_or(0),
            spec: &deployment.spec,
            deployments,
            kept,
            problem,
            members: members(leading, live),
            followers: only(followers),
            ended: only(ended),
            gpus: record.gpus.clone(),
            circuits: record.circuits.clone(),
            ledger: record.budget.as_ref(),
            denied: live.replicas.iter().any(is_denied),
            idle: decisions.idle,
            was_ready: was_ready(deployment),
            now: situation.now,
            unread: unread_annotations(deployment, record.budget.as_ref()),
        }
    }

    /// Wanted pods of all tiers.
    pub fn wanted(&self) -> i32 {
        let away = self.idle || self.released().is_some();
        let tiers = tiers(self.spec).into_iter();
        tiers
            .filter(|(tier, _)| *tier != Tier::Local || !away)
            .map(|(_, replicas)| replicas)
            .sum()
    }

    /// The limit at which the local pods were let go because the budget does not pay for their GPUs.
    pub fn released(&self) -> Option<NanoUsd> {
        self.ledger.filter(|_| self.spec.budget.is_some())?.released_at()
    }

    /// Pods of the scaled kind as their Deployment counts them.
    pub fn scaled(&self) -> Counts {
        let tier = scaled_tier(self.spec);
        let deployment = self.deployments.iter().find(|workload| makes(workload, tier));
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

    /// All pods that must run.
    pub fn pods(&self) -> impl Iterator<Item = &'a Pod> {
        let followers = self.followers.iter().copied();
        self.members.iter().map(|member| member.pod).chain(followers)
    }

    /// Workloads some of whose pods the API server refuses to create, with its words. A LeaderWorkerSet tells of none.
    pub fn refusals(&self) -> impl Iterator<Item = (&'a Deployment, &'a str)> {
        let refuses = |c: &&DeploymentCondition| {
            c.status.as_deref() == Some("True") && c.reason.as_deref() == Some("FailedCreate")
        };
        self.deployments.iter().filter_map(move |workload| {
            let failure = told(workload, "ReplicaFailure").filter(refuses)?;
            Some((workload, failure.message.as_deref().unwrap_or("no reason is given")))
        })
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

    /// With `scaleToZero`, the local backend while its pods are away or come back: a GPU-less pod takes requests for it and holds them.
    /// What does not come back by itself takes none, and what was never there does not come back.
    pub fn held_backend(&self) -> Option<&'a str> {
        self.spec.scale_to_zero.as_ref()?;
        let off = self.spec.replicas() == 0 || self.released().is_some();
        let is_held = self.ready().any(|member| member.tier == Tier::Remote);
        let comes = self.idle || self.is_waking();
        let (name, _) = self.spec.local().filter(|_| !off && is_held && comes)?;
        Some(name)
    }

    /// Local pods come back.
    pub fn is_waking(&self) -> bool {
        let up = self.local().any(Member::is_ready);
        let fails = pods::gravest(self.local().map(|member| member.pod)).is_some();
        let gave_up = self.local().any(Member::has_failed);
        let refused = self.refusals().any(|(workload, _)| makes(workload, Tier::Local));
        let fails = fails || gave_up || refused || self.overdue().is_some();
        self.spec.scale_to_zero.is_some() && self.was_ready && !self.idle && !up && !fails
    }

    /// With `scaleToZero`, a local pod that is not Ready for longer than it may take. Kubernetes tells of none: a Deployment that was rolled
    /// out once has no deadline when it is scaled.
    pub fn overdue(&self) -> Option<&'a Pod> {
        let (_, backend) = self.spec.local().filter(|_| self.spec.scale_to_zero.is_some())?;
        let deadline = SignedDuration::from_secs(deadline_seconds(backend).into());
        let late = |pod: &&Pod| {
            let created = pod.metadata.creation_timestamp.as_ref();
            created.is_some_and(|created| self.now.duration_since(created.0) > deadline)
        };
        let staying = self
            .local()
            .filter(|member| member.pod.metadata.deletion_timestamp.is_none());
        staying
            .filter(|member| !member.is_ready())
            .map(|member| member.pod)
            .find(late)
    }

    fn local(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members.iter().filter(|member| member.tier == Tier::Local)
    }

    /// The first backend in order that takes requests, to answer or else to hold them.
    pub fn active_backend(&self) -> Option<&'a str> {
        self.answering_backend().or_else(|| self.held_backend())
    }

    /// The first backend in order that some Ready pod may send to, and that the budget admits.
    pub fn answering_backend(&self) -> Option<&'a str> {
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

/// Whether the pods of a workload are of `tier`.
pub fn makes(workload: &Deployment, tier: Tier) -> bool {
    let label = workload.labels().get(names::LABEL_TIER);
    label.is_some_and(|label| label == tier.as_str())
}

/// A condition that a workload has from its own controller.
pub fn told<'a>(workload: &'a Deployment, type_: &str) -> Option<&'a DeploymentCondition> {
    let mut conditions = workload.status.as_ref()?.conditions.iter().flatten();
    conditions.find(|condition| condition.type_.as_deref() == Some(type_))
}

fn was_ready(deployment: &InferenceDeployment) -> bool {
    let conditions = deployment.status.iter().flat_map(|status| &status.conditions);
    let mut ready = conditions.filter(|condition| condition.type_ == types::READY);
    ready.any(|condition| condition.status == "True")
}

fn is_denied(replica: &InferenceReplica) -> bool {
    let told = replica.spec.budget.as_ref();
    replica.metadata.deletion_timestamp.is_none() && told.is_some_and(|told| told.denied.is_some())
}

type Pods<'a> = Vec<(Tier, &'a Pod)>;

/// Those that ended, and all others.
fn pods_of<'a>(subject: &Subject, live: &'a Live) -> (Pods<'a>, Pods<'a>) {
    let pods = live.pods.iter().map(AsRef::as_ref);
    let ours = pods.filter_map(|pod| Some((tier_of(subject, pod)?, pod)));
    ours.partition(|(_, pod)| has_ended(pod))
}

fn only(pods: Pods<'_>) -> Vec<&Pod> {
    pods.into_iter().map(|(_, pod)| pod).collect()
}

fn members<'a>(pods: Pods<'a>, live: &'a Live) -> Vec<Member<'a>> {
    let member = |(tier, pod)| Member {
        tier,
        pod,
        report: report(&live.replicas, pod),
    };
    pods.into_iter().map(member).collect()
}

fn report<'a>(replicas: &'a [InferenceReplica], pod: &Pod) -> Option<&'a InferenceReplicaStatus> {
    let replica = replicas.iter().find(|replica| is_its_replica(pod, replica))?;
    replica.status.as_ref()
}
