//! A model of replicas, two controllers and the API server, under delays, crashes, lost and stale messages: the machines are the real
//! ones. Whatever happens, no half-open round sees more calls than `half_open_probes`, and no more of them are in flight at once; and
//! once the provider is well and requests come, the circuit closes for everybody.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{Merged, Replica, Subject, merge, project};
use crate::{
    api::{CircuitScope, CircuitState, CircuitStatus, MergedCircuit, ReplicaCircuit},
    error::ErrorKind,
    policy::{
        circuit::{Circuit, CircuitConfig, Label, Permit, Verdict, Word},
        model::{ApiServer, Cache, Dice, Versioned, schedules},
    },
};

const DEPLOYMENT: &str = "d";
const STEPS: usize = 24;

/// An `InferenceReplica`, as far as it speaks of the circuit.
#[derive(Clone, Debug, Default)]
struct Object {
    told: Option<MergedCircuit>,
    report: Option<ReplicaCircuit>,
    speaks: bool,
}

struct Call {
    permit: Permit,
    started: Duration,
    /// The round that it probes in.
    round: Option<u64>,
}

struct Runtime {
    name: String,
    started: Duration,
    circuit: Circuit,
    /// A state of its object that is on its way.
    mail: Option<Versioned<Object>>,
    told: u64,
    calls: Vec<Call>,
    written: Vec<Option<ReplicaCircuit>>,
    writing: Option<StatusWrite>,
}

#[derive(Clone)]
struct StatusWrite {
    report: Option<ReplicaCircuit>,
    over: Option<u64>,
}

struct SpecWrite {
    name: String,
    told: MergedCircuit,
    over: u64,
}

#[derive(Default)]
struct Controller {
    deployment: Cache<Option<CircuitStatus>>,
    objects: Cache<Object>,
    writes: Vec<SpecWrite>,
    ahead: Duration,
    look_again: Option<Timestamp>,
}

/// What nobody in the model knows.
#[derive(Default)]
struct Truth {
    /// Round of every token that was ever recorded.
    round_of: BTreeMap<u64, u64>,
    /// Calls of every round.
    calls: BTreeMap<u64, u32>,
}

struct World<'d> {
    dice: &'d mut Dice,
    subject: &'d Subject,
    now: Duration,
    deployments: ApiServer<Option<CircuitStatus>>,
    objects: ApiServer<Object>,
    runtimes: Vec<Runtime>,
    controllers: [Controller; 2],
    born: usize,
    healthy: bool,
    truth: Truth,
}

fn at(time: Duration) -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap() + time
}

fn subject(probes: u32) -> Subject {
    Subject {
        backend: "far".into(),
        scope: CircuitScope::Endpoint,
        provider: "OpenAI".into(),
        endpoint: "https://far.example".into(),
        target: "t".into(),
        config: CircuitConfig {
            consecutive_failures: 1,
            open_duration: Duration::from_secs(2),
            max_open_duration: Duration::from_secs(8),
            half_open_probes: probes,
            first_token: Duration::from_secs(1),
            ..CircuitConfig::default()
        },
    }
}

impl Runtime {
    fn clock(&self, now: Duration) -> Duration {
        now.saturating_sub(self.started)
    }

    fn obey(&mut self, state: &Versioned<Object>, now: Duration) {
        if state.version <= self.told {
            return;
        }
        self.told = state.version;
        let Some(merged) = &state.object.told else { return };
        let started = self.started;
        let word = Word::of(merged, None, |when| {
            Duration::try_from(when.duration_since(at(started))).unwrap_or_default()
        });
        let recorded = state.object.report.as_ref().and_then(|r| r.probe);
        let clock = self.clock(now);
        self.circuit.obey(&word, recorded, clock);
    }

    /// What it would write now, if that is news.
    fn news(&mut self, now: Duration) -> Option<StatusWrite> {
        let (clock, started) = (self.clock(now), self.started);
        self.circuit.tick(clock);
        let view = self.circuit.view(clock);
        let label = Label {
            backend: "far",
            scope: CircuitScope::Endpoint,
            target: "t",
        };
        let report = view.report(label, None, |when| at(started + when));
        let news = self.written.last() != Some(&report);
        news.then_some(StatusWrite {
            report,
            over: view.accepting.then_some(self.told),
        })
    }
}

