//! Controllers: the real decisions, read from caches or live, one call to the API server a step.

use std::{collections::BTreeMap, rc::Rc};

use jiff::SignedDuration;

use super::world::{DEPLOYMENT, Deployment, Pod, Replica, World, Write};
use crate::{
    api::BudgetStatus,
    policy::{
        budget::ledger::{
            Clocks, Decision, Holder, Marks, Object, Remove, Situation, Terms, decide, may_release, projection,
        },
        model::{Cache, Dice, Versioned},
    },
};

/// What a decision is made of.
#[derive(Debug)]
struct View {
    deployment: Versioned<Rc<Deployment>>,
    pods: BTreeMap<String, Rc<Pod>>,
    replicas: BTreeMap<String, Versioned<Rc<Replica>>>,
    live: bool,
}

/// What a controller does next.
#[derive(Debug, Default)]
enum Task {
    #[default]
    Nothing,
    LiveDeployment,
    LivePods(Versioned<Rc<Deployment>>),
    LiveReplicas(Versioned<Rc<Deployment>>, BTreeMap<String, Rc<Pod>>),
    Specs(Vec<Write>),
}

/// A controller.
#[derive(Debug)]
pub struct Controller {
    skew: SignedDuration,
    task: Task,
    deployments: Cache<Rc<Deployment>>,
    pods: Cache<Rc<Pod>>,
    replicas: Cache<Rc<Replica>>,
}

impl Controller {
    /// With a clock that is up to a quarter of a minute off, in pieces of `grain` seconds.
    pub fn new(grain: i64, dice: &mut Dice) -> Self {
        let skew = i64::try_from(dice.throw(30)).unwrap() - 15;
        Self {
            skew: SignedDuration::from_secs(skew / grain * grain),
            task: Task::Nothing,
            deployments: Cache::default(),
            pods: Cache::default(),
            replicas: Cache::default(),
        }
    }
}

impl View {
    fn holders(&self) -> Vec<Holder<'_>> {
        let pod = |name: &str, uid: &str| self.pods.get(name).filter(|pod| &*pod.uid == uid && !pod.ended);
        let mut holders: Vec<_> = self
            .replicas
            .iter()
            .map(|(name, replica)| holder(name, &replica.object, pod(name, &replica.object.pod_uid)))
            .collect();
        for (name, pod) in &self.pods {
            if !holders.iter().any(|h| h.pod_uid == &*pod.uid) {
                holders.push(Holder {
                    pod: name,
                    pod_uid: &pod.uid,
                    pod_lives: !pod.ended,
                    gpus: pod.gpus,
                    object: None,
                });
            }
        }
        holders
    }
}

fn holder<'a>(name: &'a str, replica: &'a Replica, pod: Option<&Rc<Pod>>) -> Holder<'a> {
    Holder {
        pod: name,
        pod_uid: &replica.pod_uid,
        pod_lives: pod.is_some(),
        gpus: pod.and_then(|pod| pod.gpus),
        object: Some(Object {
            deleting: replica.deleting,
            spec: replica.spec.as_ref(),
            boot_id: replica.boot.as_deref(),
            report: replica.report.as_ref(),
        }),
    }
}

impl World {
    /// All clocks show the same time.
    pub fn clocks_are_set(&mut self) {
        for controller in &mut self.controllers {
            controller.skew = SignedDuration::ZERO;
        }
    }

    /// A controller makes some steps; now and then it ends in between and another begins in its place.
    pub fn controller_steps(&mut self, index: usize, dice: &mut Dice) {
        loop {
            if self.play.crashes && dice.once_in(40) {
                self.controllers[index] = Controller::new(self.play.grain(), dice);
            }
            self.controller_step(index, dice);
            if matches!(self.controllers[index].task, Task::Nothing) || dice.once_in(6) {
                return;
            }
        }
    }

    fn controller_step(&mut self, index: usize, dice: &mut Dice) {
        match std::mem::take(&mut self.controllers[index].task) {
            Task::Nothing => {
                let Some(view) = self.cached(index, dice) else { return };
                self.act(index, &view, dice);
            }
            Task::LiveDeployment => {
                let deployment = self.deployments.get(DEPLOYMENT).unwrap();
                self.controllers[index].task = Task::LivePods(deployment);
            }
            Task::LivePods(deployment) => {
                let pods = all(&self.pods.names(), |name| self.pods.get(name).map(|pod| pod.object));
                self.controllers[index].task = Task::LiveReplicas(deployment, pods);
            }
            Task::LiveReplicas(deployment, pods) => {
                let replicas = all(&self.replicas.names(), |name| self.replicas.get(name));
                let view = View {
                    deployment,
                    pods,
                    replicas,
                    live: true,
                };
                self.act(index, &view, dice);
            }
            Task::Specs(mut specs) => {
                if let Some(write) = specs.pop() {
                    let _ = self.send(write, dice);
                }
                if !specs.is_empty() {
                    self.controllers[index].task = Task::Specs(specs);
                }
            }
        }
    }

    fn cached(&mut self, index: usize, dice: &mut Dice) -> Option<View> {
        let (deployments, pods, replicas) = (&self.deployments, &self.pods, &self.replicas);
        let controller = &mut self.controllers[index];
        let mut events = || [usize::MAX >> 1, usize::MAX >> 1, 2, 0][dice.throw(4)];
        controller.deployments.receive(deployments, events());
        controller.pods.receive(pods, events());
        controller.replicas.receive(replicas, events());
        Some(View {
            deployment: controller.deployments.get(DEPLOYMENT)?.clone(),
            pods: controller
                .pods
                .all()
                .map(|(name, pod)| (name.clone(), pod.object.clone()))
                .collect(),
            replicas: controller
                .replicas
                .all()
                .map(|(name, replica)| (name.clone(), replica.clone()))
                .collect(),
            live: false,
        })
    }

