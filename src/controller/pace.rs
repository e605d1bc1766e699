//! How often the status of one deployment is written (design section 8, write rates), for all writes of a reconcile together; and how
//! often one replica is told of its shares.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::policy::write_rate::{Haste, WriteRate};

/// The write rates of all deployments, by UID.
#[derive(Debug)]
pub struct Pace {
    started: Instant,
    rates: Mutex<HashMap<String, WriteRate>>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            rates: Mutex::default(),
        }
    }
}

impl Pace {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, WriteRate>> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One reconcile's turn.
    pub fn turn(&self, uid: &str) -> Turn<'_> {
        let now = self.started.elapsed();
        let mut rates = self.lock();
        let rate = rates.entry(uid.to_owned()).or_default();
        let wait = |haste| rate.next(now, haste).saturating_sub(now);
        Turn {
            pace: self,
            uid: uid.to_owned(),
            routine: wait(Haste::Routine),
            prompt: wait(Haste::Prompt),
            urgent: wait(Haste::Urgent),
            used: false,
            later: None,
        }
    }

    /// The same for what one replica of the deployment is told, by its pod's UID.
    pub fn turn_of(&self, uid: &str, pod: &str) -> Turn<'_> {
        self.turn(&format!("{uid}/{pod}"))
    }

    /// The same for reading a deployment's pods and replicas from the API server itself.
    pub fn look(&self, uid: &str) -> Turn<'_> {
        self.turn(&looks(uid))
    }

    /// Forgets replicas that are gone.
    pub fn keep(&self, uid: &str, is_there: impl Fn(&str) -> bool) {
        let gone = |key: &String| key.strip_prefix(uid)?.strip_prefix('/').map(|pod| !is_there(pod));
        self.lock().retain(|key, _| gone(key) != Some(true));
    }

    /// Forgets a deployment that is gone.
    pub fn forget(&self, uid: &str) {
        self.keep(uid, |_| false);
        let mut rates = self.lock();
        rates.remove(uid);
        rates.remove(&looks(uid));
    }
}

/// No pod's key: those have a slash.
fn looks(uid: &str) -> String {
    format!("{uid}?")
}

/// The writes of one reconcile count as one.
#[derive(Debug)]
pub struct Turn<'a> {
    pace: &'a Pace,
    uid: String,
    routine: Duration,
    prompt: Duration,
    urgent: Duration,
    used: bool,
    later: Option<Duration>,
}

impl Turn<'_> {
    /// Whether a write may happen now; it will be counted. What may not is due at [`Self::later`].
    pub fn may(&mut self, haste: Haste) -> bool {
        let wait = match haste {
            Haste::Routine => self.routine,
            Haste::Prompt => self.prompt,
            Haste::Urgent => self.urgent,
        };
        self.used |= wait.is_zero();
        if !self.used {
            self.later = Some(self.later.map_or(wait, |later| later.min(wait)));
        }
        self.used
    }

    /// When what was put off may be written.
    pub const fn later(&self) -> Option<Duration> {
        self.later
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let now = self.pace.started.elapsed();
        if self.used
            && let Some(rate) = self.pace.lock().get_mut(&self.uid)
        {
            rate.wrote(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn routine_writes_wait_and_urgent_ones_do_not() {
        let pace = Pace::default();
        assert!(pace.turn("u").may(Haste::Routine), "the first is at once");
        tokio::time::advance(Duration::from_secs(1)).await;
        let mut turn = pace.turn("u");
        assert!(!turn.may(Haste::Routine));
        assert_eq!(turn.later(), Some(Duration::from_secs(4)));
        assert!(turn.may(Haste::Urgent));
        assert!(
            turn.may(Haste::Routine),
            "what is written with an urgent one costs nothing more"
        );
        drop(turn);
        assert!(!pace.turn("u").may(Haste::Urgent), "250 ms apart");
        assert!(pace.turn("other").may(Haste::Urgent));
    }

    #[tokio::test(start_paused = true)]
    async fn each_replica_has_a_pace_of_its_own_until_it_is_gone() {
        let pace = Pace::default();
        assert!(pace.turn_of("u", "1").may(Haste::Urgent) && pace.turn_of("u", "2").may(Haste::Urgent));
        assert!(!pace.turn_of("u", "1").may(Haste::Urgent) && pace.turn("u").may(Haste::Urgent));
        pace.keep("u", |pod| pod == "1");
        assert!(!pace.turn_of("u", "1").may(Haste::Urgent) && pace.turn_of("u", "2").may(Haste::Urgent));
        assert!(pace.look("u").may(Haste::Urgent) && !pace.look("u").may(Haste::Urgent));
        pace.keep("u", |_| true);
        assert!(!pace.look("u").may(Haste::Urgent));
        pace.forget("u");
        assert!(pace.lock().is_empty());
    }
}
