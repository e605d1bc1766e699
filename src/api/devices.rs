//! The GPUs that a pod of the local backend gets: counted by a device plugin's resource, or claimed from a driver.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Decimal;

/// GPUs of one pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.count) != has(self.claimTemplate)", "gpus has exactly one of count and claimTemplate"),
    validation = (
        "!has(self.claimTemplate) || !(has(self.resourceName) || has(self.product) || has(self.minMemory))",
        "with claimTemplate the claim selects the GPUs: resourceName, product and minMemory would do nothing"
    ),
    validation = (
        "!has(self.deviceClassName) || (has(self.count) && !(has(self.resourceName) || has(self.product) || has(self.minMemory)))",
        "deviceClassName needs count, and its claim selects the GPUs: resourceName, product and minMemory would do nothing"
    ),
    validation = (
        "!has(self.selectors) || has(self.deviceClassName)",
        "selectors choose among the devices of deviceClassName: set it too"
    )
)]
pub struct Gpus {
    /// GPUs a pod gets.
    #[schemars(range(min = 1, max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// The extended resource that counts them; `nvidia.com/gpu` when absent.
    #[schemars(
        length(min = 3, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_name: Option<String>,
    /// Value of the node label `nvidia.com/gpu.product`.
    #[schemars(length(min = 1, max = 63))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Memory a GPU has at least, for example `40Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_memory: Option<Quantity>,
    /// A ResourceClaimTemplate of the same namespace (dynamic resource allocation).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_template: Option<ClaimTemplate>,
    /// A DeviceClass, in place of `resourceName`: each pod gets a claim of `count` of its devices (dynamic resource allocation).
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_class_name: Option<String>,
    /// What each device of the class must be, all of it; as in a ResourceClaim.
    #[schemars(length(min = 1, max = 32))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selectors: Vec<DeviceSelector>,
}

impl Gpus {
    /// Whether a claim holds them, and no extended resource counts them.
    #[must_use]
    pub const fn are_claimed(&self) -> bool {
        self.claim_template.is_some() || self.device_class_name.is_some()
    }

    /// Name of the extended resource.
    #[must_use]
    pub fn resource_name(&self) -> &str {
        self.resource_name.as_deref().unwrap_or("nvidia.com/gpu")
    }

    /// GPUs a pod gets.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count.unwrap_or(1)
    }
}

/// A ResourceClaimTemplate of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimTemplate {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// What a device must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceSelector {
    /// In the words of the driver.
    pub cel: CelSelector,
}

/// An expression in CEL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CelSelector {
    /// True for the devices that are meant, like `device.capacity["gpu.nvidia.com"].memory.isGreaterThan(quantity("79Gi"))`. The API
    /// server checks it when the operator makes the claim.
    #[schemars(length(min = 1, max = 10_240))]
    pub expression: String,
}

/// What GPU time costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuPrice {
    /// USD for one GPU and hour.
    pub per_gpu_hour: Decimal,
}
