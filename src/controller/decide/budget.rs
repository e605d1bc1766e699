//! The budget: the ledger of `crate::policy::budget::ledger`, fed with what the cluster knows.

use std::{str::FromStr, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Decisions, Situation, awake, gpu_time};
use crate::{
    api::{BudgetStatus, InferenceDeployment, InferenceReplica, NanoUsd, ReplicaBudget, names},
    controller::pods::has_ended,
    policy::budget::ledger::{
        self, Clocks, Decision, Holder, Mark, Marks, Object, Remove, Terms, WriteOff, may_release, next_charge,
        projection,
    },
};

/// How long after something is due it is looked whether it may be done, and how often until then: by both clocks, which have whole seconds.
const AFTER: Duration = Duration::from_secs(1);
/// How soon it is looked again while clocks do not agree.
const CLOCKS: Duration = Duration::from_secs(30);

/// Decides on the ledger and on what the replicas are told of it.
pub fn decide(situation: &Situation<'_>, decisions: &mut Decisions) {
    let terms = terms(situation.deployment, decisions.idle);
    if terms.is_none() && decisions.record.budget.is_none() {
        release(situation, decisions);
        return;
    }
    let (marks, holders) = (marks(situation.deployment), holders(situation));
    let Decision {
        look,
        mark,
        ledger,
        urgent,
        remove,
        clocks_disagree,
    } = ledger::decide(&ledger::Situation {
        uid: &situation.subject.uid,
        ledger: decisions.record.budget.as_ref(),
        terms: terms.as_ref(),
        marks: &marks,
        holders: &holders,
        clocks: Clocks {
            local: situation.now,
            server: situation.server_now.unwrap_or(Timestamp::MIN),
        },
        live: situation.read_live,
    });
    decisions.look_live |= look;
    decisions.urgent |= urgent;
    decisions.record.budget = ledger.or(decisions.record.budget.take());
    annotate(mark, remove, decisions);
    if let Some(ledger) = &decisions.record.budget {
        for holder in &holders {
            let Some(told) = projection(ledger, holder) else {
                continue;
            };
            let orders = decisions.orders.entry(holder.pod.to_owned()).or_default();
            decisions.urgent |= newly_denied(Some(&told), orders.budget.as_ref());
            orders.budget = Some(told);
        }
        let again = if clocks_disagree {
            Some(CLOCKS)
        } else {
            let gpu = terms.as_ref().and_then(|terms| terms.gpu.as_ref());
            let end = ledger.window.end.as_ref().map(|end| end.0);
            let due = end.into_iter().chain(next_charge(ledger, gpu)).min();
            due.map(|at| until(at, situation.now).saturating_add(AFTER))
        };
        decisions.look_again = decisions.look_again.into_iter().chain(again).min();
    }
    release(situation, decisions);
}

/// What the spec says; nothing when there is no budget, or its time zone is unknown, which validation tells.
fn terms(deployment: &InferenceDeployment, idle: bool) -> Option<Terms> {
    let terms = Terms::new(deployment.spec.budget.as_ref()?).ok()?;
    let gpu = gpu_time::terms(&awake(&deployment.spec, idle));
    Some(Terms { gpu, ..terms })
}

/// What the annotations say; one that cannot be read says nothing.
fn marks(deployment: &InferenceDeployment) -> Marks {
    let window = deployment.annotations().get(names::ANNOTATION_BUDGET_WINDOW);
    Marks {
        window: window.and_then(|text| Mark::read(text)),
        adopt: said(deployment, names::ANNOTATION_BUDGET_ADOPT).and_then(Result::ok),
        write_off: said(deployment, names::ANNOTATION_BUDGET_WRITE_OFF).and_then(Result::ok),
    }
}

/// What an annotation says.
fn said<T: FromStr>(deployment: &InferenceDeployment, name: &str) -> Option<Result<T, T::Err>> {
    deployment.annotations().get(name).map(|text| text.parse())
}

/// What is wrong with annotations that are not carried out.
pub fn unread(deployment: &InferenceDeployment, ledger: Option<&BudgetStatus>) -> Vec<String> {
    let due = |asked: WriteOff| ledger.map_or(Ok(0), |ledger| asked.due(ledger));
    let adopt = said::<NanoUsd>(deployment, names::ANNOTATION_BUDGET_ADOPT);
    let write_off = said(deployment, names::ANNOTATION_BUDGET_WRITE_OFF).map(|asked| asked.and_then(due));
    let errors = [
        (names::ANNOTATION_BUDGET_ADOPT, adopt.and_then(failure)),
        (names::ANNOTATION_BUDGET_WRITE_OFF, write_off.and_then(failure)),
    ];
    let told = |(name, error)| Some(format!("the annotation {name} is not taken: {}", error?));
    errors.into_iter().filter_map(told).collect()
}

