//! Engines that run in several pods at once: which part this one is, as LeaderWorkerSet tells it.

use std::ffi::OsString;

use super::SetupError;
use crate::api::LocalBackend;

/// Environment variable with the name of the leader's host.
pub const LEADER: &str = "LWS_LEADER_ADDRESS";
const INDEX: &str = "LWS_WORKER_INDEX";

/// The place of this pod in its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Name of the leader's host.
    pub leader: String,
    /// Pods of the group.
    pub size: u32,
    /// Number of this one; the leader's is 0.
    pub rank: u32,
}

impl Group {
    /// The group of a backend with several nodes.
    pub fn of(backend: &LocalBackend, environment: &[(OsString, OsString)]) -> Result<Option<Self>, SetupError> {
        if backend.nodes() < 2 {
            return Ok(None);
        }
        let value = |name: &'static str| {
            let mut named = environment.iter().filter(|(key, _)| key == name);
            let value = named
                .find_map(|(_, value)| value.to_str())
                .filter(|value| !value.is_empty());
            value.ok_or(SetupError::NoGroup { variable: name })
        };
        let (leader, index) = (value(LEADER)?, value(INDEX)?);
        Ok(Some(Self {
            leader: leader.to_owned(),
            size: backend.nodes(),
            rank: index.parse().map_err(|_| SetupError::NoGroup { variable: INDEX })?,
        }))
    }

    /// Whether this pod only follows: nobody asks its engine for anything.
    pub const fn follows(&self) -> bool {
        self.rank > 0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::local::engine::fixtures::backend;

    #[test]
    fn the_place_is_what_the_set_tells() {
        let variables = |pairs: &[(&str, &str)]| -> Vec<(OsString, OsString)> {
            pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
        };
        let two = backend("VLLM", json!({"nodes": 2, "gpus": {"count": 8}}));
        let told = variables(&[(LEADER, "assistant-nodes-0.assistant-nodes.team"), (INDEX, "1")]);
        let group = Group::of(&two, &told).unwrap().unwrap();
        assert_eq!(
            (group.leader.as_str(), group.size, group.rank),
            ("assistant-nodes-0.assistant-nodes.team", 2, 1)
        );
        assert!(group.follows());
        let one = backend("VLLM", json!({"nodes": 1, "gpus": {"count": 8}}));
        assert_eq!(Group::of(&one, &told), Ok(None));
        for (wrong, variable) in [
            (variables(&[(INDEX, "1")]), LEADER),
            (variables(&[(LEADER, "x"), (INDEX, "a")]), INDEX),
        ] {
            assert_eq!(Group::of(&two, &wrong), Err(SetupError::NoGroup { variable }));
        }
    }
}
