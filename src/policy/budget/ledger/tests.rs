//! The known interleavings by name, and what people see. All of them together, at random, are in `policy::budget::model`.

mod gpu;
mod loss;
mod money;
mod processes;
mod windows;

use jiff::Timestamp;

use super::*;
use crate::api::{
    Budget, BudgetReport, BudgetStatus, EndedProcess, LeaseReport, LeaseRow, NanoUsd, ReplicaBudget, Want,
};

/// A replica, as the API server has it.
#[derive(Clone, Debug)]
struct Replica {
    pod: String,
    uid: String,
    lives: bool,
    gpus: Option<GpuHold>,
    object: bool,
    deleting: bool,
    spec: Option<ReplicaBudget>,
    boot: Option<String>,
    report: BudgetReport,
}

/// Everything that a decision is made of, with one budget of 1,000 nano-USD an hour.
#[derive(Clone, Debug)]
struct Scene {
    ledger: Option<BudgetStatus>,
    budget: Budget,
    gpu: Option<GpuTerms>,
    marks: Marks,
    replicas: Vec<Replica>,
    clocks: Clocks,
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn replica(number: usize) -> Replica {
    Replica {
        pod: format!("p{number}"),
        uid: format!("u{number}"),
        lives: true,
        gpus: None,
        object: true,
        deleting: false,
        spec: None,
        boot: Some(format!("b{number}")),
        report: BudgetReport::default(),
    }
}

impl Scene {
    /// Replicas that want nothing, in a window that is marked.
    fn new(replicas: usize) -> Self {
        let mut scene = Self {
            ledger: None,
            budget: serde_json::from_str(r#"{"limit": "0.000001", "period": "Hour"}"#).unwrap(),
            gpu: None,
            marks: Marks::default(),
            replicas: (0..replicas).map(replica).collect(),
            clocks: Clocks {
                local: at("2026-11-23T10:30:00Z"),
                server: at("2026-11-23T10:30:00Z"),
            },
        };
        scene.settle();
        let mark = Mark {
            uid: "d".to_owned(),
            number: 1,
        };
        scene.marks.window = Some(mark);
        scene
    }

    fn now(&mut self, text: &str) {
        self.clocks = Clocks {
            local: at(text),
            server: at(text),
        };
    }

    fn with<T>(&self, live: bool, look: impl FnOnce(&Situation<'_>) -> T) -> T {
        let holders: Vec<Holder<'_>> = self.replicas.iter().map(Replica::holder).collect();
        let gpu = self.gpu;
        let terms = Terms {
            gpu,
            ..Terms::new(&self.budget).unwrap()
        };
        look(&Situation {
            uid: "d",
            ledger: self.ledger.as_ref(),
            terms: Some(&terms),
            marks: &self.marks,
            holders: &holders,
            clocks: self.clocks,
            live,
        })
    }

    /// A decision on what the caches have.
    fn cached(&self) -> Decision {
        self.with(false, decide)
    }

    fn live(&self) -> Decision {
        self.with(true, decide)
    }

    /// Decides on live reads and carries it out, until there is nothing more to do.
    fn settle(&mut self) {
        for _ in 0..10 {
            let decision = self.live();
            let next = decision.ledger.clone().or(self.ledger.clone());
            let told = self.tell(next.as_ref());
            let changed = decision.ledger.is_some() || decision.mark.is_some() || decision.remove != Remove::default();
            self.ledger = next;
            self.marks.window = decision.mark.or(self.marks.window.take());
            self.marks.adopt.take_if(|_| decision.remove.adopt);
            self.marks.write_off.take_if(|_| decision.remove.write_off);
            if !changed && !told {
                return;
            }
        }
        panic!("it never settles: {self:#?}");
    }

    /// Writes the specs of all replicas from `ledger`.
    fn tell(&mut self, ledger: Option<&BudgetStatus>) -> bool {
        let mut told = false;
        for replica in &mut self.replicas {
            let spec = ledger.and_then(|ledger| projection(ledger, &replica.holder()));
            told |= spec.is_some();
            replica.spec = spec.or(replica.spec.take());
        }
        told
    }

    fn ledger(&self) -> &BudgetStatus {
        self.ledger.as_ref().unwrap()
    }

    fn row(&self, boot: &str) -> &LeaseRow {
        let row = self.ledger().leases.iter().find(|row| row.boot_id == boot);
        row.unwrap_or_else(|| panic!("no row of {boot}: {:#?}", self.ledger))
    }

    fn outstanding(&self, boot: &str) -> u64 {
        outstanding(self.row(boot))
    }

    /// Settled, uncertain, leased.
    fn shown(&self) -> (u64, u64, u64) {
        let ledger = self.ledger();
        (ledger.settled.0, ledger.uncertain.0, ledger.leased.0)
    }

    /// The replica says what it did with the lease it has been told of.
    fn report(&mut self, number: usize, settled: u64, uncertain: u64, surrendered: u64) {
        let row = self.row(&format!("b{number}")).clone();
        self.replicas[number].report.leases = vec![LeaseReport {
            id: row.id,
            granted: row.granted,
            surrendered: NanoUsd(surrendered),
            settled: NanoUsd(settled),
            uncertain: NanoUsd(uncertain),
            reserved: NanoUsd(0),
        }];
    }

    /// The replica wants `amount` for a request that waits.
    fn wants(&mut self, number: usize, amount: u64) {
        let report = &mut self.replicas[number].report;
        let sequence = report.want.as_ref().map_or(0, |want| want.sequence) + 1;
        report.want = (amount > 0).then_some(Want {
            sequence,
            amount: NanoUsd(amount),
            least: NanoUsd(amount),
            request: NanoUsd(amount),
        });
    }

    /// The replica gets `amount` and wants nothing more.
    fn lease(&mut self, number: usize, amount: u64) {
        self.wants(number, amount);
        self.settle();
        self.wants(number, 0);
        self.report(number, 0, 0, 0);
    }
}

impl Replica {
    fn holder(&self) -> Holder<'_> {
        Holder {
            pod: &self.pod,
            pod_uid: &self.uid,
            pod_lives: self.lives,
            gpus: self.gpus,
            object: self.object.then_some(Object {
                deleting: self.deleting,
                spec: self.spec.as_ref(),
                boot_id: self.boot.as_deref(),
                report: self.boot.as_ref().map(|_| &self.report),
            }),
        }
    }

    /// The container is started anew.
    fn restarts(&mut self, boot: &str, ended: Vec<EndedProcess>) {
        self.boot = Some(boot.to_owned());
        self.report = BudgetReport {
            ended,
            ..BudgetReport::default()
        };
    }
}
