//! What the schema knows and this version does not carry out: refused with the field's name, because configuration that would do
//! nothing is worse than an error (design section 4).

use crate::api::{
    AccessType, Backend, BackendKind, EngineKind, Gpus, InferenceDeploymentSpec, LocalBackend, ModelSource,
};

/// Where the spec is to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By the controller.
    Cluster,
    /// By one runtime process from a file.
    File,
}

/// A field that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Unsupported {
    /// Path of the field.
    pub field: String,
    /// Why, and what to do.
    pub message: String,
}

/// Arguments that the runtime gives the engine itself.
const OWN_ARGUMENTS: [&str; 12] = [
    "-m",
    "--model",
    "--host",
    "--port",
    "--api-key",
    "--api-key-file",
    "-c",
    "--ctx-size",
    "-np",
    "--parallel",
    "-t",
    "--threads",
];
/// Prefix of the operator's own environment variables.
const OWN_ENVIRONMENT: &str = "INFERENCE_";

/// Every field of `spec` that this version does not carry out in `mode`, in the spec's order.
#[must_use]
pub fn unsupported(spec: &InferenceDeploymentSpec, mode: Mode) -> Vec<Unsupported> {
    let mut found = Findings(Vec::new());
    for (index, backend) in spec.backends.iter().enumerate() {
        check_backend(&mut found, &format!("spec.backends[{index}]"), backend);
    }
    found.add_if(
        spec.scale_to_zero.is_some(),
        "spec.scaleToZero",
        "this version does not scale to zero; remove the field",
    );
    check_budget(&mut found, spec, mode);
    let service_account = spec
        .access
        .as_ref()
        .is_some_and(|a| a.r#type == AccessType::ServiceAccount);
    found.add_if(
        service_account && mode == Mode::File,
        "spec.access.type",
        "ServiceAccount tokens can only be verified in a cluster; use None or ApiKey",
    );
    found.0
}

struct Findings(Vec<Unsupported>);

impl Findings {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Unsupported {
            field: field.into(),
            message: message.into(),
        });
    }

    fn add_if(&mut self, condition: bool, field: impl Into<String>, message: &str) {
        if condition {
            self.add(field, message);
        }
    }
}

fn check_backend(found: &mut Findings, path: &str, backend: &Backend) {
    match backend.kind() {
        Some(BackendKind::Local(local)) => check_local(found, &format!("{path}.local"), local),
        Some(BackendKind::Remote(_)) => {}
        None => found.add(path, "a backend has exactly one of local and remote"),
    }
}

fn check_local(found: &mut Findings, path: &str, local: &LocalBackend) {
    found.add_if(
        local.engine != EngineKind::LlamaCpp,
        format!("{path}.engine"),
        "this version runs LlamaCpp only; reach other engines as a remote backend with provider OpenAICompatible",
    );
    found.add_if(
        local.price.is_some(),
        format!("{path}.price"),
        "this version does not charge GPU time; remove the field",
    );
    check_source(found, path, local.source.as_ref());
    check_gpus(found, &format!("{path}.gpus"), local.gpus.as_ref());
    check_arguments(found, path, &local.args);
    check_environment(found, path, local);
    check_resources(found, path, local);
}

fn check_source(found: &mut Findings, path: &str, source: Option<&ModelSource>) {
    const MESSAGE: &str = "this version does not download models; use source.image or source.persistentVolumeClaim";
    let Some(source) = source else { return };
    found.add_if(
        source.hugging_face.is_some(),
        format!("{path}.source.huggingFace"),
        MESSAGE,
    );
    found.add_if(source.url.is_some(), format!("{path}.source.url"), MESSAGE);
}

fn check_gpus(found: &mut Findings, path: &str, gpus: Option<&Gpus>) {
    const SELECT: &str = "this version does not select GPUs; use podTemplate.nodeSelector";
    let Some(gpus) = gpus else { return };
    found.add_if(gpus.product.is_some(), format!("{path}.product"), SELECT);
    found.add_if(gpus.min_memory.is_some(), format!("{path}.minMemory"), SELECT);
    found.add_if(
        gpus.claim_template.is_some(),
        format!("{path}.claimTemplate"),
        "this version does not use dynamic resource allocation; use gpus.count",
    );
}

fn check_arguments(found: &mut Findings, path: &str, args: &[String]) {
    for (index, argument) in args.iter().enumerate() {
        let flag = argument.split_once('=').map_or(argument.as_str(), |(flag, _)| flag);
        if OWN_ARGUMENTS.contains(&flag) {
            found.add(
                format!("{path}.args[{index}]"),
                format!("{flag} is set by the runtime; use contextLength, parallel, source or resources.limits.cpu, or leave it out"),
            );
        }
    }
}

fn check_environment(found: &mut Findings, path: &str, local: &LocalBackend) {
    let env = local.pod_template.iter().flat_map(|p| &p.env).enumerate();
    for (index, variable) in env.filter(|(_, v)| v.name.starts_with(OWN_ENVIRONMENT)) {
        found.add(
            format!("{path}.podTemplate.env[{index}].name"),
            format!(
                "{} begins with {OWN_ENVIRONMENT}, which is the operator's own; use another name",
                variable.name
            ),
        );
    }
}

