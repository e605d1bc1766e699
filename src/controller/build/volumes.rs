//! Volumes of a pod and where they are mounted.

use k8s_openapi::{
    api::core::v1::{
        ConfigMapProjection, DownwardAPIProjection, DownwardAPIVolumeFile, EmptyDirVolumeSource, ImageVolumeSource,
        KeyToPath, ObjectFieldSelector, PersistentVolumeClaimVolumeSource, ProjectedVolumeSource, SecretProjection,
        ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use super::{Subject, Tier, engine, revision};
use crate::api::{EngineKind, InferenceDeploymentSpec, LocalBackend, ModelSource, names};

/// Where client libraries look for the API server's token.
const DIR_API_ACCESS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Home and caches of the engine.
pub const DIR_CACHE: &str = "/var/cache/inference-operator";
/// Names of our volumes begin with this; users' volumes must not.
const RUNTIME_VOLUME: &str = "inference-runtime";
const TEMPORARY: &str = "inference-tmp";
const CACHE: &str = "inference-cache";
const SHARED_MEMORY: &str = "inference-shm";
const MODEL: &str = "inference-model";

/// A volume and its mount.
pub struct Mounted {
    /// The volume.
    pub volume: Volume,
    /// Its mount in the container that needs it.
    pub mount: VolumeMount,
}

impl Mounted {
    /// Whether the user mounts a volume of his own in the place of one that only gives room: a cache that outlives pods, one that pods
    /// share their downloaded models in, a larger /dev/shm.
    pub fn is_replaced(&self, theirs: &[VolumeMount]) -> bool {
        let name = self.volume.name.as_str();
        let holds_downloads = name == MODEL && self.volume.empty_dir.is_some();
        let gives_room = holds_downloads || [TEMPORARY, CACHE, SHARED_MEMORY].contains(&name);
        gives_room && theirs.iter().any(|mount| mount.mount_path == self.mount.mount_path)
    }
}

fn mounted(volume: Volume, path: &str, read_only: bool) -> Mounted {
    let mount = VolumeMount {
        name: volume.name.clone(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    Mounted { volume, mount }
}

/// What every pod mounts; one that follows has nothing to say to the API server and to peers, and no budget.
pub fn common(subject: &Subject, spec: &InferenceDeploymentSpec, tier: Tier) -> Vec<Mounted> {
    let mut all = vec![mounted(empty_dir(TEMPORARY, Some("1Gi"), false), "/tmp", false)];
    if tier != Tier::Follower {
        all.extend([
            mounted(api_access(), DIR_API_ACCESS, true),
            mounted(peer_token(subject), names::DIR_PEER_TOKEN, true),
            // In memory: it must not outlive the node, and it is written twice a request.
            mounted(
                empty_dir("inference-journal", Some("1Mi"), true),
                names::DIR_JOURNAL,
                false,
            ),
        ]);
    }
    all.extend(keys(spec, tier).map(|volume| mounted(volume, names::DIR_KEYS, true)));
    all
}

/// What a local pod mounts in addition; nothing when its engine runs elsewhere.
pub fn local(local: &LocalBackend) -> Vec<Mounted> {
    if local.engine == EngineKind::External {
        return Vec::new();
    }
    let mut all = vec![
        runtime(),
        mounted(empty_dir(CACHE, Some("20Gi"), false), DIR_CACHE, false),
    ];
    if let Some(gibibytes) = engine::shared_memory(local) {
        let volume = empty_dir(SHARED_MEMORY, Some(&format!("{gibibytes}Gi")), true);
        all.push(mounted(volume, "/dev/shm", false));
    }
    all.extend(
        local
            .source
            .as_ref()
            .map(|source| mounted(model(source), names::DIR_MODEL, !downloads(local))),
    );
    all
}

/// The directory into which the init container copies the runtime.
pub fn runtime() -> Mounted {
    mounted(
        empty_dir(RUNTIME_VOLUME, Some("512Mi"), false),
        names::DIR_RUNTIME,
        false,
    )
}

/// Whether the pods bring the model themselves.
pub fn downloads(local: &LocalBackend) -> bool {
    let source = local.source.as_ref();
    source.is_some_and(|source| source.hugging_face.is_some() || source.url.is_some())
}

/// A download has no limit of its own here: how large the model is only its source knows, and the runtime looks for room before it begins.
fn model(source: &ModelSource) -> Volume {
    let mut volume = Volume {
        name: MODEL.into(),
        ..Volume::default()
    };
    if let Some(image) = &source.image {
        volume.image = Some(ImageVolumeSource {
            reference: Some(image.reference.clone()),
            pull_policy: Some("IfNotPresent".into()),
        });
    } else if let Some(claim) = &source.persistent_volume_claim {
        volume.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.claim_name.clone(),
            read_only: Some(true),
        });
    } else {
        volume = empty_dir(MODEL, None, false);
    }
    volume
}

fn empty_dir(name: &str, limit: Option<&str>, memory: bool) -> Volume {
    Volume {
        name: name.into(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: memory.then(|| "Memory".into()),
            size_limit: limit.map(|l| Quantity(l.into())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn projected(name: &str, mode: i32, sources: Vec<VolumeProjection>) -> Volume {
    Volume {
        name: name.into(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(mode),
            sources: Some(sources),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// All keys, each `optional`: a missing Secret blocks its backend, never the pod.
fn keys(spec: &InferenceDeploymentSpec, tier: Tier) -> Option<Volume> {
    let mut sources: Vec<SecretProjection> = Vec::new();
    for reference in revision::secrets(spec, tier) {
        let item = KeyToPath {
            path: format!("{}/{}", reference.name, reference.key),
            key: reference.key,
            ..KeyToPath::default()
        };
        match sources.iter_mut().find(|s| s.name == reference.name) {
            Some(source) => source.items.get_or_insert_default().push(item),
            None => sources.push(SecretProjection {
                name: reference.name,
                items: Some(vec![item]),
                optional: Some(true),
            }),
        }
    }
    let sources: Vec<_> = sources.into_iter().map(secret_source).collect();
    (!sources.is_empty()).then(|| projected("inference-keys", 0o440, sources))
}

fn secret_source(secret: SecretProjection) -> VolumeProjection {
    VolumeProjection {
        secret: Some(secret),
        ..VolumeProjection::default()
    }
}

fn token(audience: Option<String>) -> VolumeProjection {
    VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            audience,
            expiration_seconds: Some(3600),
            path: names::FILE_PEER_TOKEN.into(),
            ..ServiceAccountTokenProjection::default()
        }),
        ..VolumeProjection::default()
    }
}

/// The token that this pod shows its peers.
fn peer_token(subject: &Subject) -> Volume {
    let audience = names::peer_audience(&subject.uid);
    projected("inference-peer", 0o440, vec![token(Some(audience))])
}

/// What the kubelet would mount by itself into every container; here only the runtime's has it.
fn api_access() -> Volume {
    let authority = VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: "kube-root-ca.crt".into(),
            items: Some(vec![KeyToPath {
                key: "ca.crt".into(),
                path: "ca.crt".into(),
                ..KeyToPath::default()
            }]),
            optional: None,
        }),
        ..VolumeProjection::default()
    };
    let namespace = VolumeProjection {
        downward_api: Some(DownwardAPIProjection {
            items: Some(vec![DownwardAPIVolumeFile {
                path: "namespace".into(),
                field_ref: Some(ObjectFieldSelector {
                    api_version: Some("v1".into()),
                    field_path: "metadata.namespace".into(),
                }),
                ..DownwardAPIVolumeFile::default()
            }]),
        }),
        ..VolumeProjection::default()
    };
    projected("inference-api-access", 0o440, vec![token(None), authority, namespace])
}
