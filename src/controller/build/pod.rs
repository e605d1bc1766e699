//! The pod template of a tier.

use std::collections::BTreeMap;

use k8s_openapi::{
    DeepMerge,
    api::core::v1::{
        Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, LocalObjectReference,
        ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
        SecurityContext,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use super::{BuildError, Defaults, Subject, Tier, engine, gpus, revision, volumes};
use crate::api::{EngineKind, InferenceDeploymentSpec, LocalBackend, PodOverrides, PodSettings, names};

/// Name of the container that serves in a GPU-less pod, and of the one that installs the runtime in a local pod.
const RUNTIME: &str = "runtime";
/// Name of the container that serves in a local pod: the engine's image with the runtime as its parent process.
const ENGINE: &str = "engine";
/// Where the runtime is in its own image.
const RUNTIME_BINARY: &str = "/inference-runtime";
/// User, group and fsGroup of every pod, unless overridden.
const NOBODY: i64 = 65_532;
/// Seconds between the end of draining and the kubelet's SIGKILL (design section 10).
const GRACE_BEYOND_DRAIN: i64 = 30;

/// Seconds that a pod may take to end.
pub fn grace_seconds(spec: &InferenceDeploymentSpec) -> i64 {
    revision::drain_seconds(spec).saturating_add(GRACE_BEYOND_DRAIN)
}

/// Renders the template of `tier`.
pub fn render(
    subject: &Subject,
    spec: &InferenceDeploymentSpec,
    tier: Tier,
    defaults: &Defaults,
    hash: &str,
) -> Result<PodTemplateSpec, BuildError> {
    let runtime_image = spec.runtime_image.as_ref().unwrap_or(&defaults.runtime_image);
    let local = spec.local().filter(|_| tier != Tier::Remote).map(|(_, local)| local);
    let overrides = local.and_then(|l| l.pod_template.clone()).unwrap_or_default();
    let of_runtime = spec.pod_template.clone().unwrap_or_default();
    let settings = if local.is_some() {
        &overrides.pod
    } else {
        &of_runtime.pod
    };
    let mut mounts = volumes::common(subject, spec, tier);
    mounts.extend(local.map(volumes::local).unwrap_or_default());
    mounts.retain(|ours| !ours.is_replaced(&overrides.volume_mounts));
    let (volumes, mounts): (Vec<_>, Vec<_>) = mounts.into_iter().map(|m| (m.volume, m.mount)).unzip();
    let mut container = match local {
        Some(local) if tier == Tier::Follower => following(local),
        Some(local) => serving_local(local, runtime_image),
        None => forwarder(runtime_image, of_runtime.resources.as_ref()),
    };
    container
        .command
        .get_or_insert_default()
        .extend(operators_flags(defaults, local));
    container.env = Some(environment(subject, spec, local, &overrides)?);
    container.volume_mounts = Some(mounts.into_iter().chain(overrides.volume_mounts.clone()).collect());
    let pod = PodSpec {
        init_containers: local
            .filter(|local| local.engine != EngineKind::External)
            .map(|local| vec![installer(runtime_image, local)]),
        containers: vec![container],
        volumes: Some(volumes.into_iter().chain(overrides.volumes.clone()).collect()),
        termination_grace_period_seconds: Some(grace_seconds(spec)),
        image_pull_secrets: non_empty(pull_secrets(settings, defaults)),
        ..placement(subject, local, settings)
    };
    Ok(PodTemplateSpec {
        metadata: Some(metadata(subject, tier, settings, hash)),
        spec: Some(pod),
    })
}

/// Flags, not variables of the environment: those the user's own `podTemplate.env` or the engine's image could set.
fn operators_flags(defaults: &Defaults, local: Option<&LocalBackend>) -> impl Iterator<Item = String> {
    let addresses = &defaults.addresses;
    let addresses = (!addresses.is_empty()).then(|| format!("--allow-endpoint-addresses={addresses}"));
    let hub = defaults
        .hub_of(local)
        .map(|hub| format!("--hugging-face-endpoint={hub}"));
    addresses.into_iter().chain(hub)
}

/// Labels and annotations: the user's, then ours, which win.
fn metadata(subject: &Subject, tier: Tier, settings: &PodSettings, hash: &str) -> ObjectMeta {
    let mut labels = settings.labels.clone();
    labels.extend(subject.tier_labels(tier));
    let mut annotations = settings.annotations.clone();
    annotations.insert(names::ANNOTATION_POD_HASH.into(), hash.into());
    ObjectMeta {
        labels: Some(labels),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    }
}

/// Where the pod runs and as whom.
fn placement(subject: &Subject, local: Option<&LocalBackend>, settings: &PodSettings) -> PodSpec {
    let gpus = local.and_then(|local| local.gpus.as_ref());
    PodSpec {
        service_account_name: Some(subject.name.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        node_selector: non_empty_map(&settings.node_selector),
        tolerations: non_empty(gpus::tolerations(&settings.tolerations, gpus)),
        affinity: gpus::affinity(settings.affinity.as_ref(), gpus),
        resource_claims: local.and_then(|local| gpus::pod_claims(subject, local)),
        priority_class_name: settings.priority_class_name.clone(),
        runtime_class_name: settings.runtime_class_name.clone(),
        security_context: Some(pod_security(settings.security_context.clone())),
        ..PodSpec::default()
    }
}

/// The user's, then the operator's.
fn pull_secrets(settings: &PodSettings, defaults: &Defaults) -> Vec<LocalObjectReference> {
    let mut secrets = settings.image_pull_secrets.clone();
    let missing = |name: &&String| !settings.image_pull_secrets.iter().any(|theirs| theirs.name == **name);
    let ours = defaults.pull_secrets.iter().filter(missing);
    secrets.extend(ours.map(|name| LocalObjectReference { name: name.clone() }));
    secrets
}

fn non_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn non_empty_map<V: Clone>(map: &BTreeMap<String, V>) -> Option<BTreeMap<String, V>> {
    (!map.is_empty()).then(|| map.clone())
}

/// The restricted pod security standard; fields that the user sets win.
fn pod_security(overrides: Option<PodSecurityContext>) -> PodSecurityContext {
    let mut security = PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(NOBODY),
        run_as_group: Some(NOBODY),
        fs_group: Some(NOBODY),
        fs_group_change_policy: Some("OnRootMismatch".into()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".into(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    };
    if let Some(overrides) = overrides {
        security.merge_from(overrides);
    }
    security
}

fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".into()]),
            add: None,
        }),
        ..SecurityContext::default()
    }
}

