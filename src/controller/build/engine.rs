//! What each engine needs in its pod: image, resources, environment, shared memory.

use k8s_openapi::{
    api::core::v1::{EnvVar, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use super::{gpus, pod::value, volumes::DIR_CACHE};
use crate::api::{EngineKind, LocalBackend};

/// The image: the spec's, else the vendor's. A Custom engine has its own and an External one none, by rules of the schema.
pub fn image(local: &LocalBackend) -> &str {
    let vendors = match (local.engine, &local.gpus) {
        (EngineKind::LlamaCpp, None) => "ghcr.io/ggml-org/llama.cpp:server",
        // The other one has no code for GPUs, and would compute on CPU beside them.
        (EngineKind::LlamaCpp, Some(_)) => "ghcr.io/ggml-org/llama.cpp:server-cuda",
        (EngineKind::VLLM, _) => "docker.io/vllm/vllm-openai:latest",
        (EngineKind::SGLang, _) => "docker.io/lmsysorg/sglang:latest",
        (EngineKind::Custom | EngineKind::External, _) => "",
    };
    local.image.as_deref().unwrap_or(vendors)
}

/// The resources of its container, GPUs among them.
pub fn resources(local: &LocalBackend) -> ResourceRequirements {
    let mut resources = local.resources.clone().unwrap_or_default();
    if let Some((gpus, count)) = local.gpus.as_ref().and_then(gpus::counted) {
        let limits = resources.limits.get_or_insert_default();
        limits.insert(gpus.resource_name().to_owned(), Quantity(count.to_string()));
    }
    resources.claims = local
        .gpus
        .as_ref()
        .and_then(gpus::container_claims)
        .or(resources.claims);
    resources
}

/// Home and caches, which a read-only root file system does not have, in the one folder that outlives a restart of the container.
/// Libraries look for the user's name in a password file that knows no user 65532, unless USER has it.
pub fn environment(engine: EngineKind) -> Vec<EnvVar> {
    let cache = |name: &str, folder: &str| value(name, &format!("{DIR_CACHE}/{folder}"));
    let mut env = vec![
        value("USER", "inference"),
        value("HOME", DIR_CACHE),
        cache("XDG_CACHE_HOME", "xdg"),
    ];
    if engine != EngineKind::LlamaCpp {
        env.extend([
            cache("HF_HOME", "huggingface"),
            cache("TRITON_CACHE_DIR", "triton"),
            cache("TORCHINDUCTOR_CACHE_DIR", "inductor"),
        ]);
    }
    if engine == EngineKind::VLLM {
        // It would tell its authors how it is used.
        env.extend([cache("VLLM_CACHE_ROOT", "vllm"), value("VLLM_NO_USAGE_STATS", "1")]);
    }
    env
}

/// The most that /dev/shm may hold, in GiB, counted in the container's memory limit. PyTorch's processes and NCCL talk through it, with
/// and without GPUs, and a container has 64 MiB unless asked; llama.cpp is one process and does with that.
pub fn shared_memory(local: &LocalBackend) -> Option<u32> {
    let gpus = local.gpus.as_ref().and_then(|gpus| gpus.count).unwrap_or(1);
    match local.engine {
        EngineKind::VLLM | EngineKind::SGLang | EngineKind::Custom => Some(gpus.saturating_mul(2).max(8)),
        EngineKind::LlamaCpp | EngineKind::External => None,
    }
}
