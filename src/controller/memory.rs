//! What this process remembers of its own writes: to wait until the cache has seen them (read-your-writes), and to leave alone what
//! is already as it should be. Losing it costs one repeated apply that changes nothing.

use std::{
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::{Duration, Instant};

use super::{build::Subject, dereference::Live, kinds::Kind};

/// After this long a write that never appeared was undone by somebody else; waiting on would wedge the object.
const GIVE_UP: Duration = Duration::from_secs(30);

/// A write that the cache has not seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    kind: Kind,
    name: String,
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

#[derive(Clone, Debug)]
enum Wrote {
    /// The object has this resourceVersion, or a later one.
    Version(String),
    /// The object with this UID is gone or going.
    Gone(String),
}

#[derive(Debug, Default)]
struct Entry {
    pending: HashMap<(Kind, String), (Wrote, Instant)>,
    applied: HashMap<(Kind, String), (u64, u64)>,
    undecodable: Option<(i64, String)>,
    recorded: Option<(String, Instant)>,
}

/// The memory of all deployments, by namespace and name.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<(String, String), Entry>>);

impl Memory {
    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, subject: &Subject, f: impl FnOnce(&mut Entry) -> T) -> T {
        let key = (subject.namespace.clone(), subject.name.clone());
        f(self.lock().entry(key).or_default())
    }

    /// Forgets a deployment that is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// A write that `live` does not show yet.
    pub fn unseen(&self, subject: &Subject, live: &Live) -> Option<Unseen> {
        self.with(subject, |entry| {
            entry.pending.retain(|(kind, name), (wrote, since)| {
                let found = live.find(*kind, name).map(|f| &f.meta);
                !seen(wrote, found) && since.elapsed() < GIVE_UP
            });
            let ((kind, name), _) = entry.pending.iter().next()?;
            Some(Unseen {
                kind: *kind,
                name: name.clone(),
            })
        })
    }

    /// Remembers what the API server answered to a write of `desired`.
    pub fn wrote(&self, subject: &Subject, kind: Kind, desired: u64, answer: &ObjectMeta) {
        let name = answer.name.clone().unwrap_or_default();
        let version = Wrote::Version(answer.resource_version.clone().unwrap_or_default());
        self.with(subject, |entry| {
            entry
                .applied
                .insert((kind, name.clone()), (desired, fingerprint(answer)));
            entry.pending.insert((kind, name), (version, Instant::now()));
        });
    }

    /// Remembers the version that the deployment got when decisions were recorded.
    pub fn recorded(&self, subject: &Subject, version: String) {
        self.with(subject, |entry| entry.recorded = Some((version, Instant::now())));
    }

    /// True when `deployment` is older than the last record: a decision on it would forget that one.
    pub fn record_unseen(&self, subject: &Subject, deployment: &ObjectMeta) -> bool {
        self.with(subject, |entry| {
            let unseen = entry.recorded.as_ref().is_some_and(|(version, since)| {
                let have = deployment.resource_version.as_deref().unwrap_or("");
                !is_at_least(have, version) && since.elapsed() < GIVE_UP
            });
            if !unseen {
                entry.recorded = None;
            }
            unseen
        })
    }

    /// Remembers a deletion.
    pub fn deleted(&self, subject: &Subject, kind: Kind, name: &str, uid: &str) {
        self.with(subject, |entry| {
            entry.applied.remove(&(kind, name.to_owned()));
            let wrote = Wrote::Gone(uid.to_owned());
            entry.pending.insert((kind, name.to_owned()), (wrote, Instant::now()));
        });
    }

    /// True when the status already says that this generation cannot be decoded, and why.
    pub fn told_undecodable(&self, subject: &Subject, generation: i64, error: &str) -> bool {
        self.with(subject, |entry| {
            let told = entry.undecodable.as_ref();
            told.is_some_and(|(g, e)| *g == generation && e == error)
        })
    }

    /// Remembers that it was said.
    pub fn tell_undecodable(&self, subject: &Subject, generation: i64, error: &str) {
        self.with(subject, |entry| {
            entry.undecodable = Some((generation, error.to_owned()));
        });
    }

    /// True when `desired` was the last apply and nobody has touched the object since.
    pub fn is_current(&self, subject: &Subject, kind: Kind, desired: u64, live: &ObjectMeta) -> bool {
        let name = live.name.clone().unwrap_or_default();
        self.with(subject, |entry| {
            entry.applied.get(&(kind, name)) == Some(&(desired, fingerprint(live)))
        })
    }
}

