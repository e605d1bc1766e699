//! GPU time of a priced local backend: charged by the controller alone, a pod, from the moment it is scheduled until it is gone, in slices
//! that are reserved ahead (design section 8).
//!
//! A pod has a slice reserved: five minutes, and what it may take to leave. What it used is charged every two and a half minutes, and
//! the slice is filled up again. Where that cannot be done and GPUs are to be released, no pod is wanted any more until the next window
//! or a higher limit; what is reserved lasts until the pods have left. Where they are not to be released they stay and are charged all
//! the same, past the limit too.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    Situation,
    rows::{free, leased, spent},
};
use crate::api::{BudgetStatus, GpuCharge, GpuTime, NanoUsd};

/// Time that is reserved for work.
const SLICE: Duration = Duration::from_secs(300);
/// How long a pod runs before its time is charged.
const CHARGE: Duration = Duration::from_secs(150);
/// Times are kept in whole seconds.
const LEAST: Duration = Duration::from_secs(1);

/// What the spec says of GPU time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuTerms {
    /// USD an hour of one pod.
    pub per_pod_hour: NanoUsd,
    /// How long a pod may take to leave.
    pub leave: Duration,
    /// Pods that are wanted.
    pub pods: u32,
    /// Pods leave when their time cannot be reserved.
    pub release: bool,
}

impl GpuTerms {
    /// What is reserved for a pod.
    fn slice(&self) -> u64 {
        cost(self.per_pod_hour, SLICE.saturating_add(self.leave))
    }

    /// What a pod needs to leave.
    fn leaving(&self) -> u64 {
        cost(self.per_pod_hour, self.leave)
    }

    /// How long a pod with so much reserved runs before its time is charged: while it waits for leases to make room, no longer than that
    /// it can still leave. One that has no more than that leaves, or stays whatever it costs.
    fn may_run(&self, NanoUsd(reserved): NanoUsd) -> Duration {
        let spare = u128::from(reserved.saturating_sub(self.leaving()));
        let seconds = spare
            .saturating_mul(3600)
            .checked_div(u128::from(self.per_pod_hour.0))
            .unwrap_or(0);
        let lasts = Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX));
        if spare == 0 { CHARGE } else { lasts.clamp(LEAST, CHARGE) }
    }
}

/// GPUs in the hand of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuHold {
    /// When the pod was scheduled.
    pub since: Timestamp,
    /// The pod is being deleted.
    pub leaves: bool,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Charged {
    /// Another number of pods may run now.
    pub urgent: bool,
    /// What is lacking and may come back from leases.
    pub unmet: u64,
    /// A pod's first or last charge needs a live read.
    pub look: bool,
}

/// What a time costs, rounded up.
fn cost(per_hour: NanoUsd, time: Duration) -> u64 {
    let nanos = u128::from(per_hour.0).saturating_mul(u128::from(time.as_secs()));
    u64::try_from(nanos.div_ceil(3600)).unwrap_or(u64::MAX)
}

/// True when something is to be charged or reserved.
pub(super) fn wanted(ledger: &BudgetStatus, terms: Option<&GpuTerms>) -> bool {
    ledger.gpu_time.is_some() || terms.is_some_and(|terms| terms.pods > 0)
}

/// When the next charge is due.
#[must_use]
pub fn next_charge(ledger: &BudgetStatus, terms: Option<&GpuTerms>) -> Option<Timestamp> {
    let (time, terms) = (ledger.gpu_time.as_ref()?, terms?);
    let due = |pod: &GpuCharge| pod.until.0.checked_add(terms.may_run(pod.reserved)).ok();
    time.pods.iter().filter_map(due).min()
}

/// Charges what is due and reserves what comes. Without terms what was used is charged, and that is all.
pub(super) fn charge(
    ledger: &mut BudgetStatus,
    situation: &Situation<'_>,
    terms: Option<&GpuTerms>,
    now: Timestamp,
) -> Charged {
    let now = whole_seconds(now);
    let Some(terms) = terms else {
        book_all(ledger, now);
        ledger.gpu_time = None;
        return Charged::default();
    };
    let before = ledger.gpu_time.as_ref().map(|time| time.wanted);
    begin(ledger, terms, now);
    if follow_pods(ledger, situation, terms, now) {
        let look = true;
        return Charged {
            look,
            ..Charged::default()
        };
    }
    if next_charge(ledger, Some(terms)).is_some_and(|at| at <= now) || shrinks(ledger) {
        book_all(ledger, now);
    }
    let to_come = ledger
        .gpu_time
        .as_ref()
        .map_or(0, |time| to_come(time, situation, terms));
    let unmet = reserve(ledger, situation, terms);
    let wanted = ledger.gpu_time.as_ref().map(|time| time.wanted);
    let look = keep_ahead(ledger, to_come, wanted >= before && situation.live) && !situation.live;
    let urgent = before != wanted;
    Charged { urgent, unmet, look }
}

