//! The status of a deployment that cannot be decoded: its conditions say so, and the rest stays as it is.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{Client, core::error_boundary::InvalidObject};
use serde_json::Value;

use super::{StatusError, Transition, Verdict, api, apply, dated, transitions, verdict::verdict, words};
use crate::{
    api::{InferenceDeploymentStatus, conditions as types, conditions::reason},
    controller::{build::Subject, call::call, metrics::Metrics},
};

/// What [`super::record`] writes.
const RECORDED: [&str; 3] = ["budget", "circuits", "gpus"];

/// Writes it over the state that could not be decoded; gives the transitions.
pub async fn write_undecodable(
    client: &Client,
    subject: &Subject,
    invalid: &InvalidObject,
    metrics: &Metrics,
) -> Result<Vec<Transition>, StatusError> {
    let read = words("read the status of", subject);
    let object = call(&read, api(client, subject).get(&subject.name)).await?;
    let old = object.data.get("status").unwrap_or(&Value::Null);
    let generation = invalid.metadata.generation.unwrap_or(0);
    let new = undecodable(old, generation, &invalid.error, &Time(Timestamp::now()))?;
    let version = invalid.metadata.resource_version.as_deref();
    apply(client, subject, version, &new, metrics).await?;
    Ok(transitions(&known(old), &known(&new)))
}

/// Nothing that was true before is taken back but Ready, which nobody can know, and Reconciling, behind which Stalled would not be seen.
/// All else is sent again as it is, what only a newer operator knows too: an apply removes what its manager no longer sends.
pub(super) fn undecodable(old: &Value, generation: i64, error: &str, now: &Time) -> Result<Value, serde_json::Error> {
    let message = format!("the object cannot be read: {error}");
    let bad = |type_, status| verdict(type_, status, reason::INVALID_SPEC, message.clone());
    let verdicts: Vec<Verdict> = vec![bad(types::READY, "Unknown"), bad(types::STALLED, "True")];
    let mut conditions = Vec::new();
    for condition in dated(verdicts, generation, &known(old).conditions, now) {
        conditions.push(serde_json::to_value(condition)?);
    }
    let replaced = [types::READY, types::STALLED, types::RECONCILING].map(|type_| Some(Value::from(type_)));
    let stays = |condition: &&Value| !replaced.contains(&condition.get("type").cloned());
    conditions.extend(listed(old).iter().filter(stays).cloned());
    let mut status = old.as_object().cloned().unwrap_or_default();
    status.retain(|field, _| !RECORDED.contains(&field.as_str()));
    status.insert("observedGeneration".into(), generation.into());
    status.insert("conditions".into(), conditions.into());
    Ok(status.into())
}

fn listed(status: &Value) -> &[Value] {
    let listed = status.get("conditions").and_then(Value::as_array);
    listed.map_or(&[], Vec::as_slice)
}

/// The conditions of a status of which nothing else can be relied on.
fn known(status: &Value) -> InferenceDeploymentStatus {
    let read = |condition: &Value| serde_json::from_value::<Condition>(condition.clone()).ok();
    InferenceDeploymentStatus {
        conditions: listed(status).iter().filter_map(read).collect(),
        ..InferenceDeploymentStatus::default()
    }
}
