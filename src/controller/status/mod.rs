//! Step 5: says how it is. Computed purely from what was applied, the pods and their reports; written only when it changed in meaning.

mod budget;
mod circuits;
mod conditions;
mod credentials;
mod errors;
mod gpus;
#[cfg(test)]
mod tests;
mod transitions;
mod undecodable;
mod verdict;
mod view;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{
    Api, Client, Resource,
    api::{DynamicObject, Patch, PatchParams},
    core::ApiResource,
};
use serde_json::{Value, json};

use super::{
    build::Subject,
    call::{CallError, call},
    decide::Record,
    metrics::{Metrics, Verb},
};
pub use budget::warnings;
pub use circuits::circuit_transitions;
pub use transitions::{Transition, scaled, transitions};
pub use undecodable::write_undecodable;
pub use verdict::Verdict;
pub use view::{Problem, View};

use crate::{
    api::{InferenceDeployment, InferenceDeploymentStatus, conditions as types, names},
    policy::write_rate::Haste,
};

/// Why the status was not written.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The status could not be written as JSON.
    #[error("cannot write the status as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The status as it should read. `now` is only used where a condition changes.
pub fn compute(view: &View<'_>, old: &InferenceDeploymentStatus, now: &Time) -> InferenceDeploymentStatus {
    let scaled = view.scaled();
    InferenceDeploymentStatus {
        observed_generation: Some(view.generation),
        conditions: dated(conditions::all(view), view.generation, &old.conditions, now),
        replicas: Some(scaled.replicas),
        ready_replicas: Some(scaled.ready),
        selector: Some(view.selector()),
        endpoint: Some(format!(
            "http://{}.{}.svc/v1",
            view.subject.name, view.subject.namespace
        )),
        active_backend: view.active_backend().map(str::to_owned),
        budget: None,
        circuits: view.circuits.clone(),
        gpus: view.gpus.clone(),
        errors: errors::merge(&view.reports()),
    }
}

/// A circuit that opened or closed and a budget that is exhausted or not any more are told at once, wherever they are told. People look at
/// another generation and at other conditions. What else changes is routine: pods come and go by dozens.
pub fn haste(old: &InferenceDeploymentStatus, new: &InferenceDeploymentStatus) -> Haste {
    let short = |c: &Condition| (c.type_.clone(), c.status.clone(), c.reason.clone());
    let all = |status: &InferenceDeploymentStatus| status.conditions.iter().map(short).collect::<Vec<_>>();
    let (before, after) = (all(old), all(new));
    let broken = |conditions: &[(String, String, String)]| -> Vec<_> {
        let urgent = |type_: &str| type_ == types::CIRCUIT_CLOSED || type_ == types::WITHIN_BUDGET;
        let broken = conditions
            .iter()
            .filter(|(type_, status, _)| urgent(type_) && status == "False");
        broken.cloned().collect()
    };
    if broken(&before) != broken(&after) {
        Haste::Urgent
    } else if before != after || old.observed_generation != new.observed_generation {
        Haste::Prompt
    } else {
        Haste::Routine
    }
}

/// Puts generation and transition time to verdicts: the old time where the status is the old one.
fn dated(verdicts: Vec<Verdict>, generation: i64, old: &[Condition], now: &Time) -> Vec<Condition> {
    verdicts
        .into_iter()
        .map(|verdict| {
            let before = old
                .iter()
                .find(|c| c.type_ == verdict.type_ && c.status == verdict.status);
            Condition {
                type_: verdict.type_.into(),
                status: verdict.status.into(),
                reason: verdict.reason.into(),
                message: truncate(verdict.message),
                observed_generation: Some(generation),
                last_transition_time: before.map_or_else(|| now.clone(), |c| c.last_transition_time.clone()),
            }
        })
        .collect()
}