/// What is reserved cannot be kept: the limit was lowered. What was used of it is charged while it is there, or requests would be granted
/// it when the limit is raised again.
fn shrinks(ledger: &BudgetStatus) -> bool {
    let pods = ledger.gpu_time.iter().flat_map(|time| &time.pods);
    let reserved = pods.map(|pod| pod.reserved.0).max().unwrap_or(0);
    reserved > 0 && spent(ledger).saturating_add(leased(ledger)) > ledger.limit.0
}

/// The pod runs on, as far as is known.
fn stays(pod: &GpuCharge, situation: &Situation<'_>) -> bool {
    situation.gpu_hold(&pod.pod_uid).is_some_and(|hold| !hold.leaves)
}

/// What pods need that may have come and are not known yet: those that are to come, and successors of those that leave or are gone.
fn to_come(time: &GpuTime, situation: &Situation<'_>, terms: &GpuTerms) -> u64 {
    let there = time.pods.iter().filter(|pod| stays(pod, situation)).count();
    let lacking = time.wanted.saturating_sub(u32::try_from(there).unwrap_or(u32::MAX));
    terms.slice().saturating_mul(u64::from(lacking)).max(time.ahead.0)
}

/// What is reserved for pods that are to come stays when fewer are wanted, until a live read after that has shown that none has come
/// in between: such a pod costs money until it is gone. True when it stays.
fn keep_ahead(ledger: &mut BudgetStatus, to_come: u64, none_came: bool) -> bool {
    let left = free(ledger);
    let Some(time) = &mut ledger.gpu_time else { return false };
    let freed = to_come.saturating_sub(time.ahead.0).min(left);
    let stays = freed > 0 && !none_came;
    if stays {
        add(&mut time.ahead, freed);
    }
    stays
}

/// As the API keeps times.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Time is charged from now on. At another price what was used until now is charged at the old one.
fn begin(ledger: &mut BudgetStatus, terms: &GpuTerms, now: Timestamp) {
    let other = |time: &GpuTime| time.per_pod_hour != terms.per_pod_hour;
    if ledger.gpu_time.as_ref().is_some_and(other) {
        book_all(ledger, now);
    }
    let time = ledger.gpu_time.get_or_insert_with(|| GpuTime {
        since: Some(Time(now)),
        ..GpuTime::default()
    });
    time.per_pod_hour = terms.per_pod_hour;
}

/// New pods get their row with what was reserved for them, and those that are gone lose it. True when only a live read can tell.
fn follow_pods(ledger: &mut BudgetStatus, situation: &Situation<'_>, terms: &GpuTerms, now: Timestamp) -> bool {
    let Some(mut time) = ledger.gpu_time.take() else {
        return false;
    };
    let is_there = |uid: &str| situation.gpu_hold(uid).is_some();
    let is_known = |uid: &str| time.pods.iter().any(|pod| pod.pod_uid == uid);
    let holders = situation.holders.iter().filter_map(|h| Some((h, h.gpus?)));
    let new: Vec<_> = holders.filter(|(holder, _)| !is_known(holder.pod_uid)).collect();
    let changed = !new.is_empty() || time.pods.iter().any(|pod| !is_there(&pod.pod_uid));
    if situation.live {
        for pod in time.pods.extract_if(.., |pod| !is_there(&pod.pod_uid)) {
            let (_, used) = used(time.per_pod_hour, &pod, now);
            add(&mut ledger.settled, used);
            add(&mut time.settled, used);
        }
        let starts = [&ledger.window.start, &time.since].into_iter().flatten();
        let first = starts.map(|start| start.0).max().unwrap_or(now);
        for (holder, gpus) in new {
            let reserved = NanoUsd(time.ahead.0.min(terms.slice()));
            time.ahead.0 -= reserved.0;
            time.pods.push(GpuCharge {
                pod: holder.pod.to_owned(),
                pod_uid: holder.pod_uid.to_owned(),
                until: Time(whole_seconds(gpus.since).max(first)),
                reserved,
            });
        }
    }
    ledger.gpu_time = Some(time);
    changed && !situation.live
}

/// Until when a pod is charged at `now`, and what that costs.
fn used(per_hour: NanoUsd, pod: &GpuCharge, now: Timestamp) -> (Timestamp, u64) {
    let time = Duration::try_from(now.duration_since(pod.until.0)).unwrap_or_default();
    (pod.until.0.max(now), cost(per_hour, time))
}

const fn add(to: &mut NanoUsd, amount: u64) {
    to.0 = to.0.saturating_add(amount);
}

