//! What the schema knows and this version does not carry out: refused with the field's name, because configuration that would do
//! nothing is worse than an error (design section 4).

use super::{engines, quantity};
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

/// Prefix of the operator's own environment variables.
const OWN_ENVIRONMENT: &str = "INFERENCE_";

/// Every field of `spec` that this version does not carry out in `mode`, in the spec's order.
#[must_use]
pub fn unsupported(spec: &InferenceDeploymentSpec, mode: Mode) -> Vec<Unsupported> {
    let mut found = Findings(Vec::new());
    for (index, backend) in spec.backends.iter().enumerate() {
        check_backend(&mut found, &format!("spec.backends[{index}]"), backend, mode);
    }
    found.add_if(
        spec.scale_to_zero.is_some() && mode == Mode::File,
        "spec.scaleToZero",
        "pods are scaled in a cluster; remove the field",
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

fn check_backend(found: &mut Findings, path: &str, backend: &Backend, mode: Mode) {
    match backend.kind() {
        Some(BackendKind::Local(local)) => check_local(found, &format!("{path}.local"), local, mode),
        Some(BackendKind::Remote(_)) => {}
        None => found.add(path, "a backend has exactly one of local and remote"),
    }
}

fn check_local(found: &mut Findings, path: &str, local: &LocalBackend, mode: Mode) {
    found.add_if(
        local.price.is_some() && mode == Mode::File,
        format!("{path}.price"),
        "GPU time is charged by the controller of a cluster; remove the field",
    );
    found.add_if(
        local.nodes() > 1 && mode == Mode::File,
        format!("{path}.nodes"),
        "a model is spread over the nodes of a cluster; remove the field",
    );
    let claimed = local.gpus.as_ref().is_some_and(|gpus| gpus.claim_template.is_some());
    found.add_if(
        local.price.is_some() && claimed && mode == Mode::Cluster,
        format!("{path}.price"),
        "how many GPUs a claim holds is not known; use gpus.count, or remove the price",
    );
    check_source(found, path, local.source.as_ref());
    if let Some(gpus) = &local.gpus {
        check_gpus(found, &format!("{path}.gpus"), gpus, mode);
    }
    check_arguments(found, path, local);
    check_environment(found, path, local);
    check_resources(found, path, local);
}

fn check_source(found: &mut Findings, path: &str, source: Option<&ModelSource>) {
    let Some(file) = source.and_then(|source| source.hugging_face.as_ref()?.file.as_deref()) else {
        return;
    };
    let stays = file.split('/').all(|part| !matches!(part, "" | "." | ".."));
    found.add_if(
        !stays,
        format!("{path}.source.huggingFace.file"),
        "a file's path has no empty part, no . and no ..",
    );
}

/// Prefix of the resources whose nodes GPU feature discovery labels.
pub const NVIDIAS: &str = "nvidia.com/";

fn check_gpus(found: &mut Findings, path: &str, gpus: &Gpus, mode: Mode) {
    let selects = [
        ("product", gpus.product.is_some()),
        ("minMemory", gpus.min_memory.is_some()),
    ];
    let labelled = gpus.resource_name().starts_with(NVIDIAS);
    let set = selects.into_iter().filter(|(_, set)| *set).map(|(field, _)| field);
    let claims = [
        ("claimTemplate", gpus.claim_template.is_some()),
        ("deviceClassName", gpus.device_class_name.is_some()),
    ];
    let claimed = claims.into_iter().filter(|(_, set)| *set).map(|(field, _)| field);
    for field in set.chain(claimed) {
        if mode == Mode::File {
            found.add(
                format!("{path}.{field}"),
                "GPUs are selected among the nodes of a cluster; remove the field",
            );
        } else if !labelled {
            found.add(
                format!("{path}.{field}"),
                "only nodes with NVIDIA's GPUs have the labels for it; use podTemplate.nodeSelector",
            );
        }
    }
    let memory = gpus.min_memory.as_ref().filter(|_| labelled && mode == Mode::Cluster);
    found.add_if(
        memory.is_some_and(|memory| quantity::bytes(&memory.0).is_none_or(|bytes| bytes == 0)),
        format!("{path}.minMemory"),
        "write it as bytes of memory, like 40Gi",
    );
}

fn check_arguments(found: &mut Findings, path: &str, local: &LocalBackend) {
    for reserved in engines::reserved(local.engine, &local.args) {
        found.add(format!("{path}.args[{}]", reserved.index), reserved.to_string());
    }
    if local.engine != EngineKind::Custom {
        return;
    }
    let command = local.command.as_deref().unwrap_or_default();
    for (list, words) in [("command", command), ("args", local.args.as_slice())] {
        for (index, word) in words.iter().enumerate() {
            check_variables(found, &format!("{path}.{list}[{index}]"), word, local);
        }
    }
}

fn check_variables(found: &mut Findings, path: &str, word: &str, local: &LocalBackend) {
    for variable in engines::variables(word) {
        if let Some(field) = variable.missing(local) {
            found.add(path, format!("$({}) has no value; set {field}", variable.name()));
        }
    }
}

fn check_environment(found: &mut Findings, path: &str, local: &LocalBackend) {
    let env = local.pod_template.iter().flat_map(|p| &p.env).enumerate();
    for (index, variable) in env {
        let name = &variable.name;
        let field = format!("{path}.podTemplate.env[{index}].name");
        if name.starts_with(OWN_ENVIRONMENT) {
            found.add(
                field,
                format!("{name} begins with {OWN_ENVIRONMENT}, which is the operator's own; use another name"),
            );
        } else if engines::is_own_variable(local.engine, name) {
            found.add(field, format!("{name} is set by the runtime; remove it"));
        }
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
                fields(
                    remote(json!({"retry": {"maxRetries": 1}, "rateLimit": {"requestsPerMinute": 1}})),
                    mode
                ),
                Vec::<String>::new()
            );
        }
    }

    #[test]
    fn every_engine_is_carried_out() {
        for extra in [
            json!({"engine": "LlamaCpp", "podTemplate": {"env": [{"name": "PORT", "value": "1"}]}}),
            json!({"engine": "VLLM", "gpus": {"count": 2}, "args": ["--enforce-eager"]}),
            json!({"engine": "SGLang", "gpus": {"count": 2}, "args": ["--tp", "1"]}),
            json!({"engine": "Custom", "command": ["serve", "$(MODEL)"], "args": ["--port", "$(PORT)"]}),
            json!({"source": {"url": {"location": "https://x/y", "sha256": "0"}}}),
            json!({"engine": "VLLM", "source": {"huggingFace": {"repository": "a/b"}}}),
            json!({"engine": "External", "source": null, "url": "http://engine:8000"}),
        ] {
            assert_eq!(fields(local(extra), Mode::Cluster), Vec::<String>::new());
        }
    }

    #[test]
    fn every_refusal_names_its_field() {
        let at = "spec.backends[0].local";
        for (extra, field) in [
            (
                json!({"source": {"huggingFace": {"repository": "a/b", "file": "c/../../d"}}}),
                ".source.huggingFace.file",
            ),
            (
                json!({"image": "i", "gpus": {"count": 1, "resourceName": "amd.com/gpu", "product": "MI300X"}}),
                ".gpus.product",
            ),
            (
                json!({"image": "i", "gpus": {"count": 1, "resourceName": "amd.com/gpu", "minMemory": "40Gi"}}),
                ".gpus.minMemory",
            ),
            (json!({"gpus": {"count": 1, "minMemory": "40GB"}}), ".gpus.minMemory"),
            (json!({"gpus": {"count": 1, "minMemory": "0"}}), ".gpus.minMemory"),
            (json!({"args": ["-v", "--port=1"]}), ".args[1]"),
            (json!({"engine": "VLLM", "args": ["--max_model_len", "9"]}), ".args[0]"),
            (
                json!({"engine": "Custom", "command": ["serve", "$(CONTEXT_LENGTH)"]}),
                ".command[1]",
            ),
            (json!({"engine": "Custom", "args": ["$(MODEL)$(GPUS)"]}), ".args[0]"),
            (
                json!({"engine": "Custom", "podTemplate": {"env": [{"name": "PORT", "value": "1"}]}}),
                ".podTemplate.env[0].name",
            ),
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
    fn gpu_time_is_charged_in_a_cluster_only() {
        let spec = local(json!({"gpus": {"count": 1}, "price": {"perGpuHour": "2"}}));
        assert_eq!(fields(spec.clone(), Mode::Cluster), Vec::<String>::new());
        assert_eq!(fields(spec, Mode::File), vec!["spec.backends[0].local.price"]);
        let inline = json!({"gpus": {"count": 1, "deviceClassName": "c"}, "price": {"perGpuHour": "2"}});
        assert_eq!(fields(local(inline), Mode::Cluster), Vec::<String>::new());
        let claimed = local(json!({"gpus": {"claimTemplate": {"name": "c"}}, "price": {"perGpuHour": "2"}}));
        assert_eq!(fields(claimed, Mode::Cluster), vec!["spec.backends[0].local.price"]);
    }

    #[test]
    fn a_model_is_spread_over_nodes_in_a_cluster_only() {
        let spec = local(json!({"engine": "VLLM", "nodes": 2, "gpus": {"count": 8}}));
        assert_eq!(fields(spec.clone(), Mode::Cluster), Vec::<String>::new());
        assert_eq!(fields(spec, Mode::File), vec!["spec.backends[0].local.nodes"]);
    }

    #[test]
    fn gpus_are_selected_in_a_cluster_only() {
        for (gpus, field) in [
            (json!({"count": 1, "product": "A100"}), "product"),
            (json!({"count": 1, "minMemory": "40Gi"}), "minMemory"),
            (json!({"claimTemplate": {"name": "c"}}), "claimTemplate"),
            (
                json!({"count": 1, "deviceClassName": "gpu.nvidia.com"}),
                "deviceClassName",
            ),
        ] {
            let spec = local(json!({"gpus": gpus}));
            assert_eq!(fields(spec.clone(), Mode::Cluster), Vec::<String>::new());
            assert_eq!(
                fields(spec, Mode::File),
                vec![format!("spec.backends[0].local.gpus.{field}")]
            );
        }
    }

    #[test]
    fn a_budget_needs_a_known_time_zone_and_warns_in_a_cluster_only() {
        let mut spec = remote(json!({"price": {"inputPerMillionTokens": "1", "outputPerMillionTokens": "1"}}));
        spec["budget"] = json!({"limit": "1"});
        for mode in [Mode::Cluster, Mode::File] {
            assert_eq!(fields(spec.clone(), mode), Vec::<String>::new());
        }
        spec["budget"] = json!({"limit": "1", "warnAtPercent": [80]});
        assert_eq!(fields(spec.clone(), Mode::Cluster), Vec::<String>::new());
        assert_eq!(fields(spec.clone(), Mode::File), vec!["spec.budget.warnAtPercent"]);
        spec["budget"] = json!({"limit": "1", "timeZone": "Mars/Olympus"});
        assert_eq!(fields(spec, Mode::File), vec!["spec.budget.timeZone"]);
    }

    #[test]
    fn pods_are_scaled_in_a_cluster_only() {
        let mut spec = local(json!({}));
        spec["spill"] = json!({"replicas": 1});
        spec["scaleToZero"] = json!({"idleAfter": "10m"});
        assert_eq!(fields(spec.clone(), Mode::Cluster), Vec::<String>::new());
        assert_eq!(fields(spec, Mode::File), vec!["spec.scaleToZero"]);
    }

    #[test]
    fn service_account_tokens_need_a_cluster() {
        let mut spec = remote(json!({}));
        spec["access"] = json!({"type": "ServiceAccount", "serviceAccount": {"audiences": ["a"]}});
        assert_eq!(fields(spec.clone(), Mode::Cluster), Vec::<String>::new());
        assert_eq!(fields(spec, Mode::File), vec!["spec.access.type"]);
    }
}