fn seen(wrote: &Wrote, found: Option<&ObjectMeta>) -> bool {
    match (wrote, found) {
        (Wrote::Gone(uid), Some(meta)) => meta.uid.as_ref() != Some(uid) || meta.deletion_timestamp.is_some(),
        (Wrote::Gone(_), None) => true,
        (Wrote::Version(wanted), Some(meta)) => is_at_least(meta.resource_version.as_deref().unwrap_or(""), wanted),
        (Wrote::Version(_), None) => false,
    }
}

/// Resource versions of one kind are comparable numbers (a promise of the API since Kubernetes 1.35, a fact before).
fn is_at_least(have: &str, want: &str) -> bool {
    match (have.parse::<u64>(), want.parse::<u64>()) {
        (Ok(have), Ok(want)) => have >= want,
        _ => have == want,
    }
}

/// Changes when anybody changes what an apply could have set: the generation where the kind has one (its status changes often and
/// does not matter here), else the resourceVersion.
fn fingerprint(meta: &ObjectMeta) -> u64 {
    let mut hasher = DefaultHasher::new();
    meta.uid.hash(&mut hasher);
    match meta.generation {
        None => meta.resource_version.hash(&mut hasher),
        Some(generation) => {
            generation.hash(&mut hasher);
            meta.labels.hash(&mut hasher);
            for (key, value) in meta.annotations.iter().flatten() {
                // The Deployment controller keeps its revision number here.
                if !key.starts_with("deployment.kubernetes.io/") {
                    (key, value).hash(&mut hasher);
                }
            }
            for owner in meta.owner_references.iter().flatten() {
                (&owner.uid, owner.controller).hash(&mut hasher);
            }
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::dereference::Found;

    fn meta(uid: &str, version: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some("a".into()),
            uid: Some(uid.into()),
            resource_version: Some(version.into()),
            ..ObjectMeta::default()
        }
    }

    fn live(meta: Option<ObjectMeta>) -> Live {
        Live {
            children: meta
                .into_iter()
                .map(|meta| Found {
                    kind: Kind::Service,
                    meta,
                })
                .collect(),
            ..Live::default()
        }
    }

    fn subject() -> Subject {
        Subject {
            name: "a".into(),
            namespace: "n".into(),
            uid: "u".into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_is_unseen_until_the_cache_has_it_or_30_s_have_passed() {
        let memory = Memory::default();
        memory.wrote(&subject(), Kind::Service, 7, &meta("1", "100"));
        assert!(memory.unseen(&subject(), &live(None)).is_some());
        assert!(memory.unseen(&subject(), &live(Some(meta("1", "99")))).is_some());
        assert!(memory.unseen(&subject(), &live(Some(meta("1", "1000")))).is_none());
        memory.wrote(&subject(), Kind::Service, 7, &meta("1", "2000"));
        tokio::time::advance(GIVE_UP).await;
        assert!(memory.unseen(&subject(), &live(None)).is_none());
    }

    #[tokio::test]
    async fn a_deletion_is_seen_when_the_object_is_another_or_none() {
        let memory = Memory::default();
        memory.deleted(&subject(), Kind::Service, "a", "1");
        assert!(memory.unseen(&subject(), &live(Some(meta("1", "5")))).is_some());
        assert!(memory.unseen(&subject(), &live(Some(meta("2", "6")))).is_none());
    }

    #[test]
    fn what_nobody_touched_is_current() {
        let memory = Memory::default();
        memory.wrote(&subject(), Kind::Service, 7, &meta("1", "100"));
        assert!(memory.is_current(&subject(), Kind::Service, 7, &meta("1", "100")));
        assert!(!memory.is_current(&subject(), Kind::Service, 8, &meta("1", "100")));
        assert!(!memory.is_current(&subject(), Kind::Service, 7, &meta("1", "101")));
    }
}
