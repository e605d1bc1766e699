//! The environment an engine starts with: the container's without what is not the engine's business (design section 10).

use std::{collections::BTreeSet, ffi::OsString};

use crate::api::LocalBackend;

const PREFIXES: [&str; 2] = ["KUBERNETES_", "INFERENCE_"];
/// Parts of names that hold credentials: outside of a cluster, providers' keys may come from the runtime's own environment.
const CREDENTIALS: [&str; 6] = ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL"];

/// Names that the backend's own `podTemplate.env` gives the engine on purpose.
#[must_use]
pub fn named_by(backend: &LocalBackend) -> BTreeSet<String> {
    let env = backend.pod_template.iter().flat_map(|template| &template.env);
    env.map(|variable| variable.name.clone()).collect()
}

/// `environment` without the cluster's, the runtime's own and credentials that the backend did not name.
pub fn cleaned(
    environment: impl Iterator<Item = (OsString, OsString)>,
    named: &BTreeSet<String>,
) -> impl Iterator<Item = (OsString, OsString)> {
    environment.filter(|(name, _)| name.to_str().is_some_and(|name| passes(name, named)))
}

fn passes(name: &str, named: &BTreeSet<String>) -> bool {
    if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return false;
    }
    let upper = name.to_ascii_uppercase();
    named.contains(name) || !CREDENTIALS.iter().any(|part| upper.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clusters_the_runtimes_and_unnamed_credentials_go() {
        let named = BTreeSet::from(["HF_TOKEN".to_owned(), "INFERENCE_X".to_owned()]);
        for (name, kept) in [
            ("PATH", true),
            ("NVIDIA_VISIBLE_DEVICES", true),
            ("HF_TOKEN", true),
            ("OPENAI_API_KEY", false),
            ("db_password", false),
            ("KUBERNETES_SERVICE_HOST", false),
            ("INFERENCE_LOCAL_BACKEND", false),
            ("INFERENCE_X", false),
        ] {
            assert_eq!(passes(name, &named), kept, "{name}");
        }
    }
}