impl<'d> World<'d> {
    fn new(dice: &'d mut Dice, subject: &'d Subject) -> Self {
        let replicas = 1 + dice.throw(3);
        let mut world = Self {
            subject,
            now: Duration::from_secs(1),
            deployments: ApiServer::default(),
            objects: ApiServer::default(),
            runtimes: Vec::new(),
            controllers: <[Controller; 2]>::default(),
            born: 0,
            healthy: false,
            truth: Truth::default(),
            dice,
        };
        world.controllers[1].ahead = Duration::from_millis(world.dice.throw(3_000) as u64);
        world.deployments.put(DEPLOYMENT, None);
        for _ in 0..replicas {
            world.bear();
        }
        world
    }

    /// A controller starts: it lists everything before it decides anything.
    fn lead(&mut self, which: usize) {
        let ahead = self.controllers[which].ahead;
        self.controllers[which] = Controller {
            ahead,
            ..Controller::default()
        };
        self.controllers[which].deployment.catch_up(&self.deployments);
        self.controllers[which].objects.catch_up(&self.objects);
    }

    /// A new pod; the controller that sees it first tells it what it knows.
    fn bear(&mut self) {
        self.born += 1;
        let name = format!("r{}", self.born);
        let creator = self.dice.throw(2);
        let row = self.controllers[creator].deployment.get(DEPLOYMENT);
        let told = row
            .and_then(|row| row.object.as_ref())
            .and_then(|row| project(row, "t", &name, None));
        let object = Object {
            told,
            ..Object::default()
        };
        self.objects.put(&name, object);
        let runtime = self.boot(name);
        self.runtimes.push(runtime);
    }

    /// A process starts: it reads its object live before it sends anything.
    fn boot(&self, name: String) -> Runtime {
        let mut runtime = Runtime {
            circuit: Circuit::new(self.subject.config.clone()),
            started: self.now,
            mail: None,
            told: 0,
            calls: Vec::new(),
            written: Vec::new(),
            writing: None,
            name,
        };
        let live = self.objects.get(&runtime.name).unwrap();
        runtime.obey(&live, self.now);
        runtime
    }

    fn request(&mut self, which: usize) {
        let now = self.now;
        let runtime = &mut self.runtimes[which];
        let clock = runtime.clock(now);
        let Ok(permit) = runtime.circuit.admit(clock) else {
            return;
        };
        let token = runtime.circuit.view(clock).probe.filter(|_| permit.is_probe());
        let round = token.map(|token| self.truth.round_of[&token.sequence]);
        let started = now;
        runtime.calls.push(Call { permit, started, round });
        let Some(round) = round else { return };
        let probes = self.subject.config.half_open_probes;
        let calls = self.truth.calls.entry(round).or_default();
        *calls += 1;
        assert!(*calls <= probes, "{calls} calls in the round after decision {round}");
        let deadline = self.subject.config.verdict_deadline();
        let calls = self.runtimes.iter().flat_map(|r| &r.calls);
        let flying = calls.filter(|c| c.round.is_some() && now.saturating_sub(c.started) < deadline);
        assert!(flying.count() <= probes as usize, "too many probes at once");
    }

    fn finish(&mut self, which: usize) {
        let (healthy, odd, now, jitter) = (self.healthy, self.dice.throw(12), self.now, self.dice.jitter());
        let runtime = &mut self.runtimes[which];
        let Some(mut call) = runtime.calls.pop() else { return };
        let clock = runtime.clock(now);
        let verdict = match odd {
            0 => Verdict::NotCounted,
            1 => Verdict::Unsent,
            2 => {
                runtime.circuit.begun(&mut call.permit);
                return runtime.calls.insert(0, call);
            }
            _ if healthy => Verdict::Success,
            _ => Verdict::Failure {
                kind: ErrorKind::ServerError,
                retry_after: None,
            },
        };
        if let (1, Some(round)) = (odd, call.round) {
            *self.truth.calls.entry(round).or_default() -= 1;
        }
        runtime.circuit.record(call.permit, verdict, clock, jitter);
    }

    /// The watch delivers: the state of this moment, or the one that was sent before.
    fn hear(&mut self, which: usize, late: bool) {
        let (now, runtime) = (self.now, &mut self.runtimes[which]);
        let sent = self.objects.get(&runtime.name);
        let state = if late {
            std::mem::replace(&mut runtime.mail, sent)
        } else {
            runtime.mail = None;
            sent
        };
        if let Some(state) = state {
            runtime.obey(&state, now);
        }
    }

