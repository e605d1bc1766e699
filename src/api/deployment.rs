//! `InferenceDeployment`: one model endpoint, an ordered list of backends.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    Access, Backend, BackendKind, Budget, InferenceDeploymentStatus, LocalBackend, RuntimePodOverrides, ScaleToZero,
    Serving, Spill,
};

/// One model endpoint.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "inference-operator.dev",
    version = "v1alpha1",
    kind = "InferenceDeployment",
    plural = "inferencedeployments",
    shortname = "infd",
    category = "inference",
    namespaced,
    cel,
    status = "InferenceDeploymentStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "One model endpoint: an ordered list of backends behind one OpenAI-compatible API.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    validation = (
        "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "metadata.name is a DNS-1035 label of at most 40 characters: lower case letters, digits and -, beginning with a letter"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Backend", type_ = "string", json_path = ".status.activeBackend"),
    printcolumn(name = "Circuit", type_ = "string", json_path = ".status.conditions[?(@.type==\"CircuitClosed\")].reason"),
    printcolumn(name = "Spent", type_ = "string", json_path = ".status.budget.settled"),
    printcolumn(name = "Budget", type_ = "string", json_path = ".spec.budget.limit"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.backends.all(b, self.backends.exists_one(o, o.name == b.name))", "the names of backends are unique"),
    validation = ("self.backends.filter(b, has(b.local)).size() <= 1", "at most one backend is local"),
    validation = (
        "!has(self.budget) || self.backends.all(b, !has(b.remote) || has(b.remote.price))",
        "under a budget every remote backend needs a price"
    ),
    validation = (
        "!has(self.budget) || self.backends.exists(b, has(b.remote) || has(b.local.price))",
        "a budget needs a backend with a price, or it would do nothing"
    ),
    validation = (
        "!has(self.budget) || !has(self.budget.onExhausted) || self.budget.onExhausted != 'ScaleToZero' || self.backends.exists(b, has(b.local) && has(b.local.price))",
        "budget.onExhausted ScaleToZero needs a local backend with a price"
    ),
    validation = (
        "!has(self.spill) || self.backends.exists(b, has(b.local))",
        "spill keeps GPU-less pods beside local ones: without a local backend use replicas"
    ),
    validation = (
        "!has(self.podTemplate) || has(self.spill) || !self.backends.exists(b, has(b.local))",
        "podTemplate is of GPU-less pods, and there are none: local pods have backends[].local.podTemplate"
    ),
    validation = (
        "!has(self.scaleToZero) || (has(self.spill) && self.backends.exists(b, has(b.local)))",
        "scaleToZero needs a local backend and spill.replicas of at least 1"
    ),
    validation = (
        "self.backends.all(b, !has(b.remote) || (has(b.remote.timeouts) && has(b.remote.timeouts.total) ? duration(b.remote.timeouts.total) : duration('10m')) <= (has(self.serving) && has(self.serving.drain) ? duration(self.serving.drain) : duration('10m')))",
        "remote.timeouts.total (10m when absent) is at most serving.drain (10m when absent), or a rollout would cut requests"
    ),
    validation = (
        "self.backends.all(b, !has(b.local) || !has(b.local.timeouts) || !has(b.local.timeouts.total) || duration(b.local.timeouts.total) <= (has(self.serving) && has(self.serving.drain) ? duration(self.serving.drain) : duration('10m')))",
        "local.timeouts.total is at most serving.drain (10m when absent), or a rollout would cut requests"
    )
)]
pub struct InferenceDeploymentSpec {
    /// What clients put in `model`; `metadata.name` when absent.
    #[schemars(length(min = 1, max = 200))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Pods of the local backend; GPU-less pods when there is none. 1 when absent, 0 means off. The API server writes the 1: its scale
    /// subresource needs a number, and with it `kubectl scale` and autoscalers.
    #[schemars(range(min = 0, max = 1000), extend("default" = 1))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Image of the runtime; the one that the operator was installed with when absent. A change replaces the pods.
    #[schemars(length(min = 1, max = 500))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_image: Option<String>,
    /// Backends in order of preference, at most one of them local.
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub backends: Vec<Backend>,
    /// How requests are taken in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<Serving>,
    /// GPU-less pods beside local ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spill: Option<Spill>,
    /// Overrides of GPU-less pods; local pods have `backends[].local.podTemplate`. A change replaces the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<RuntimePodOverrides>,
    /// Local pods are 0 while idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_to_zero: Option<ScaleToZero>,
    /// A hard limit in USD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Who may ask; everybody who reaches the Service when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
}

impl InferenceDeploymentSpec {
    /// Wanted pods of the scaled kind.
    #[must_use]
    pub fn replicas(&self) -> i32 {
        self.replicas.unwrap_or(1)
    }

    /// The local backend with its name, if there is one.
    #[must_use]
    pub fn local(&self) -> Option<(&str, &LocalBackend)> {
        self.backends.iter().find_map(|b| match b.kind() {
            Some(BackendKind::Local(local)) => Some((b.name.as_str(), local)),
            _ => None,
        })
    }

    /// What clients put in `model`.
    #[must_use]
    pub fn model<'a>(&'a self, name: &'a str) -> &'a str {
        self.model.as_deref().unwrap_or(name)
    }
}