/// Extended resources are counted by `gpus`: a second count beside it could contradict it.
fn check_resources(found: &mut Findings, path: &str, local: &LocalBackend) {
    let name = local.gpus.as_ref().map_or("nvidia.com/gpu", Gpus::resource_name);
    let both = local
        .resources
        .iter()
        .flat_map(|r| [("limits", r.limits.as_ref()), ("requests", r.requests.as_ref())]);
    for (list, _) in both.filter(|(_, quantities)| quantities.is_some_and(|q| q.contains_key(name))) {
        found.add(
            format!("{path}.resources.{list}[{name}]"),
            "GPUs are counted by gpus.count; remove the entry",
        );
    }
}

fn check_budget(found: &mut Findings, spec: &InferenceDeploymentSpec, mode: Mode) {
    let Some(budget) = &spec.budget else { return };
    found.add_if(
        mode == Mode::Cluster,
        "spec.budget",
        "this version enforces a budget in one process only (inference-runtime serve --file), not over replicas; remove the field",
    );
    found.add_if(
        !budget.warn_at_percent.is_empty() && mode == Mode::File,
        "spec.budget.warnAtPercent",
        "warnings are events of a cluster; remove the field",
    );
    if jiff::tz::TimeZone::get(budget.time_zone()).is_err() {
        found.add(
            "spec.budget.timeZone",
            format!(
                "{:?} is no IANA time zone; write it like Europe/Berlin",
                budget.time_zone()
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fields(spec: Value, mode: Mode) -> Vec<String> {
        let spec: InferenceDeploymentSpec = serde_json::from_value(spec).unwrap();
        unsupported(&spec, mode).into_iter().map(|u| u.field).collect()
    }

    fn local(extra: Value) -> Value {
        let mut local = json!({"engine": "LlamaCpp", "source": {"image": {"reference": "m:1", "path": "m.gguf"}}});
        local
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        json!({"backends": [{"name": "own", "local": local}]})
    }

    fn remote(extra: Value) -> Value {
        let mut remote = json!({"provider": "OpenAICompatible", "endpoint": "http://x/v1", "model": "m"});
        remote
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        json!({"backends": [{"name": "far", "remote": remote}]})
    }

    #[test]
    fn what_is_carried_out_is_not_refused() {
        for mode in [Mode::Cluster, Mode::File] {
            assert_eq!(
                fields(local(json!({"args": ["--verbose"], "gpus": {"count": 1}})), mode),
                Vec::<String>::new()
            );
            assert_eq!(
                fields(remote(json!({"retry": {"maxRetries": 1}, "rateLimit": {"requestsPerMinute": 1}})), mode),
                Vec::<String>::new()
            );
        }
    }

    #[test]
    fn every_refusal_names_its_field() {
        let at = "spec.backends[0].local";
        for (extra, field) in [
            (json!({"engine": "VLLM"}), ".engine"),
            (
                json!({"source": {"url": {"location": "https://x/y", "sha256": ""}}}),
                ".source.url",
            ),
            (
                json!({"source": {"huggingFace": {"repository": "a/b", "file": "c"}}}),
                ".source.huggingFace",
            ),
            (json!({"gpus": {"count": 1, "product": "A100"}}), ".gpus.product"),
            (json!({"gpus": {"count": 1, "minMemory": "40Gi"}}), ".gpus.minMemory"),
            (json!({"gpus": {"claimTemplate": {"name": "c"}}}), ".gpus.claimTemplate"),
            (json!({"gpus": {"count": 1}, "price": {"perGpuHour": "2"}}), ".price"),
            (json!({"args": ["-v", "--port=1"]}), ".args[1]"),
            (
                json!({"podTemplate": {"env": [{"name": "INFERENCE_X", "value": "1"}]}}),
                ".podTemplate.env[0].name",
            ),
            (
                json!({"resources": {"limits": {"nvidia.com/gpu": "1"}}}),
                ".resources.limits[nvidia.com/gpu]",
            ),
        ] {
            assert_eq!(fields(local(extra), Mode::Cluster), vec![format!("{at}{field}")]);
        }
    }

    #[test]
    fn a_budget_holds_in_one_process_only() {
        let mut spec = remote(json!({"price": {"inputPerMillionTokens": "1", "outputPerMillionTokens": "1"}}));
        spec["budget"] = json!({"limit": "1"});
        assert_eq!(fields(spec.clone(), Mode::File), Vec::<String>::new());
        assert_eq!(fields(spec.clone(), Mode::Cluster), vec!["spec.budget"]);
        spec["budget"] = json!({"limit": "1", "timeZone": "Mars/Olympus"});
        assert_eq!(fields(spec, Mode::File), vec!["spec.budget.timeZone"]);
    }

    #[test]
    fn service_account_tokens_need_a_cluster() {
        let mut spec = remote(json!({}));
        spec["access"] = json!({"type": "ServiceAccount", "serviceAccount": {"audiences": ["a"]}});
        assert_eq!(fields(spec.clone(), Mode::Cluster), Vec::<String>::new());
        assert_eq!(fields(spec, Mode::File), vec!["spec.access.type"]);
    }
}
