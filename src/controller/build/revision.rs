//! The rendered pod template, kept in a ControllerRevision and applied again verbatim until the pod-shaped fields change: a new
//! version of the controller never replaces pods (design section 4).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{api::apps::v1::ControllerRevision, apimachinery::pkg::runtime::RawExtension};
use kube::ResourceExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{BuildError, Defaults, Subject, Tier, group, pod};
use crate::{
    api::{Backend, InferenceDeploymentSpec, SecretKeyRef, Serving, names},
    controller::dereference::{Live, controller_of},
};

/// Version of the hash: a release that hashes other fields gives its hash another version and keeps this one for what exists.
const HASH_VERSION: &str = "v1";
/// What `kubectl rollout restart` sets on the Deployment's template: asking for new pods asks for a new rendering too.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// The revision of `tier`: the one that exists for these fields, else a new rendering.
pub fn build(
    subject: &Subject,
    spec: &InferenceDeploymentSpec,
    tier: Tier,
    live: &Live,
    defaults: &Defaults,
) -> Result<ControllerRevision, BuildError> {
    let restarted = restarted_at(live, &tier.workload(&subject.name));
    let hash = hash(&pod_shape(spec, tier, restarted, defaults)?);
    let name = format!("{}-{hash}", tier.workload(&subject.name));
    if let Some(kept) = kept(live, subject, &name) {
        return Ok(kept);
    }
    let spread = tier == Tier::Local && spec.local().is_some_and(|(_, local)| local.nodes() > 1);
    let pods = if spread {
        serde_json::to_value(group::render(subject, spec, defaults, &hash)?)?
    } else {
        serde_json::to_value(pod::render(subject, spec, tier, defaults, &hash)?)?
    };
    Ok(revision(subject, tier, name, hash, pods, next_number(live, tier)))
}

fn kept(live: &Live, subject: &Subject, name: &str) -> Option<ControllerRevision> {
    let found = live.revisions.iter().find(|r| r.name_any() == name)?;
    let ours = controller_of(&found.metadata).is_some_and(|o| o.uid == subject.uid);
    ours.then(|| (**found).clone())
}

fn revision(subject: &Subject, tier: Tier, name: String, hash: String, pods: Value, number: i64) -> ControllerRevision {
    let mut metadata = subject.meta(name, subject.tier_labels(tier));
    metadata.annotations = Some(BTreeMap::from([(names::ANNOTATION_POD_HASH.to_owned(), hash)]));
    ControllerRevision {
        metadata,
        data: RawExtension(pods),
        revision: Some(number),
    }
}

/// Counted a tier: what is there of the other one must not matter.
fn next_number(live: &Live, tier: Tier) -> i64 {
    let same = live
        .revisions
        .iter()
        .filter(|r| r.labels().get(names::LABEL_TIER).map(String::as_str) == Some(tier.as_str()));
    same.filter_map(|r| r.revision).max().unwrap_or(0) + 1
}

fn restarted_at<'a>(live: &'a Live, workload: &str) -> Option<&'a str> {
    let template = &live.workload(workload)?.spec.template;
    let annotations = template.metadata.as_ref()?.annotations.as_ref()?;
    annotations.get(RESTARTED_AT).map(String::as_str)
}

/// The backend as a pod of its own tier gets it: without the price, which is no part of the pod, and what the runtime hears of its watch.
pub fn local_backend(spec: &InferenceDeploymentSpec) -> Option<Backend> {
    let (name, local) = spec.local()?;
    let mut local = local.clone();
    (local.price, local.load_timeout, local.timeouts) = (None, None, None);
    Some(Backend {
        name: name.to_owned(),
        local: Some(local),
        remote: None,
    })
}

/// References to keys in Secrets of all backends and of callers' access, and in pods with the engine of the model's source: the set is
/// pod-shaped, the content is not. Who follows sends nothing to providers and takes nothing from callers.
pub fn secrets(spec: &InferenceDeploymentSpec, tier: Tier) -> BTreeSet<SecretKeyRef> {
    let answers = tier != Tier::Follower;
    let remote = spec.backends.iter().filter_map(|b| b.remote.as_ref());
    let credentials = remote.filter_map(|r| r.credentials.as_ref()).map(|c| &c.secret);
    let access = spec.access.as_ref().and_then(|a| a.api_key.as_ref()).map(|k| &k.secret);
    let answering = credentials.chain(access).filter(|_| answers);
    let local = spec.local().filter(|_| tier != Tier::Remote);
    let source = local.and_then(|(_, local)| local.source.as_ref());
    let token = source.and_then(|source| source.hugging_face.as_ref()?.token_secret.as_ref());
    answering.chain(token).cloned().collect()
}

/// Seconds that requests in flight have after SIGTERM.
pub fn drain_seconds(spec: &InferenceDeploymentSpec) -> i64 {
    let drain = spec
        .serving
        .as_ref()
        .map_or_else(|| Serving::default().drain(), Serving::drain);
    i64::try_from(drain.as_secs()).unwrap_or(i64::MAX)
}

/// The pod-shaped fields with their defaults filled in, so that writing a default down changes nothing.
fn pod_shape(
    spec: &InferenceDeploymentSpec,
    tier: Tier,
    restarted: Option<&str>,
    defaults: &Defaults,
) -> Result<Value, BuildError> {
    let secrets: Vec<String> = secrets(spec, tier)
        .iter()
        .map(|s| format!("{}/{}", s.name, s.key))
        .collect();
    let local = match tier {
        Tier::Local | Tier::Follower => local_backend(spec).map(with_defaults),
        Tier::Remote => None,
    };
    Ok(json!({
        "runtimeImage": spec.runtime_image,
        "drainSeconds": drain_seconds(spec),
        "secrets": secrets,
        "local": serde_json::to_value(&local)?,
        "podTemplate": spec.pod_template.as_ref().filter(|_| tier == Tier::Remote),
        "restartedAt": restarted,
        "huggingFaceEndpoint": defaults.hub_of(local.as_ref().and_then(|backend| backend.local.as_ref())),
        "allowEndpointAddresses": (!defaults.addresses.is_empty()).then(|| defaults.addresses.to_string()),
        "imagePullSecrets": Some(&defaults.pull_secrets).filter(|secrets| !secrets.is_empty()),
    }))
}

fn with_defaults(mut backend: Backend) -> Backend {
    if let Some(local) = &mut backend.local {
        local.parallel = Some(local.parallel());
        local.nodes = local.nodes.filter(|nodes| *nodes > 1);
        if let Some(gpus) = &mut local.gpus {
            gpus.resource_name = Some(gpus.resource_name().to_owned());
        }
    }
    backend
}

/// `v1-` and ten hexadecimal digits of the canonical JSON's SHA-256.
pub fn hash(value: &Value) -> String {
    let digest = Sha256::digest(canonical(value));
    let number = digest.iter().take(5).fold(0_u64, |n, byte| (n << 8) | u64::from(*byte));
    format!("{HASH_VERSION}-{number:010x}")
}

/// JSON with sorted keys and without null and empty members, whatever order serde_json was built to keep.
pub fn canonical(value: &Value) -> String {
    sorted(value).to_string()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let members: BTreeMap<_, _> = map.iter().filter(|(_, v)| !v.is_null()).collect();
            Value::Object(members.into_iter().map(|(k, v)| (k.clone(), sorted(v))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}