/// A condition's message has at most 32 768 bytes; a reader has patience for fewer.
fn truncate(mut message: String) -> String {
    const LONGEST: usize = 2048;
    if message.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|i| message.is_char_boundary(*i)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

/// Applies `status` without what [`record`] writes.
pub async fn write(
    client: &Client,
    subject: &Subject,
    status: &InferenceDeploymentStatus,
    metrics: &Metrics,
) -> Result<(), StatusError> {
    let stripped = InferenceDeploymentStatus {
        circuits: Vec::new(),
        gpus: Vec::new(),
        budget: None,
        ..status.clone()
    };
    apply(client, subject, None, &serde_json::to_value(stripped)?, metrics).await
}

/// Applies `status`, over the state `version` of the object where there is one. The type of the object is not used: one that cannot be
/// decoded gets its status too.
async fn apply(
    client: &Client,
    subject: &Subject,
    version: Option<&str>,
    status: &Value,
    metrics: &Metrics,
) -> Result<(), StatusError> {
    let params = PatchParams::apply(names::CONTROLLER_MANAGER).force();
    metrics.wrote(Verb::Status);
    let (words, api, body) = (
        words("apply the status of", subject),
        api(client, subject),
        Patch::Apply(body(subject, version, status)),
    );
    call(&words, api.patch_status(&subject.name, &params, &body)).await?;
    Ok(())
}

/// Writes what the controller decided, only over the state `version` of the object that it was decided on, which holds `before`; gives
/// the new version.
pub async fn record(
    client: &Client,
    subject: &Subject,
    version: &str,
    [before, record]: [&Record; 2],
    metrics: &Metrics,
) -> Result<String, StatusError> {
    let Record { circuits, budget, gpus } = record;
    let mut budget = serde_json::to_value(budget)?;
    remove_rest(&serde_json::to_value(&before.budget)?, &mut budget);
    let body = json!({
        "metadata": {"resourceVersion": version, "uid": subject.uid},
        "status": {"circuits": circuits, "budget": budget, "gpus": gpus},
    });
    let params = PatchParams {
        field_manager: Some(names::LEDGER_MANAGER.into()),
        ..PatchParams::default()
    };
    metrics.wrote(Verb::Status);
    let (words, api, body) = (
        words("record decisions in the status of", subject),
        api(client, subject),
        Patch::Merge(body),
    );
    let recorded = call(&words, api.patch_status(&subject.name, &params, &body)).await?;
    Ok(recorded.metadata.resource_version.unwrap_or_default())
}

/// What a merge patch does not name stays: what is no longer there is named with null.
fn remove_rest(before: &Value, after: &mut Value) {
    let (Value::Object(before), Value::Object(after)) = (before, after) else {
        return;
    };
    for (key, old) in before {
        remove_rest(old, after.entry(key).or_insert(Value::Null));
    }
}

/// Writes and removes annotations, only over the state `version` of the object; gives the new version.
pub async fn annotate(
    client: &Client,
    subject: &Subject,
    version: &str,
    annotations: &BTreeMap<&'static str, Option<String>>,
    metrics: &Metrics,
) -> Result<String, StatusError> {
    let metadata = json!({"resourceVersion": version, "uid": subject.uid, "annotations": annotations});
    let params = PatchParams {
        field_manager: Some(names::LEDGER_MANAGER.into()),
        ..PatchParams::default()
    };
    metrics.wrote(Verb::Patch);
    let words = words("annotate", subject);
    let (api, body) = (api(client, subject), Patch::Merge(json!({ "metadata": metadata })));
    let annotated = call(&words, api.patch(&subject.name, &params, &body)).await?;
    Ok(annotated.metadata.resource_version.unwrap_or_default())
}

fn api(client: &Client, subject: &Subject) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<InferenceDeployment>(&());
    Api::namespaced_with(client.clone(), &subject.namespace, &resource)
}

fn words(verb: &str, subject: &Subject) -> String {
    format!("{verb} InferenceDeployment {}/{}", subject.namespace, subject.name)
}

/// The UID makes it a conflict when the object was deleted and made anew meanwhile.
fn body(subject: &Subject, version: Option<&str>, status: &Value) -> Value {
    let version = version.map(|version| ("resourceVersion", version));
    let metadata = [("name", subject.name.as_str()), ("uid", &subject.uid)];
    let metadata: BTreeMap<_, _> = metadata.into_iter().chain(version).collect();
    json!({
        "apiVersion": InferenceDeployment::api_version(&()),
        "kind": InferenceDeployment::kind(&()),
        "metadata": metadata,
        "status": status,
    })
}