    fn report(&mut self, which: usize) {
        let runtime = &mut self.runtimes[which];
        if runtime.writing.is_none() {
            runtime.writing = runtime.news(self.now);
        }
    }

    /// A status write arrives; its answer may not.
    fn arrive(&mut self, which: usize, answered: bool) {
        let runtime = &mut self.runtimes[which];
        let Some(StatusWrite { report, over }) = runtime.writing.take() else {
            return;
        };
        let Some(live) = self.objects.get(&runtime.name) else {
            return;
        };
        if over.is_some_and(|version| version != live.version) {
            return;
        }
        let object = Object {
            told: live.object.told,
            report: report.clone(),
            speaks: true,
        };
        self.objects.put(&runtime.name, object);
        if !answered {
            return;
        }
        if let (Some(_), Some(probe)) = (over, report.as_ref().and_then(|r| r.probe)) {
            runtime.circuit.accepted(probe.sequence);
        }
        runtime.written = vec![report];
    }

    /// Decides on what its caches show, records that, and sends the replicas word; it may die in between.
    fn decide(&mut self, which: usize) {
        let (jitter, dies) = (self.dice.jitter(), self.dice.once_in(20));
        let controller = &mut self.controllers[which];
        let Some(before) = controller.deployment.get(DEPLOYMENT) else {
            return;
        };
        let objects: Vec<_> = controller.objects.all().collect();
        let replicas: Vec<_> = objects
            .iter()
            .map(|(name, state)| Replica {
                name,
                told: state.object.told.as_ref(),
                report: state.object.report.as_ref(),
                speaks: state.object.speaks,
                stays: true,
            })
            .collect();
        let now = at(self.now + controller.ahead);
        let Merged { row, look_again } = merge(self.subject, before.object.as_ref(), &replicas, now, jitter);
        controller.look_again = look_again;
        if row != before.object {
            if self
                .deployments
                .put_if(DEPLOYMENT, row.clone(), Some(before.version))
                .is_err()
            {
                return;
            }
            self.truth.record(row.as_ref());
        }
        let Some(row) = row.filter(|_| !dies) else { return };
        for (name, state) in objects {
            let told = project(&row, "t", name, state.object.told.as_ref());
            controller.writes.extend(told.map(|told| SpecWrite {
                name: name.clone(),
                told,
                over: state.version,
            }));
        }
    }

    /// A word of a controller arrives, if nothing was written to the object since it was decided on.
    fn tell(&mut self, which: usize, index: usize) {
        let writes = &mut self.controllers[which].writes;
        if writes.is_empty() {
            return;
        }
        let SpecWrite { name, told, over } = writes.remove(index % writes.len());
        let Some(live) = self.objects.get(&name) else { return };
        let object = Object {
            told: Some(told),
            ..live.object
        };
        let _ = self.objects.put_if(&name, object, Some(over));
    }

    /// The provider is dead, and everybody has noticed: where most schedules begin.
    fn dawn(&mut self) {
        for which in 0..self.runtimes.len() {
            self.request(which);
            while !self.runtimes[which].calls.is_empty() {
                self.finish(which);
            }
            self.report(which);
            self.arrive(which, true);
        }
        self.lead(0);
        self.decide(0);
        while !self.controllers[0].writes.is_empty() {
            self.tell(0, 0);
        }
        self.now += Duration::from_millis(1_000 + self.dice.throw(3_000) as u64);
        self.lead(1);
    }

    fn step(&mut self) {
        match self.dice.throw(20) {
            0..10 => {
                let which = self.dice.throw(self.runtimes.len());
                self.live(which);
            }
            10..17 => {
                let which = self.dice.throw(2);
                self.govern(which);
            }
            17 | 18 => self.now += Duration::from_millis(1 + self.dice.throw(6_000) as u64),
            _ => {
                let (which, leader) = (self.dice.throw(self.runtimes.len()), self.dice.throw(2));
                self.disturb(which, leader);
            }
        }
        self.now += Duration::from_millis(self.dice.throw(400) as u64);
    }