fn container(name: &str, image: &str, command: &[&str]) -> Container {
    Container {
        name: name.into(),
        image: Some(image.into()),
        image_pull_policy: Some("IfNotPresent".into()),
        command: Some(command.iter().map(|c| (*c).to_owned()).collect()),
        security_context: Some(container_security()),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        ..Container::default()
    }
}

/// Copies the runtime where the engine's container finds it. It gets no keys and no token. A quota on limits takes no pod with a
/// container that has none; with those of the engine it takes nothing more, as they do not run at the same time.
fn installer(image: &str, local: &LocalBackend) -> Container {
    let mut limits = local
        .resources
        .as_ref()
        .and_then(|of| of.limits.clone())
        .unwrap_or_default();
    limits.retain(|name, _| matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage"));
    Container {
        volume_mounts: Some(vec![volumes::runtime().mount]),
        resources: Some(ResourceRequirements {
            limits: non_empty_map(&limits),
            ..requests("10m", "32Mi")
        }),
        ..container(RUNTIME, image, &[RUNTIME_BINARY, "install", names::DIR_RUNTIME])
    }
}

/// Of a container that holds the runtime alone.
fn runtime_resources(given: Option<&ResourceRequirements>) -> ResourceRequirements {
    given.cloned().unwrap_or_else(|| requests("50m", "64Mi"))
}

fn forwarder(image: &str, resources: Option<&ResourceRequirements>) -> Container {
    Container {
        resources: Some(runtime_resources(resources)),
        ..serving(
            container(RUNTIME, image, &[RUNTIME_BINARY, "serve"]),
            &[("http", names::PORT_HTTP), ("admin", names::PORT_ADMIN)],
        )
    }
}

/// Ports of a pod that peers may ask.
const LOCAL_PORTS: [(&str, u16); 3] = [
    ("http", names::PORT_HTTP),
    ("peer", names::PORT_PEER),
    ("admin", names::PORT_ADMIN),
];

/// The container of a local pod. One whose engine runs elsewhere holds the runtime alone.
fn serving_local(local: &LocalBackend, runtime_image: &str) -> Container {
    if local.engine == EngineKind::External {
        return Container {
            resources: Some(runtime_resources(local.resources.as_ref())),
            ..serving(
                container(RUNTIME, runtime_image, &[RUNTIME_BINARY, "serve"]),
                &LOCAL_PORTS,
            )
        };
    }
    let binary = format!("{}{RUNTIME_BINARY}", names::DIR_RUNTIME);
    Container {
        resources: Some(engine::resources(local)),
        ..serving(
            container(ENGINE, engine::image(local), &[&binary, "serve"]),
            &LOCAL_PORTS,
        )
    }
}

/// The container of a pod that follows: its engine is asked by the leader's alone, and it has no port that the Service sends to.
fn following(local: &LocalBackend) -> Container {
    let binary = format!("{}{RUNTIME_BINARY}", names::DIR_RUNTIME);
    Container {
        resources: Some(engine::resources(local)),
        ..serving(
            container(ENGINE, engine::image(local), &[&binary, "follow"]),
            &[("admin", names::PORT_ADMIN)],
        )
    }
}

fn requests(cpu: &str, memory: &str) -> ResourceRequirements {
    let quantity = |q: &str| Quantity(q.to_owned());
    ResourceRequirements {
        requests: Some([("cpu".into(), quantity(cpu)), ("memory".into(), quantity(memory))].into()),
        ..ResourceRequirements::default()
    }
}

/// Ports and probes of the container that serves. No startup probe: the runtime reports loading itself.
fn serving(mut container: Container, ports: &[(&str, u16)]) -> Container {
    container.ports = Some(
        ports
            .iter()
            .map(|(name, number)| ContainerPort {
                name: Some((*name).into()),
                container_port: i32::from(*number),
                protocol: Some("TCP".into()),
                ..ContainerPort::default()
            })
            .collect(),
    );
    container.readiness_probe = Some(probe("/readyz", 2, 2));
    container.liveness_probe = Some(probe("/livez", 10, 6));
    container
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String("admin".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(5),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

fn environment(
    subject: &Subject,
    spec: &InferenceDeploymentSpec,
    local: Option<&LocalBackend>,
    overrides: &PodOverrides,
) -> Result<Vec<EnvVar>, BuildError> {
    let mut env = vec![
        field(names::ENV_NAMESPACE, "metadata.namespace"),
        field(names::ENV_POD_NAME, "metadata.name"),
        field(names::ENV_POD_UID, "metadata.uid"),
        value(names::ENV_DEPLOYMENT, &subject.name),
        value(names::ENV_DEPLOYMENT_UID, &subject.uid),
    ];
    if let Some(local) = local {
        let backend = serde_json::to_value(revision::local_backend(spec))?;
        env.push(value(
            names::ENV_LOCAL_BACKEND,
            &literal(&revision::canonical(&backend)),
        ));
        env.push(value(names::ENV_MODEL_NAME, &literal(spec.model(&subject.name))));
        if local.engine != EngineKind::External {
            env.extend(engine::environment(local.engine));
        }
    }
    // A name may occur once only: the user's own value wins.
    env.retain(|ours| !overrides.env.iter().any(|theirs| theirs.name == ours.name));
    env.extend(overrides.env.iter().cloned());
    Ok(env)
}

/// `text` so that the kubelet, which fills `$(NAME)` of the container's variables into their values, leaves it as it is.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// A variable of a container.
pub fn value(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: Some(value.into()),
        value_from: None,
    }
}

fn field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".into()),
                field_path: path.into(),
            }),
            ..EnvVarSource::default()
        }),
    }
}