fn failure<T>(result: Result<T, impl ToString>) -> Option<String> {
    Some(result.err()?.to_string())
}

/// Every `InferenceReplica` of this deployment with its pod, and every pod without one.
fn holders<'a>(situation: &Situation<'a>) -> Vec<Holder<'a>> {
    let (live, uid) = (situation.live, situation.subject.uid.as_str());
    let lives = |name: &str, uid: &str| {
        let same = |pod: &Pod| pod.metadata.uid.as_deref() == Some(uid) && pod.metadata.name.as_deref() == Some(name);
        live.pods.iter().any(|pod| same(pod) && !has_ended(pod))
    };
    let replicas = live
        .replicas
        .iter()
        .filter(|replica| replica.spec.deployment_uid == uid);
    let mut holders: Vec<Holder<'a>> = replicas
        .filter_map(|replica| {
            let (pod, pod_uid) = (replica.metadata.name.as_deref()?, replica.spec.pod_uid.as_str());
            Some(Holder {
                pod,
                pod_uid,
                pod_lives: lives(pod, pod_uid),
                gpus: gpu_time::hold(situation.subject, live, pod_uid),
                object: Some(object(replica)),
            })
        })
        .collect();
    for pod in &live.pods {
        let (Some(name), Some(pod_uid)) = (pod.metadata.name.as_deref(), pod.metadata.uid.as_deref()) else {
            continue;
        };
        if !holders.iter().any(|holder| holder.pod_uid == pod_uid) {
            holders.push(Holder {
                pod: name,
                pod_uid,
                pod_lives: !has_ended(pod),
                gpus: gpu_time::hold(situation.subject, live, pod_uid),
                object: None,
            });
        }
    }
    holders
}

fn object(replica: &InferenceReplica) -> Object<'_> {
    let status = replica.status.as_ref();
    Object {
        deleting: replica.metadata.deletion_timestamp.is_some(),
        spec: replica.spec.budget.as_ref(),
        boot_id: status.and_then(|status| status.boot_id.as_deref()),
        report: status.and_then(|status| status.budget.as_ref()),
    }
}

/// What a replica is told that is made now.
pub fn first_told(ledger: Option<&BudgetStatus>, pod: &Pod) -> Option<ReplicaBudget> {
    let holder = Holder {
        pod: pod.metadata.name.as_deref()?,
        pod_uid: pod.metadata.uid.as_deref()?,
        pod_lives: true,
        gpus: None,
        object: Some(Object {
            deleting: false,
            spec: None,
            boot_id: None,
            report: None,
        }),
    };
    projection(ledger?, &holder)
}

fn annotate(mark: Option<Mark>, remove: Remove, decisions: &mut Decisions) {
    if let Some(mark) = mark {
        let value = Some(mark.to_string());
        decisions.annotations.insert(names::ANNOTATION_BUDGET_WINDOW, value);
    }
    if remove.adopt {
        decisions.annotations.insert(names::ANNOTATION_BUDGET_ADOPT, None);
    }
    if remove.write_off {
        decisions.annotations.insert(names::ANNOTATION_BUDGET_WRITE_OFF, None);
    }
}

/// True when a want is denied that was not before: requests wait for this answer.
pub fn newly_denied(told: Option<&ReplicaBudget>, before: Option<&ReplicaBudget>) -> bool {
    let denied = |told: Option<&ReplicaBudget>| told.and_then(|told| told.denied.clone());
    denied(told).is_some() && denied(told) != denied(before)
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

/// Replicas that are being deleted and whose leases are folded lose their finalizer; a live read decides.
fn release(situation: &Situation<'_>, decisions: &mut Decisions) {
    let ledger = decisions.record.budget.as_ref();
    let going = situation.live.replicas.iter().filter(|replica| {
        replica.metadata.deletion_timestamp.is_some()
            && replica.finalizers().iter().any(|name| name == names::FINALIZER_BUDGET)
            && may_release(ledger, &replica.spec.pod_uid)
    });
    let going: Vec<String> = going.map(ResourceExt::name_any).collect();
    if situation.read_live {
        decisions.release = going;
    } else {
        decisions.look_live |= !going.is_empty();
    }
}