/// Charges every pod until `now`.
fn book_all(ledger: &mut BudgetStatus, now: Timestamp) {
    let Some(time) = &mut ledger.gpu_time else { return };
    for pod in &mut time.pods {
        let (until, used) = used(time.per_pod_hour, pod, now);
        pod.until = Time(until);
        pod.reserved.0 = pod.reserved.0.saturating_sub(used);
        add(&mut ledger.settled, used);
        add(&mut time.settled, used);
    }
}

/// The window ends: the time until `end` is its own, and of the next nothing is reserved yet.
pub(super) fn turn(ledger: &mut BudgetStatus, end: Timestamp) {
    book_all(ledger, end);
    let Some(time) = &mut ledger.gpu_time else { return };
    (time.settled, time.ahead, time.released_at) = (NanoUsd(0), NanoUsd(0), None);
    for pod in &mut time.pods {
        pod.reserved = NanoUsd(0);
    }
}

/// Fills up the slices of pods that are there and of those that are to come. Returns what is lacking and may come back from leases.
fn reserve(ledger: &mut BudgetStatus, situation: &Situation<'_>, terms: &GpuTerms) -> u64 {
    let Some(mut time) = ledger.gpu_time.take() else {
        return 0;
    };
    let room = Room {
        most: free(ledger),
        recallable: leased(ledger),
        slice: terms.slice(),
        leaving: terms.leaving(),
    };
    if time.released_at.is_some_and(|at| ledger.limit > at || !terms.release) {
        time.released_at = None;
    }
    let mut unmet = 0;
    if time.released_at.is_none() {
        let plan = room.plan(&mut time, situation, terms);
        unmet = plan.unmet;
        time.released_at = (plan.hopeless && terms.release).then_some(ledger.limit);
    }
    if time.released_at.is_some() {
        (time.wanted, time.ahead, unmet) = (0, NanoUsd(0), 0);
    }
    ledger.gpu_time = Some(time);
    unmet.min(room.recallable)
}

/// What there is for GPU time.
struct Room {
    /// Not spent, and not in the leases of requests.
    most: u64,
    /// In the leases of requests.
    recallable: u64,
    /// Of one pod.
    slice: u64,
    /// What a pod needs to leave.
    leaving: u64,
}

/// What became of it.
struct Plan {
    /// What is reserved will not last, and there is nothing to fill it up with.
    hopeless: bool,
    /// What may come back from leases and is of use.
    unmet: u64,
}

impl Room {
    /// Decides how many pods may run, and fills up.
    fn plan(&self, time: &mut GpuTime, situation: &Situation<'_>, terms: &GpuTerms) -> Plan {
        let (mut staying, mut leaving): (Vec<_>, Vec<_>) = time.pods.iter_mut().partition(|pod| stays(pod, situation));
        // A new window has nothing reserved for those that leave: they come first.
        let most = self.fill(&mut leaving, self.most, self.leaving);
        let there = u32::try_from(staying.len()).unwrap_or(u32::MAX);
        let left = self.fill(&mut staying, most, self.slice);
        let out = staying.iter().any(|pod| pod.reserved.0 <= self.leaving);
        time.wanted = self.may_run(time.wanted, there, most, terms);
        time.ahead = NanoUsd(self.slices(time.wanted.saturating_sub(there)).min(left));
        let needed = self.slices(there.max(time.wanted));
        // One pod more than may run is asked for, so that leases make room for it.
        let next = self.slices(terms.pods.min(time.wanted.saturating_add(1)));
        let (lack, growth) = (needed.saturating_sub(most), next.saturating_sub(most));
        let of_use = Some(growth).filter(|growth| *growth <= self.recallable);
        Plan {
            hopeless: lack > self.recallable || (lack > 0 && out) || (time.wanted == 0 && growth > self.recallable),
            unmet: lack.max(of_use.unwrap_or(0)),
        }
    }

    fn slices(&self, pods: u32) -> u64 {
        self.slice.saturating_mul(u64::from(pods))
    }

    /// Fills up what every pod has: first to what it needs to leave, then to `full`. Returns what is left.
    fn fill(&self, pods: &mut [&mut GpuCharge], most: u64, full: u64) -> u64 {
        let mut left = most;
        for pod in pods.iter_mut() {
            pod.reserved = NanoUsd(pod.reserved.0.min(self.slice).min(left));
            left -= pod.reserved.0;
        }
        for to in [self.leaving, full] {
            for pod in pods.iter_mut() {
                let more = to.saturating_sub(pod.reserved.0).min(left);
                pod.reserved.0 += more;
                left -= more;
            }
        }
        left
    }

    /// As many as may run already, and one more for every slice that is there.
    fn may_run(&self, now: u32, there: u32, most: u64, terms: &GpuTerms) -> u32 {
        if !terms.release {
            return terms.pods;
        }
        let mut wanted = now.min(terms.pods);
        while wanted < terms.pods && self.slices(there.max(wanted + 1)) <= most {
            wanted += 1;
        }
        wanted
    }
}
