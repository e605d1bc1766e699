//! What the controller decides for all replicas of a deployment together: the budget (design section 8) and circuits (section 9). Pure.
//!
//! A decision is recorded in the status of the `InferenceDeployment` first, by one conditional write, and then told to the replicas
//! through the specs of their `InferenceReplica`s, each written only over the state that the decision was made on. So a second
//! leader, or one that comes after a crash, goes on from what is recorded. Shares of rate limits alone need no record: each order is safe
//! by itself, whatever becomes of the others, and they have a pace of their own.

mod budget;
mod circuits;
mod gpu_time;
mod gpus;
mod idle;
mod shares;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    build::{Subject, tier_of},
    dereference::Live,
};
use crate::api::{
    BudgetStatus, CircuitStatus, GpuTrouble, InferenceDeployment, InferenceReplica, MergedCircuit, ReplicaBudget,
    ShareOrder,
};

pub use budget::{newly_denied, unread as unread_annotations};
pub use gpu_time::affordable;
pub use idle::{awake, local_pods};
pub use shares::share;

/// What is known.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// Whose replicas they are.
    pub subject: &'a Subject,
    /// The spec, and what was recorded before.
    pub deployment: &'a InferenceDeployment,
    /// Pods and what their runtimes report.
    pub live: &'a Live,
    /// The wall clock.
    pub now: Timestamp,
    /// The API server's, by its last answer.
    pub server_now: Option<Timestamp>,
    /// Deployment, pods and replicas were read from the API server itself, in this order.
    pub read_live: bool,
    /// A random number in `[0, 1)`.
    pub jitter: f64,
}

/// The part of the deployment's status that is recorded by conditional writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The merged circuits.
    pub circuits: Vec<CircuitStatus>,
    /// The ledger.
    pub budget: Option<BudgetStatus>,
    /// GPUs that pods failed on.
    pub gpus: Vec<GpuTrouble>,
}

/// What one replica is told beside who it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Orders {
    /// The merged circuits to follow.
    pub circuits: Vec<MergedCircuit>,
    /// Its part of the ledger.
    pub budget: Option<ReplicaBudget>,
    /// Its shares of rate limits.
    pub shares: Vec<ShareOrder>,
    /// Why no engine may run.
    pub hold: Option<String>,
}

/// A pod that is deleted, so that another takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doomed {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// What is decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decisions {
    /// To be recorded.
    pub record: Record,
    /// To be told, by name of the pod.
    pub orders: BTreeMap<String, Orders>,
    /// To be deleted, once that is recorded.
    pub replace: Vec<Doomed>,
    /// Local pods are away because nobody asks for them.
    pub idle: bool,
    /// It cannot wait for the next routine write.
    pub urgent: bool,
    /// When to decide again, though nothing changes.
    pub look_again: Option<Duration>,
    /// Something can only be decided on a live read: read everything anew and decide again.
    pub look_live: bool,
    /// Annotations of the deployment to be written, or removed, after the record.
    pub annotations: BTreeMap<&'static str, Option<String>>,
    /// Replicas whose budget finalizer goes, after the record.
    pub release: Vec<String>,
}

/// Decides.
pub fn decide(situation: &Situation<'_>) -> Decisions {
    let mut decisions = held(situation);
    circuits::decide(situation, &mut decisions);
    budget::decide(situation, &mut decisions);
    gpus::decide(situation, &mut decisions);
    decisions
}

/// Everything as it is recorded now. A pod without an `InferenceReplica` will be told it when it gets one, the others are told of the
/// circuits what they were not told yet.
pub fn held(situation: &Situation<'_>) -> Decisions {
    let Situation {
        subject,
        deployment,
        live,
        ..
    } = situation;
    let record = recorded(deployment);
    let new = live.pods.iter().filter(|pod| tier_of(subject, pod).is_some());
    let mut orders: BTreeMap<String, Orders> = new
        .map(|pod| {
            let name = pod.name_any();
            let circuits = circuits::told(deployment, &record.circuits, &name, &[]);
            let budget = budget::first_told(record.budget.as_ref(), pod);
            let orders = Orders {
                circuits,
                budget,
                shares: Vec::new(),
                hold: gpus::told(&record.gpus, live, &name),
            };
            (name, orders)
        })
        .collect();
    orders.extend(live.replicas.iter().map(|replica| {
        let (name, told) = (replica.name_any(), told(replica));
        let circuits = circuits::told(deployment, &record.circuits, &name, &told.circuits);
        (name, Orders { circuits, ..told })
    }));
    let mut decisions = Decisions {
        replace: gpus::doomed(&record.gpus, live),
        record,
        orders,
        ..Decisions::default()
    };
    idle::decide(situation, &mut decisions);
    decisions
}

/// What is recorded now.
pub fn recorded(deployment: &InferenceDeployment) -> Record {
    let status = deployment.status.clone().unwrap_or_default();
    Record {
        circuits: status.circuits,
        budget: status.budget,
        gpus: status.gpus,
    }
}

fn told(replica: &InferenceReplica) -> Orders {
    Orders {
        circuits: replica.spec.circuits.clone(),
        hold: replica.spec.engine_hold.clone(),
        budget: replica.spec.budget.clone(),
        shares: replica.spec.shares.clone(),
    }
}
