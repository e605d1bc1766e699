//! The state of everything, and what must always be true of it.

use std::{collections::BTreeMap, rc::Rc};

use jiff::{SignedDuration, Timestamp};

use super::{Controller, gpus::Gpus, processes::Process};
use crate::{
    api::{Budget, BudgetPeriod, BudgetReport, BudgetStatus, NanoUsd, ReplicaBudget},
    policy::{
        budget::ledger::{GpuHold, Marks, Terms, attainable, outstanding},
        model::{ApiServer, Conflict, Dice},
    },
};

/// When schedules begin: a minute before a full hour.
pub const BEGIN: i64 = 1_795_431_540;

/// Name of the one deployment, and its UID.
pub const DEPLOYMENT: &str = "d";

/// What may happen in a schedule.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
pub struct Play {
    /// Containers, pods and controllers end.
    pub crashes: bool,
    /// Answers are lost.
    pub doubt: bool,
    /// Limit and calendar change.
    pub terms_change: bool,
    /// The status is wiped or set back.
    pub wipes: bool,
    /// Pods with priced GPUs come and go beside the others.
    pub gpus: Option<Gpus>,
}

/// The `InferenceDeployment`.
#[derive(Clone, Debug)]
pub struct Deployment {
    pub terms: usize,
    /// Pods with GPUs that are wanted.
    pub gpu_pods: u32,
    pub ledger: Option<BudgetStatus>,
    pub marks: Marks,
}

/// An `InferenceReplica`.
#[derive(Clone, Debug)]
pub struct Replica {
    pub pod_uid: Rc<str>,
    pub deleting: bool,
    pub spec: Option<ReplicaBudget>,
    pub boot: Option<Rc<str>>,
    pub report: Option<BudgetReport>,
}

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    pub uid: Rc<str>,
    pub ended: bool,
    pub gpus: Option<GpuHold>,
}

/// A write that is under way.
#[derive(Debug)]
pub enum Write {
    Deployment(u64, Rc<Deployment>),
    Replica(Rc<str>, u64, Rc<Replica>),
}

pub struct World {
    pub play: Play,
    pub now: Timestamp,
    pub all_terms: Vec<Terms>,
    pub deployments: ApiServer<Rc<Deployment>>,
    pub replicas: ApiServer<Rc<Replica>>,
    pub pods: ApiServer<Rc<Pod>>,
    pub processes: Vec<Process>,
    pub controllers: Vec<Controller>,
    pub under_way: Vec<Write>,
    pub uids: u64,
    /// What the provider billed, by number of the window.
    pub billed: BTreeMap<u64, u64>,
    /// Settled and uncertain of every window, as the ledger had them last.
    pub books: BTreeMap<u64, (u64, u64)>,
    /// Windows of the ledger by the instant the calendar's began: after a loss several numbers share one.
    pub began: BTreeMap<u64, Option<Timestamp>>,
    /// When windows end, as the ledger had it last.
    pub ends: BTreeMap<u64, Option<Timestamp>>,
    /// The highest limit that was in force in a window.
    pub limits: BTreeMap<Option<Timestamp>, u64>,
    /// Version of the deployment that was checked last.
    pub checked: u64,
    pub granted: u64,
    /// An earlier state of the ledger.
    pub backup: Option<BudgetStatus>,
    /// Since when and until when pods had GPUs that have them no more.
    pub gpu_past: Vec<(Timestamp, Timestamp)>,
}

fn terms(limit: &str, period: BudgetPeriod) -> Terms {
    let budget = Budget {
        limit: limit.parse().unwrap(),
        period: Some(period),
        time_zone: None,
        on_exhausted: None,
        warn_at_percent: vec![50, 80],
    };
    Terms::new(&budget).unwrap()
}

thread_local! {
    static TERMS: Vec<Terms> = vec![
        terms("0.0000003", BudgetPeriod::Hour),
        terms("0.0000001", BudgetPeriod::Hour),
        terms("0.0000005", BudgetPeriod::Day),
        terms("0.0000002", BudgetPeriod::Total),
    ];
}

