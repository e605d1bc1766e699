//! Names that controller, runtime and chart agree on: labels, annotations, finalizers, ports, files.

/// Field manager of everything the controller applies.
pub const CONTROLLER_MANAGER: &str = "inference-controller";
/// Field manager of what the controller records by conditional writes: circuits and the ledger.
pub const LEDGER_MANAGER: &str = "inference-controller-ledger";
/// Field manager of a runtime's own status.
pub const RUNTIME_MANAGER: &str = "inference-runtime";

/// Label with the name of the `InferenceDeployment` on every child and pod.
pub const LABEL_DEPLOYMENT: &str = "inference-operator.dev/deployment";
/// Label with the pod's tier: [`TIER_LOCAL`] or [`TIER_REMOTE`].
pub const LABEL_TIER: &str = "inference-operator.dev/tier";
/// Pods that hold an engine.
pub const TIER_LOCAL: &str = "local";
/// GPU-less pods that only forward.
pub const TIER_REMOTE: &str = "remote";
/// Pods that hold a part of an engine whose leader is in another pod of their group.
pub const TIER_FOLLOWER: &str = "follower";
/// The recommended label that says who manages an object.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The recommended label with the application's name.
pub const LABEL_NAME: &str = "app.kubernetes.io/name";
/// The recommended label with the instance's name.
pub const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";
/// Value of [`LABEL_MANAGED_BY`].
pub const MANAGED_BY: &str = "inference-operator";

/// Annotation on pods and revisions: the versioned hash of the pod-shaped fields (design section 4).
pub const ANNOTATION_POD_HASH: &str = "inference-operator.dev/pod-hash";
/// Annotation on the local pods' workload while `scaleToZero` keeps them away: its 0 pods alone may be somebody else's wish.
pub const ANNOTATION_IDLE: &str = "inference-operator.dev/idle";

/// Annotation on an `InferenceDeployment`: the last window in which money was granted, `UID/NUMBER`. Written by the controller.
pub const ANNOTATION_BUDGET_WINDOW: &str = "inference-operator.dev/budget-window";
/// Annotation that people set after the ledger was lost: what was spent so far in this window, USD.
pub const ANNOTATION_BUDGET_ADOPT: &str = "inference-operator.dev/budget-adopt-settled";
/// Annotation that people set when they know what became of uncertain money: how much of it was not spent in a window, in all,
/// `USD@WINDOW`.
pub const ANNOTATION_BUDGET_WRITE_OFF: &str = "inference-operator.dev/budget-write-off-uncertain";
/// Finalizer of an `InferenceReplica` until its leases are folded into the ledger.
pub const FINALIZER_BUDGET: &str = "inference-operator.dev/budget";

/// Port of the OpenAI-compatible API in every runtime pod.
pub const PORT_HTTP: u16 = 8000;
/// Port of `/livez`, `/readyz`, `/metrics` and `/status` in every runtime pod.
pub const PORT_ADMIN: u16 = 9000;
/// Port on which a local pod takes requests from its peers, never from clients.
pub const PORT_PEER: u16 = 8001;
/// Loopback port of the engine inside a local pod.
pub const PORT_ENGINE: u16 = 18000;
/// Port of the Service.
pub const PORT_SERVICE: u16 = 80;

/// Suffix of the headless Service through which GPU-less pods find local ones.
pub const PEER_SERVICE_SUFFIX: &str = "-local";

/// Directory of the runtime binary in the engine's container (an `emptyDir`).
pub const DIR_RUNTIME: &str = "/inference";
/// Directory of the projected keys; one folder a Secret, one file a key: `SECRET/KEY`.
pub const DIR_KEYS: &str = "/var/run/inference-operator/keys";
/// Directory of the projected ServiceAccount token for peers.
pub const DIR_PEER_TOKEN: &str = "/var/run/inference-operator/peer";
/// File name of the token inside [`DIR_PEER_TOKEN`].
pub const FILE_PEER_TOKEN: &str = "token";
/// Directory of what the runtime leaves for the next process of its pod: the budget's journal.
pub const DIR_JOURNAL: &str = "/var/run/inference-operator/journal";
/// Directory at which the model's volume is mounted.
pub const DIR_MODEL: &str = "/models";

/// The Hugging Face hub, unless the operator names another.
pub const HUGGING_FACE: &str = "https://huggingface.co";

/// Environment variable with the namespace of the pod.
pub const ENV_NAMESPACE: &str = "INFERENCE_NAMESPACE";
/// Environment variable with the name of the pod, which is that of its `InferenceReplica`.
pub const ENV_POD_NAME: &str = "INFERENCE_POD_NAME";
/// Environment variable with the UID of the pod.
pub const ENV_POD_UID: &str = "INFERENCE_POD_UID";
/// Environment variable with the name of the `InferenceDeployment`.
pub const ENV_DEPLOYMENT: &str = "INFERENCE_DEPLOYMENT";
/// Environment variable with the UID of the `InferenceDeployment`.
pub const ENV_DEPLOYMENT_UID: &str = "INFERENCE_DEPLOYMENT_UID";
/// Environment variable with the local backend as JSON; absent in GPU-less pods. A pod's engine comes from its own template.
pub const ENV_LOCAL_BACKEND: &str = "INFERENCE_LOCAL_BACKEND";
/// Environment variable with what clients called the model when the pod's template was rendered; absent in GPU-less pods. An engine that
/// names its model names it so, and requests to it carry that name: `spec.model` may change without new pods.
pub const ENV_MODEL_NAME: &str = "INFERENCE_MODEL_NAME";

/// Audience of the tokens that peers of one deployment show each other.
#[must_use]
pub fn peer_audience(deployment_uid: &str) -> String {
    format!("peer.inference-operator.dev/{deployment_uid}")
}