    /// A replica does some of what it does.
    fn live(&mut self, which: usize) {
        if !self.dice.once_in(4) {
            let late = self.dice.once_in(3);
            self.hear(which, late);
        }
        if !self.dice.once_in(3) {
            self.request(which);
        }
        if self.dice.once_in(2) {
            self.finish(which);
        }
        if !self.dice.once_in(3) {
            self.report(which);
        }
        if !self.dice.once_in(3) {
            let answered = !self.dice.once_in(6);
            self.arrive(which, answered);
        }
    }

    /// A controller decides on what it has heard, and some of what it says arrives.
    fn govern(&mut self, which: usize) {
        let mut lag = |most: usize| {
            if self.dice.once_in(4) {
                self.dice.throw(most)
            } else {
                usize::MAX / 2
            }
        };
        let (one, other) = (lag(3), lag(5));
        let controller = &mut self.controllers[which];
        controller.deployment.receive(&self.deployments, one);
        controller.objects.receive(&self.objects, other);
        self.decide(which);
        for _ in 0..self.dice.throw(4) {
            let index = self.dice.throw(8);
            self.tell(which, index);
        }
    }

    fn disturb(&mut self, which: usize, leader: usize) {
        match self.dice.throw(8) {
            0 => self.now += Duration::from_secs(self.dice.throw(45) as u64),
            1 | 2 => self.healthy = !self.healthy,
            3 => self.runtimes[which].writing = None,
            4 => self.controllers[leader].writes.clear(),
            5 => self.lead(leader),
            6 => {
                let name = self.runtimes[which].name.clone();
                self.runtimes[which] = self.boot(name);
            }
            _ => {
                let gone = self.runtimes.swap_remove(which);
                self.objects.delete(&gone.name);
                self.bear();
            }
        }
    }
}

/// The provider is well, one controller is left, requests come, and everything arrives.
impl World<'_> {
    fn settle(&mut self) {
        self.healthy = true;
        self.lead(0);
        for _ in 0..100 {
            for which in 0..self.runtimes.len() {
                self.serve(which);
            }
            self.controllers[0].deployment.catch_up(&self.deployments);
            self.controllers[0].objects.catch_up(&self.objects);
            self.decide(0);
            while !self.controllers[0].writes.is_empty() {
                self.tell(0, 0);
            }
            if self.is_closed() {
                return;
            }
            let again = self.controllers[0].look_again;
            let wait = again.and_then(|again| Duration::try_from(again.duration_since(at(self.now))).ok());
            self.now += wait
                .unwrap_or(Duration::from_secs(1))
                .clamp(Duration::from_millis(250), Duration::from_secs(5));
        }
        panic!("it does not close: {:#?}", self.deployments.get(DEPLOYMENT));
    }

    fn serve(&mut self, which: usize) {
        self.hear(which, false);
        self.request(which);
        let (now, runtime) = (self.now, &mut self.runtimes[which]);
        let clock = runtime.clock(now);
        for call in std::mem::take(&mut runtime.calls) {
            runtime.circuit.record(call.permit, Verdict::Success, clock, 0.5);
        }
        self.report(which);
        self.arrive(which, true);
    }

    fn is_closed(&self) -> bool {
        let row = self.deployments.get(DEPLOYMENT).and_then(|row| row.object);
        let closed = |r: &Runtime| r.circuit.view(r.clock(self.now)).state == CircuitState::Closed;
        row.is_none_or(|row| row.state == CircuitState::Closed) && self.runtimes.iter().all(closed)
    }
}

impl Truth {
    fn record(&mut self, row: Option<&CircuitStatus>) {
        let Some(row) = row else { return };
        for probe in &row.probes {
            self.round_of.entry(probe.sequence).or_insert(row.changed);
        }
    }
}

#[test]
fn no_schedule_sees_more_probes_than_allowed_and_it_always_closes_again() {
    let subjects = [subject(1), subject(2)];
    let (mut opened, mut probed) = (0_u32, 0_u32);
    schedules("circuit model", 100_000, |dice| {
        let subject = &subjects[usize::from(dice.once_in(3))];
        let mut world = World::new(dice, subject);
        if !world.dice.once_in(8) {
            world.dawn();
        }
        for _ in 0..STEPS {
            world.step();
        }
        opened += u32::from(!world.truth.round_of.is_empty());
        probed += u32::from(!world.truth.calls.is_empty());
        world.settle();
    });
    println!("FIGURE circuit model, schedules with probe tokens: {opened}, with probes before the calm: {probed}");
}