impl World {
    pub fn new(play: Play, dice: &mut Dice) -> Self {
        let mut world = Self {
            play,
            now: Timestamp::from_second(BEGIN).unwrap(),
            all_terms: TERMS.with(Clone::clone),
            deployments: ApiServer::default(),
            replicas: ApiServer::default(),
            pods: ApiServer::default(),
            processes: Vec::new(),
            controllers: Vec::new(),
            under_way: Vec::new(),
            uids: 0,
            billed: BTreeMap::new(),
            books: BTreeMap::new(),
            began: BTreeMap::new(),
            ends: BTreeMap::new(),
            limits: BTreeMap::new(),
            checked: 0,
            granted: 0,
            backup: None,
            gpu_past: Vec::new(),
        };
        let deployment = Deployment {
            terms: dice.throw(2),
            gpu_pods: u32::try_from(dice.throw(3)).unwrap(),
            ledger: None,
            marks: Marks::default(),
        };
        world.deployments.put(DEPLOYMENT, Rc::new(deployment));
        for number in 0..=dice.throw(3) {
            world.new_pod(&format!("p{number}"));
        }
        for _ in 0..=dice.throw(2) {
            world.controllers.push(Controller::new(world.play.grain(), dice));
        }
        world.sweep();
        world.warm_up(dice);
        world
    }

    /// Everybody knows everybody, and most have something.
    fn warm_up(&mut self, dice: &mut Dice) {
        for process in 0..self.processes.len() {
            self.hear(process, dice);
            self.request(process, dice);
            self.report(process, dice);
        }
        for _ in 0..3 {
            self.reconcile_at_once();
        }
        for process in 0..self.processes.len() {
            self.hear(process, dice);
        }
    }

    /// A pod with its container, and no `InferenceReplica` yet.
    pub fn new_pod(&mut self, name: &str) {
        self.new_pod_with(name, None);
    }

    pub fn new_pod_with(&mut self, name: &str, gpus: Option<GpuHold>) {
        self.uids += 1;
        let uid: Rc<str> = format!("u{}", self.uids).into();
        let pod = Pod {
            uid: Rc::clone(&uid),
            ended: false,
            gpus,
        };
        self.pods.put(name, Rc::new(pod));
        self.processes.push(Process::new(name, &uid, self.uids));
    }

    pub fn deployment(&self) -> Rc<Deployment> {
        self.deployments.get(DEPLOYMENT).unwrap().object
    }

    pub fn time_passes(&mut self, dice: &mut Dice) {
        if self.play.gpus.is_some() {
            return self.gpu_time_passes([10, 40, 150, 200, 330][dice.throw(5)], dice);
        }
        let seconds = [1, 3, 10, 35, 90][dice.throw(5)];
        self.now += SignedDuration::from_secs(seconds);
    }

    /// A write is sent; it arrives now, later, or never. Gives the new version when it is known to have been done, else whether it is
    /// known that it was not.
    pub fn send(&mut self, write: Write, dice: &mut Dice) -> Result<u64, bool> {
        match dice.throw(24) {
            0 => {
                self.under_way.push(write);
                Err(false)
            }
            1 => Err(false),
            // Done, but the answer is lost.
            2 => {
                let _ = self.arrive(write);
                Err(false)
            }
            _ => self.arrive(write).map_err(|Conflict| true),
        }
    }

    /// The API server carries a write out, if nobody was faster.
    pub fn arrive(&mut self, write: Write) -> Result<u64, Conflict> {
        match write {
            Write::Deployment(seen, object) => self.deployments.put_if(DEPLOYMENT, object, Some(seen)),
            Write::Replica(name, seen, object) => self.replicas.put_if(&name, object, Some(seen)),
        }
    }

    /// One of the writes that are under way arrives.
    pub fn network(&mut self, dice: &mut Dice) {
        if !self.under_way.is_empty() {
            let write = self.under_way.swap_remove(dice.throw(self.under_way.len()));
            let _ = self.arrive(write);
        }
    }

    /// Somebody changes the spec, sets the status back, or follows the runbook after a loss.
    pub fn somebody_intervenes(&mut self, dice: &mut Dice) {
        let mut deployment = (*self.deployment()).clone();
        if self.play.terms_change && dice.once_in(2) {
            deployment.terms = dice.throw(self.all_terms.len());
        } else if self.play.gpus.is_some() {
            deployment.gpu_pods = u32::try_from(dice.throw(4)).unwrap();
        } else if self.play.wipes && deployment.ledger.as_ref().is_some_and(|ledger| ledger.lost.is_none()) {
            // An older one is noticed while any replica of the time since is left.
            let seen = self.newest_seen();
            deployment.ledger = self
                .backup
                .take()
                .filter(|backup| backup.sequence < seen && dice.once_in(2));
        } else {
            return self.runbook();
        }
        self.deployments.put(DEPLOYMENT, Rc::new(deployment));
        self.note();
    }

