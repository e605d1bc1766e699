//! Pods with priced GPUs: they come and go as the ledger says, and cost money from the moment they are scheduled until they are gone,
//! whatever the ledger knows of it.
//!
//! For GPUs the promise holds while a controller runs: so one looks at everything every few seconds of time that passes. The others,
//! the caches, the writes under way and all ends of processes go on beside it.

use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};

use super::world::{DEPLOYMENT, Deployment, Play, Pod, World};
use crate::{
    api::{BudgetStatus, NanoUsd},
    policy::{
        budget::ledger::{GpuHold, GpuTerms},
        model::Dice,
    },
};

/// What becomes of pods when the budget does not pay for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gpus {
    /// They are let go.
    Released,
    /// They stay, beyond the limit too.
    Stay,
}

/// Seconds that a nano-USD pays for.
const SECONDS: i64 = 10;
/// Seconds that a pod may take to leave: it takes less.
const LEAVE: u64 = 30;
/// Seconds after which a controller looks at everything.
const LOOK: i64 = SECONDS;
/// Seconds that a controller may be late, by its clock or until it looks.
const LATE: i64 = 2 * SECONDS;

impl Gpus {
    /// A slice is 33 nano-USD.
    pub fn terms(self, pods: u32) -> GpuTerms {
        GpuTerms {
            per_pod_hour: NanoUsd(360),
            leave: std::time::Duration::from_secs(LEAVE),
            pods,
            release: self == Self::Released,
        }
    }
}

impl Play {
    /// Clocks go by so many seconds: in such pieces GPU time costs whole nano-USD, and what is rounded up is not of the size of a slice.
    pub fn grain(self) -> i64 {
        if self.gpus.is_some() { SECONDS } else { 1 }
    }

    /// What pods that stay have cost may be beyond the limit: nothing else.
    pub fn beyond_the_limit(self, ledger: &BudgetStatus) -> u64 {
        let stay = self.gpus == Some(Gpus::Stay);
        ledger
            .gpu_time
            .as_ref()
            .filter(|_| stay)
            .map_or(0, |time| time.settled.0)
    }
}

impl World {
    /// Time passes, a little at a time.
    pub fn gpu_time_passes(&mut self, seconds: i64, dice: &mut Dice) {
        for _ in 0..seconds / LOOK {
            self.now += SignedDuration::from_secs(LOOK);
            self.the_leaving_are_gone(dice);
            self.a_controller_looks();
            self.check();
        }
    }

    fn a_controller_looks(&mut self) {
        self.follow();
        while self.reconcile_at_once() {
            self.follow();
        }
    }

    /// As many pods as are wanted and paid for: one that is lacking comes, those that are too many begin to leave.
    pub fn follow(&mut self) {
        let Some(gpus) = self.play.gpus else { return };
        let deployment = self.deployment();
        let Some(time) = deployment.ledger.as_ref().and_then(|ledger| ledger.gpu_time.as_ref()) else {
            return;
        };
        let paid = if gpus == Gpus::Released { time.wanted } else { u32::MAX };
        let wanted = usize::try_from(deployment.gpu_pods.min(paid)).unwrap();
        let staying: Vec<_> = self.gpu_pods().filter(|(_, _, hold)| !hold.leaves).collect();
        for (name, pod, hold) in staying.iter().skip(wanted) {
            let gpus = Some(GpuHold { leaves: true, ..*hold });
            self.pods.put(name, Rc::new(Pod { gpus, ..pod.clone() }));
        }
        if staying.len() < wanted {
            let name = format!("g{}", self.uids);
            let since = self.now;
            self.new_pod_with(&name, Some(GpuHold { since, leaves: false }));
        }
    }

    fn gpu_pods(&self) -> impl Iterator<Item = (String, Pod, GpuHold)> + '_ {
        let pods = self.pods.names().into_iter();
        pods.filter_map(|name| {
            let pod = self.pods.get(&name)?.object;
            Some((name, (*pod).clone(), pod.gpus?))
        })
    }

    /// Pods that were leaving before this time passed.
    fn the_leaving_are_gone(&mut self, dice: &mut Dice) {
        let leaving: Vec<_> = self.gpu_pods().filter(|(_, _, hold)| hold.leaves).collect();
        for (_, pod, _) in leaving {
            let index = self
                .processes
                .iter()
                .position(|process| process.pod_uid == pod.uid)
                .unwrap();
            if self.play.crashes && dice.once_in(2) {
                self.pod_ends(index, dice);
            } else {
                self.pod_leaves(index, dice);
            }
        }
    }

    /// Nobody wants GPUs any more.
    pub fn gpus_are_let_go(&mut self, dice: &mut Dice) {
        if self.play.gpus.is_none() {
            return;
        }
        let deployment = Deployment {
            gpu_pods: 0,
            ..(*self.deployment()).clone()
        };
        self.deployments.put(DEPLOYMENT, Rc::new(deployment));
        self.gpu_time_passes(2 * LOOK, dice);
        assert_eq!(self.gpu_pods().count(), 0);
    }

    /// Since when and until when pods have had GPUs.
    fn gpu_times(&self) -> impl Iterator<Item = (Timestamp, Timestamp)> + '_ {
        let running = self.gpu_pods().map(|(_, _, hold)| (hold.since, self.now));
        self.gpu_past.iter().copied().chain(running)
    }

    /// When the window with that number began: in another calendar it may have begun before the last one ended, or never.
    fn boundary(&self, number: u64) -> Option<Timestamp> {
        let last = self.ends.get(&(number - 1)).copied();
        match self.began.get(&number) {
            Some(began) => Some((*began).max(last.flatten()).unwrap_or(Timestamp::MIN)),
            None => last.map(|_| Timestamp::MAX),
        }
    }

    /// What GPUs cost in the window with that number, at least and at most: to its beginning, its end, and the end of each pod controllers
    /// may come late.
    pub fn gpu_cost(&self, number: u64) -> (u64, u64) {
        let (Some(began), Some(end)) = (self.boundary(number), self.boundary(number + 1)) else {
            return (0, 0);
        };
        let (mut least, mut most) = (0, 0);
        for (since, until) in self.gpu_times() {
            let seconds = until.min(end).duration_since(since.max(began)).as_secs();
            least += (seconds - LATE).max(0) / SECONDS;
            most += (seconds + LATE).max(0) / SECONDS;
        }
        (u64::try_from(least).unwrap(), u64::try_from(most).unwrap())
    }

    /// What GPUs have cost for certain in the windows that began at `began`, where they may not cost more than the limit.
    pub fn gpu_exposure(&self, began: Option<Timestamp>) -> u64 {
        if self.play.gpus != Some(Gpus::Released) {
            return 0;
        }
        let same = self.began.iter().filter(|(_, start)| **start == began);
        same.map(|(number, _)| self.gpu_cost(*number).0).sum()
    }
}