    /// Records, then annotates, then tells, each over the state that the one before left.
    fn act(&mut self, index: usize, view: &View, dice: &mut Dice) {
        let decision = self.decided(index, view);
        if decision.look && !view.live {
            self.controllers[index].task = Task::LiveDeployment;
            return;
        }
        let Versioned { mut version, object } = view.deployment.clone();
        let mut next = Deployment::clone(&object);
        let recorded = decision.ledger.is_some();
        next.ledger = decision.ledger.clone().or(next.ledger);
        if recorded && !self.write_deployment(index, &mut version, &next, dice) {
            return;
        }
        if annotate(&mut next, &decision) && !self.write_deployment(index, &mut version, &next, dice) {
            return;
        }
        let specs = next
            .ledger
            .as_ref()
            .map(|ledger| specs(ledger, view))
            .unwrap_or_default();
        self.controllers[index].task = if specs.is_empty() {
            Task::Nothing
        } else {
            Task::Specs(specs)
        };
    }

    /// True when the write is known to have been done.
    fn write_deployment(&mut self, index: usize, version: &mut u64, next: &Deployment, dice: &mut Dice) -> bool {
        let sent = self.send(Write::Deployment(*version, Rc::new(next.clone())), dice);
        self.note();
        match sent {
            Ok(new) => *version = new,
            Err(true) => self.controllers[index].task = Task::LiveDeployment,
            Err(false) => {}
        }
        sent.is_ok()
    }

    fn decided(&self, index: usize, view: &View) -> Decision {
        let holders = view.holders();
        let deployment = &view.deployment.object;
        let terms = &self.all_terms[deployment.terms];
        let with_gpus = self.play.gpus.map(|gpus| Terms {
            gpu: Some(gpus.terms(deployment.gpu_pods)),
            ..terms.clone()
        });
        decide(&Situation {
            uid: DEPLOYMENT,
            ledger: deployment.ledger.as_ref(),
            terms: Some(with_gpus.as_ref().unwrap_or(terms)),
            marks: &deployment.marks,
            holders: &holders,
            clocks: Clocks {
                local: self.now + self.controllers[index].skew,
                server: self.now,
            },
            live: view.live,
        })
    }

    /// Makes replicas for pods, deletes those of pods that are gone, and takes finalizers off, on what is true at this moment.
    pub fn sweep(&mut self) {
        let deployment = self.deployment();
        for name in self.pods.names() {
            if self.replicas.get(&name).is_none() {
                let pod_uid = Rc::clone(&self.pods.get(&name).unwrap().object.uid);
                let replica = Replica {
                    pod_uid,
                    deleting: false,
                    spec: None,
                    boot: None,
                    report: None,
                };
                self.replicas.put(&name, Rc::new(replica));
            }
        }
        for name in self.replicas.names() {
            let Versioned { object, .. } = self.replicas.get(&name).unwrap();
            let gone = self.pods.get(&name).is_none_or(|pod| pod.object.uid != object.pod_uid);
            if object.deleting && may_release(deployment.ledger.as_ref(), &object.pod_uid) {
                self.replicas.delete(&name);
            } else if gone && !object.deleting {
                let deleting = Replica {
                    deleting: true,
                    ..(*object).clone()
                };
                self.replicas.put(&name, Rc::new(deleting));
            }
        }
    }

    /// Everything is read, decided and written at once, until nothing changes. True when something did.
    pub fn reconcile_at_once(&mut self) -> bool {
        let view = View {
            deployment: self.deployments.get(DEPLOYMENT).unwrap(),
            pods: all(&self.pods.names(), |name| self.pods.get(name).map(|pod| pod.object)),
            replicas: all(&self.replicas.names(), |name| self.replicas.get(name)),
            live: true,
        };
        let decision = self.decided(0, &view);
        let mut next = Deployment::clone(&view.deployment.object);
        let changed = annotate(&mut next, &decision) || decision.ledger.is_some();
        next.ledger = decision.ledger.or(next.ledger);
        let specs = next
            .ledger
            .as_ref()
            .map(|ledger| specs(ledger, &view))
            .unwrap_or_default();
        if changed {
            self.deployments.put(DEPLOYMENT, Rc::new(next));
            self.note();
        }
        let told = !specs.is_empty();
        for write in specs {
            let _ = self.arrive(write);
        }
        changed || told
    }
}

/// True when there is something to write.
fn annotate(deployment: &mut Deployment, decision: &Decision) -> bool {
    let Marks {
        window,
        adopt,
        write_off,
    } = &mut deployment.marks;
    if decision.mark.is_some() {
        window.clone_from(&decision.mark);
    }
    adopt.take_if(|_| decision.remove.adopt);
    write_off.take_if(|_| decision.remove.write_off);
    decision.mark.is_some() || decision.remove != Remove::default()
}

fn all<T>(names: &[String], get: impl Fn(&str) -> Option<T>) -> BTreeMap<String, T> {
    names
        .iter()
        .filter_map(|name| Some((name.clone(), get(name)?)))
        .collect()
}

/// The specs that differ from the ledger, each to be written over the state that was seen.
fn specs(ledger: &BudgetStatus, view: &View) -> Vec<Write> {
    let holders = view.holders();
    let told = |holder: &Holder<'_>| {
        let replica = view.replicas.get(holder.pod)?;
        let spec = projection(ledger, holder)?;
        let object = Replica {
            spec: Some(spec),
            ..(*replica.object).clone()
        };
        Some(Write::Replica(holder.pod.into(), replica.version, Rc::new(object)))
    };
    holders.iter().filter_map(told).collect()
}