    fn newest_seen(&self) -> u64 {
        let replicas = self
            .replicas
            .names()
            .into_iter()
            .filter_map(|name| self.replicas.get(&name));
        let specs = replicas.filter_map(|replica| Some(replica.object.spec.as_ref()?.sequence));
        specs.max().unwrap_or(0)
    }

    /// States what was billed once nothing is leased any more.
    pub fn runbook(&mut self) {
        let deployment = self.deployment();
        let Some(ledger) = deployment.ledger.as_ref().filter(|ledger| ledger.lost.is_some()) else {
            return;
        };
        let stated = deployment.marks.adopt.or_else(|| ledger.lost.as_ref()?.adopting);
        if stated.is_some() || ledger.leases.iter().any(|row| outstanding(row) > 0) {
            return;
        }
        // A process that nobody knows any more is looked for before the amount is stated.
        for process in &mut self.processes {
            if process.pod_uid_is_gone(&self.pods) {
                process.kill(&mut self.billed);
            }
        }
        let began = self.began.get(&ledger.window.number).copied().flatten();
        let mut deployment = (*deployment).clone();
        deployment.marks.adopt = Some(NanoUsd(self.bill(began)));
        self.deployments.put(DEPLOYMENT, Rc::new(deployment));
    }

    /// What the provider says of the windows that began at `began`.
    pub fn bill(&self, began: Option<Timestamp>) -> u64 {
        let same = |number: &u64| self.began.get(number).copied().flatten() == began;
        self.billed
            .iter()
            .filter(|(number, _)| same(number))
            .map(|(_, amount)| amount)
            .sum()
    }

    /// Billed, in flight, or free in somebody's hands, in the windows that began at `began`.
    pub fn exposure(&self, began: Option<Timestamp>) -> u64 {
        let same = |number: &u64| self.began.get(number).copied().flatten() == began;
        let billed = self.bill(began);
        let held = self
            .processes
            .iter()
            .flat_map(Process::held)
            .filter(|(number, _)| same(number));
        billed + held.map(|(_, amount)| amount).sum::<u64>()
    }

    /// Remembers what the ledger says, and checks it.
    pub fn note(&mut self) {
        let stored = self.deployments.get(DEPLOYMENT).unwrap();
        if stored.version == self.checked {
            return;
        }
        self.checked = stored.version;
        let Some(ledger) = &stored.object.ledger else { return };
        if stored.version.is_multiple_of(4) {
            self.backup = Some(ledger.clone());
        }
        let began = ledger.window.start.as_ref().map(|start| start.0);
        self.began.insert(ledger.window.number, began);
        let end = ledger.window.end.as_ref().map(|end| end.0);
        self.ends.insert(ledger.window.number, end);
        let limit = self.limits.entry(began).or_default();
        *limit = (*limit)
            .max(ledger.limit.0)
            .max(self.all_terms[stored.object.terms].limit.0);
        self.books
            .insert(ledger.window.number, (ledger.settled.0, ledger.uncertain.0));
        for window in &ledger.closed_windows {
            self.books.insert(window.number, (window.settled.0, window.uncertain.0));
        }
        let granted: u64 = ledger.leases.iter().map(|row| row.granted.0).sum();
        let used = ledger.settled.0 + ledger.uncertain.0 + ledger.leased.0 - self.play.beyond_the_limit(ledger);
        assert!(
            granted <= self.granted || ledger.lost.is_some() || used <= ledger.limit.0,
            "granted beyond the limit: {ledger:#?}"
        );
        assert!(ledger.lost.is_some() || used <= *limit, "beyond the limit: {ledger:#?}");
        self.granted = granted;
    }

    /// What must be true after every step.
    pub fn check(&mut self) {
        self.note();
        for (began, limit) in &self.limits {
            let exposure = self.exposure(*began) + self.gpu_exposure(*began);
            assert!(exposure <= *limit, "{exposure} of {limit} in the window from {began:?}");
        }
    }

    /// A request was told that the budget is spent.
    pub fn denied(&self, amount: u64, window: u64) {
        let deployment = self.deployment();
        let Some(ledger) = &deployment.ledger else { return };
        // What is reserved for GPUs comes back when their pods have left.
        let steady = !self.play.terms_change && !self.play.wipes && self.play.gpus.is_none();
        let comparable = ledger.window.number == window && steady;
        assert!(
            !comparable || amount > attainable(ledger),
            "denied {amount} of {}",
            attainable(ledger)
        );
    }
}
