//! Who may ask.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretKeyRef;

/// How callers prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessType {
    /// Everybody who reaches the Service.
    #[default]
    None,
    /// One shared key, as `Authorization: Bearer KEY`.
    ApiKey,
    /// A ServiceAccount token, verified offline.
    ServiceAccount,
}

/// Who may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.apiKey) == (self.type == 'ApiKey')", "apiKey is given with type ApiKey and only with it"),
    validation = (
        "has(self.serviceAccount) == (self.type == 'ServiceAccount')",
        "serviceAccount is given with type ServiceAccount and only with it"
    )
)]
pub struct Access {
    /// The way.
    pub r#type: AccessType,
    /// For type `ApiKey`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKeyAccess>,
    /// For type `ServiceAccount`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountAccess>,
}

/// One shared key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyAccess {
    /// Where it is.
    pub secret: SecretKeyRef,
}

/// ServiceAccount tokens: signature, audience, expiry and subject are checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountAccess {
    /// Audiences of which the token has at least one.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 253)))]
    pub audiences: Vec<String>,
    /// Subjects that may ask, as `system:serviceaccount:NAMESPACE:NAME`; every ServiceAccount of the audience when absent.
    #[schemars(
        length(min = 1, max = 64),
        inner(length(max = 400), regex(pattern = "^system:serviceaccount:[a-z0-9-]+:[a-z0-9.-]+$"))
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subjects: Option<Vec<String>>,
}
