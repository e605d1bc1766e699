//! Shares that replicas may have been told: a write whose answer never came may be carried out, and must be reckoned with.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use kube::ResourceExt;

use crate::api::{InferenceReplica, InferenceReplicaSpec, ShareOrder};

/// UIDs of the deployment and of the pod.
type Key = (String, String);
/// Shares, and the resourceVersion that they were to be written over.
type Attempt = (Option<String>, Vec<ShareOrder>);

/// The last attempts. Once an object has another version than the one that was to be written over, what was tried is in it or never
/// will be.
#[derive(Debug, Default)]
pub struct Tried(Mutex<HashMap<Key, Attempt>>);

fn key(spec: &InferenceReplicaSpec) -> Key {
    (spec.deployment_uid.clone(), spec.pod_uid.clone())
}

impl Tried {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Attempt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These shares are about to be written over this state.
    pub fn begin(&self, replica: &InferenceReplica, shares: &[ShareOrder]) {
        let attempt = (replica.resource_version(), shares.to_vec());
        self.lock().insert(key(&replica.spec), attempt);
    }

    /// What may have been told in place of what `replica` shows.
    pub fn of(&self, replica: &InferenceReplica) -> Vec<ShareOrder> {
        let tried = self.lock();
        let attempt = tried.get(&key(&replica.spec));
        let open = attempt.filter(|(version, _)| *version == replica.resource_version());
        open.map(|(_, shares)| shares.clone()).unwrap_or_default()
    }

    /// Forgets replicas of a deployment that are gone.
    pub fn keep(&self, deployment: &str, is_there: impl Fn(&str) -> bool) {
        self.lock().retain(|(of, pod), _| of != deployment || is_there(pod));
    }

    /// Forgets a deployment that is gone.
    pub fn forget(&self, deployment: &str) {
        self.keep(deployment, |_| false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(version: &str) -> InferenceReplica {
        let spec = InferenceReplicaSpec {
            pod_uid: "pod-1".into(),
            deployment_name: "assistant".into(),
            deployment_uid: "u".into(),
            circuits: Vec::new(),
            budget: None,
            shares: Vec::new(),
            engine_hold: None,
        };
        let mut replica = InferenceReplica::new("a", spec);
        replica.metadata.resource_version = Some(version.into());
        replica
    }

    #[test]
    fn an_attempt_counts_until_the_object_has_another_version() {
        let (tried, shares) = (Tried::default(), vec![ShareOrder::default()]);
        assert_eq!(tried.of(&replica("1")), []);
        tried.begin(&replica("1"), &shares);
        assert_eq!(tried.of(&replica("1")), shares);
        assert_eq!(tried.of(&replica("2")), []);
        tried.keep("other", |_| false);
        assert_eq!(tried.of(&replica("1")), shares);
        tried.forget("u");
        assert_eq!(tried.of(&replica("1")), []);
    }
}
