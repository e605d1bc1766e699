//! By what replicas and controller know that they speak of the same thing without saying it.

use std::fmt::Write;

use ring::{digest, hmac};

use crate::api::RemoteBackend;

/// Bytes of a mark: enough that two never meet by chance, too few to find a key by.
const BYTES: usize = 8;

/// Short hash of provider and endpoint.
#[must_use]
pub fn target(spec: &RemoteBackend) -> String {
    let text = format!("{:?}\n{}", spec.provider, spec.endpoint);
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

/// Hash of a key, salted with the deployment's UID: two replicas compare keys without showing them.
#[must_use]
pub fn key_hash(deployment_uid: &str, key: &str) -> String {
    let salt = hmac::Key::new(hmac::HMAC_SHA256, deployment_uid.as_bytes());
    hex(hmac::sign(&salt, key.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(BYTES).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_keys_and_deployments_apart_and_shows_none() {
        let mark = key_hash("uid-1", "sk-secret");
        assert_eq!(mark, key_hash("uid-1", "sk-secret"));
        assert_ne!(mark, key_hash("uid-1", "sk-other"));
        assert_ne!(mark, key_hash("uid-2", "sk-secret"), "salted");
        assert_eq!(mark.len(), 16);
    }

    #[test]
    fn another_endpoint_is_another_target() {
        let spec = |endpoint: &str| -> RemoteBackend {
            serde_json::from_value(serde_json::json!({"provider": "LiteLLM", "endpoint": endpoint, "model": "m"}))
                .unwrap()
        };
        assert_eq!(target(&spec("http://a.example")), target(&spec("http://a.example")));
        assert_ne!(target(&spec("http://a.example")), target(&spec("http://b.example")));
    }
}
