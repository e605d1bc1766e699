//! Where a local backend's model comes from.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretKeyRef;

/// Exactly one source. Paths of the node (`hostPath`) are refused on purpose: they would give the pod the node's files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.huggingFace), has(self.persistentVolumeClaim), has(self.image), has(self.url)].filter(x, x).size() == 1",
    "source has exactly one of huggingFace, persistentVolumeClaim, image and url"
))]
pub struct ModelSource {
    /// A repository of the Hugging Face hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hugging_face: Option<HuggingFaceSource>,
    /// A file or folder in a PersistentVolumeClaim of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<PersistentVolumeClaimSource>,
    /// An OCI image mounted as a volume (Kubernetes 1.35, or from 1.33 on with the feature gate `ImageVolume`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSource>,
    /// A file at a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<UrlSource>,
}

/// A repository of the Hugging Face hub, at a fixed revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HuggingFaceSource {
    /// `OWNER/NAME`.
    #[schemars(length(min = 3, max = 200), regex(pattern = "^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$"))]
    pub repository: String,
    /// A commit, tag or branch; a commit never changes under a running deployment.
    #[schemars(length(min = 1, max = 200))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// One file of the repository; the whole snapshot when absent. Engines that read GGUF need it.
    #[schemars(length(min = 1, max = 500), regex(pattern = r"^[^/].*$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Access token for gated repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret: Option<SecretKeyRef>,
}

/// A PersistentVolumeClaim of the same namespace, mounted read-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersistentVolumeClaimSource {
    /// Name of the claim.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub claim_name: String,
    /// Path of the model inside the volume, relative and without `..`.
    #[schemars(
        length(min = 1, max = 500),
        regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$")
    )]
    pub path: String,
}

/// An OCI image mounted read-only as a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageSource {
    /// The image's reference; a digest never changes under a running deployment.
    #[schemars(length(min = 1, max = 500), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9_./:@-]*$"))]
    pub reference: String,
    /// Path of the model inside the image, relative and without `..`.
    #[schemars(
        length(min = 1, max = 500),
        regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$")
    )]
    pub path: String,
}

/// A file at a URL, verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UrlSource {
    /// Address of one file. The checksum is what makes plain `http` safe.
    #[schemars(length(min = 9, max = 2000), regex(pattern = "^https?://[^/?#@]+/.+$"))]
    pub location: String,
    /// SHA-256 of the file, 64 hexadecimal digits.
    #[schemars(length(min = 64, max = 64), regex(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: String,
}
