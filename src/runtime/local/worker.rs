//! The worker: the stable tier, a pure state machine from events of the context and the GPU to actions on them (design section 10).

use std::{sync::Arc, time::Duration};

use super::{
    classify::Ending,
    gpu::{
        codes::{Blame, Finding},
        report::Xid,
        suspicion::{Fault, Gpus, is_vague, poison},
    },
    restart::RestartPolicy,
    termination::{Termination, Verdict, said},
    view::{EngineTarget, EngineView},
};
use crate::{
    api::{GpuFaultReason, GpuReport},
    error::{ErrorKind, InferenceError},
};

/// How often a GPU that is busy is probed again before an engine tries all the same.
const PROBES: u32 = 5;

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The context answered its first canary.
    Ready(Arc<EngineTarget>),
    /// It answered a later one.
    Answered,
    /// The context is poisoned, hangs, or did not get ready in time: it must go.
    Sick(InferenceError),
    /// The context's process group is gone. The failure is what exit status and log say.
    Ended(Ending),
    /// The context cannot even be started, or does not die: starting it again would not help.
    Hopeless(InferenceError),
    /// The driver told of an Xid.
    Xid(Xid),
    /// A new process has tried the GPUs.
    Probed(Finding),
    /// No engine may run in this pod any more.
    Hold(String),
    /// The runtime ends.
    Stop,
}

/// What the supervisor has to do, in order.
#[derive(Debug)]
pub enum Action {
    /// Start a context after so many pauses of the back-off.
    Start {
        /// 0, 1, 2, …
        pauses: u32,
    },
    /// Let a new process try the GPUs, after so many pauses.
    Probe {
        /// 0, 1, 2, …
        pauses: u32,
    },
    /// Let the request path know.
    Publish(EngineView),
    /// Let the cluster know.
    Report(GpuReport),
    /// Ask the context for a canary now.
    Doubt,
    /// Kill the whole process group, at once: nothing of it is wanted any more.
    Kill,
    /// Ask the process group to end, and kill it when it does not. Whatever else is planned is not wanted any more.
    Terminate,
    /// The worker's work is done; with a termination when it gave up.
    Finish(Option<Termination>),
}

#[derive(Debug)]
enum Phase {
    /// A context starts, or will after its back-off.
    Loading,
    /// A context serves.
    Ready,
    /// A sick context is being killed.
    Killing { error: InferenceError, was_ready: bool },
    /// The context is gone; a new process tries the GPUs, not for the first time when `probes` is not 0.
    Probing {
        error: InferenceError,
        was_ready: bool,
        probes: u32,
    },
    /// The context was asked to end, and no other will be started.
    Held,
    /// The runtime ends; the context was asked to.
    Stopping,
    /// Nothing more will be done.
    Finished,
}

/// The state machine.
#[derive(Debug)]
pub struct Worker {
    phase: Phase,
    policy: RestartPolicy,
    gpus: Gpus,
    fault: Option<Fault>,
    /// Why the last context ended whose log said so, until one serves.
    earlier: Option<String>,
}

impl Worker {
    /// A worker in a pod with these GPUs, and its first actions.
    #[must_use]
    pub fn start(gpus: Gpus, policy: RestartPolicy) -> (Self, Vec<Action>) {
        let worker = Self {
            phase: Phase::Loading,
            policy,
            gpus,
            fault: None,
            earlier: None,
        };
        let mut actions = vec![Action::Publish(EngineView::Loading)];
        actions.extend(worker.report());
        actions.push(Action::Start { pauses: 0 });
        (worker, actions)
    }

    /// What to do about `event` at `now`, a time since the start.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        match event {
            Event::Ready(target) => self.ready(target, now),
            Event::Answered => self.answered(),
            Event::Sick(error) => self.sick(error, now),
            Event::Ended(ending) => self.ended(ending, now),
            Event::Hopeless(error) => self.hopeless(error),
            Event::Xid(xid) => self.xid(&xid, now),
            Event::Probed(finding) => self.probed(finding),
            Event::Hold(why) => self.hold(why),
            Event::Stop => self.stop(),
        }
    }

    fn ready(&mut self, target: Arc<EngineTarget>, now: Duration) -> Vec<Action> {
        if !matches!(self.phase, Phase::Loading) {
            return Vec::new();
        }
        self.phase = Phase::Ready;
        self.policy.ready(now);
        self.gpus.forget();
        self.earlier = None;
        let mut actions = vec![Action::Publish(EngineView::Ready(target))];
        // Said also where no driver tells of GPUs: else the fault would stand for ever.
        actions.extend(self.fault.take().map(|_| Action::Report(self.gpus.report(None))));
        actions
    }

    /// What was suspected of the GPUs was somebody else's, and explains no end that comes later.
    fn answered(&mut self) -> Vec<Action> {
        if matches!(self.phase, Phase::Ready) {
            self.gpus.forget();
        }
        Vec::new()
    }

    fn sick(&mut self, error: InferenceError, now: Duration) -> Vec<Action> {
        let was_ready = match self.phase {
            Phase::Loading => false,
            Phase::Ready => true,
            Phase::Killing { .. } | Phase::Probing { .. } | Phase::Held | Phase::Stopping | Phase::Finished => {
                return Vec::new();
            }
        };
        self.policy.lost(now);
        let error = self.gpus.explain(error);
        self.phase = Phase::Killing {
            error: error.clone(),
            was_ready,
        };
        let report = self.suspect(&error);
        let mut actions = vec![Action::Publish(EngineView::Restarting(error)), Action::Kill];
        actions.extend(report);
        actions
    }

    fn ended(&mut self, ending: Ending, now: Duration) -> Vec<Action> {
        self.policy.lost(now);
        match std::mem::replace(&mut self.phase, Phase::Finished) {
            Phase::Loading => self.judge(ending, false),
            Phase::Ready => self.judge(ending, true),
            Phase::Killing { error, was_ready } => self.judge(graver(error, ending), was_ready),
            Phase::Stopping => vec![Action::Finish(None)],
            phase @ (Phase::Probing { .. } | Phase::Held | Phase::Finished) => {
                self.phase = phase;
                Vec::new()
            }
        }
    }

    fn judge(&mut self, ending: Ending, was_ready: bool) -> Vec<Action> {
        // It would not fit the next time either.
        if let Some((short, line)) = ending.short.filter(|_| !was_ready) {
            let words = short.words(&line, &self.gpus.devices);
            return self.give_up(Verdict::CUDAOutOfMemory, startup_failure(words));
        }
        let error = self.with_earlier_words(ending.error, ending.explained);
        self.rebuild(error, was_ready)
    }

    /// A context that ended without a word most likely did so as the one before it, which had one.
    fn with_earlier_words(&mut self, error: InferenceError, explained: bool) -> InferenceError {
        match (error, &self.earlier) {
            (error, _) if explained => {
                self.earlier = Some(said(&error));
                error
            }
            (
                InferenceError::ServerError {
                    status,
                    body: Some(own),
                },
                Some(earlier),
            ) => InferenceError::ServerError {
                status,
                body: Some(format!("{own}; before that: {earlier}")),
            },
            (error, _) => error,
        }
    }

    /// A new context, on GPUs of which a new process has shown that they work.
    fn rebuild(&mut self, error: InferenceError, was_ready: bool) -> Vec<Action> {
        let error = self.gpus.explain(error);
        if !self.gpus.present {
            let report = self.suspect(&error);
            return with(self.restart(error, was_ready), report);
        }
        let report = self.suspect(&error);
        self.phase = Phase::Probing {
            error: error.clone(),
            was_ready,
            probes: 0,
        };
        let actions = vec![
            Action::Publish(EngineView::Restarting(error)),
            Action::Probe { pauses: 0 },
        ];
        with(actions, report)
    }

    fn restart(&mut self, error: InferenceError, was_ready: bool) -> Vec<Action> {
        // An Xid may have come since.
        let error = self.gpus.explain(error);
        let Some(pauses) = self.policy.rebuild() else {
            return self.give_up(Verdict::of(&error, was_ready), error);
        };
        self.phase = Phase::Loading;
        vec![Action::Publish(EngineView::Restarting(error)), Action::Start { pauses }]
    }

    fn probed(&mut self, finding: Finding) -> Vec<Action> {
        let Phase::Probing {
            error,
            was_ready,
            probes,
        } = &self.phase
        else {
            return Vec::new();
        };
        let (error, was_ready, probes) = (error.clone(), *was_ready, *probes + 1);
        match finding {
            Finding::Busy(_) if probes < PROBES => {
                self.phase = Phase::Probing {
                    error,
                    was_ready,
                    probes,
                };
                vec![Action::Probe { pauses: probes }]
            }
            // An engine will say better than a probe what it lacks.
            Finding::Busy(_) | Finding::Unclear(_) | Finding::Sound => self.restart(error, was_ready),
            Finding::Faulty { why, uuid } => self.faulty(format!("{why}; before that: {}", said(&error)), uuid),
        }
    }

    /// Nothing that runs on this GPU can be trusted: whoever is responsible for the node has to see to it.
    fn faulty(&mut self, message: String, failing: Option<String>) -> Vec<Action> {
        self.fault = Some(Fault {
            reason: GpuFaultReason::GPUFaulty,
            message: message.clone(),
            failing,
        });
        let report = self.report();
        let message = format!("the GPU is faulty: {message}");
        let actions = self.give_up(Verdict::GPUFaulty, InferenceError::CudaContextPoisoned { message });
        // Before the end.
        report.into_iter().chain(actions).collect()
    }

    fn give_up(&mut self, verdict: Verdict, error: InferenceError) -> Vec<Action> {
        self.phase = Phase::Finished;
        let mut termination = Termination::new(verdict, error.clone(), self.policy.total());
        if let Some(fault) = &self.fault {
            termination.devices = self.gpus.suspects(fault.failing.as_deref());
        }
        vec![
            Action::Publish(EngineView::Failed(error)),
            Action::Finish(Some(termination)),
        ]
    }

    fn hopeless(&mut self, error: InferenceError) -> Vec<Action> {
        match self.phase {
            Phase::Killing { .. } if error.kind() == ErrorKind::CudaContextPoisoned => self.faulty(said(&error), None),
            Phase::Loading | Phase::Ready | Phase::Killing { .. } | Phase::Probing { .. } => {
                self.give_up(Verdict::of(&error, false), error)
            }
            Phase::Stopping => vec![Action::Finish(None)],
            Phase::Held | Phase::Finished => Vec::new(),
        }
    }

    /// A fault of the device ends what runs on it. One of a process need not be ours: the engine is asked, and if it fails now, it was.
    fn xid(&mut self, xid: &Xid, now: Duration) -> Vec<Action> {
        let blame = self.gpus.note(xid);
        match (&self.phase, blame) {
            (_, Blame::Nobody) | (Phase::Held | Phase::Stopping | Phase::Finished, _) => Vec::new(),
            (Phase::Ready | Phase::Loading, Blame::Device) => self.sick(poison(xid, ""), now),
            (Phase::Ready, Blame::Process) => vec![Action::Doubt],
            // It explains what is being dealt with.
            _ => self.fault.as_ref().and_then(|_| self.report()).into_iter().collect(),
        }
    }

    fn hold(&mut self, why: String) -> Vec<Action> {
        if matches!(self.phase, Phase::Held | Phase::Stopping | Phase::Finished) {
            return Vec::new();
        }
        self.phase = Phase::Held;
        self.fault = Some(Fault {
            reason: GpuFaultReason::GPUFaulty,
            message: why.clone(),
            failing: None,
        });
        let mut actions = vec![
            Action::Publish(EngineView::Failed(InferenceError::CudaContextPoisoned { message: why })),
            Action::Terminate,
        ];
        actions.extend(self.report());
        actions
    }

    fn stop(&mut self) -> Vec<Action> {
        if matches!(self.phase, Phase::Finished) {
            return Vec::new();
        }
        self.phase = Phase::Stopping;
        vec![Action::Terminate]
    }

    /// Poison is a fault of some GPU until an engine computes again.
    fn suspect(&mut self, error: &InferenceError) -> Option<Action> {
        let InferenceError::CudaContextPoisoned { message } = error else {
            return None;
        };
        self.fault = Some(Fault {
            reason: GpuFaultReason::ContextPoisoned,
            message: message.clone(),
            failing: None,
        });
        self.report()
    }

    /// Nothing where there are no GPUs, none was asked for, and no fault of one is known.
    fn report(&self) -> Option<Action> {
        let nothing = !self.gpus.present && self.gpus.unavailable.is_none() && self.fault.is_none();
        (!nothing).then(|| Action::Report(self.gpus.report(self.fault.as_ref())))
    }
}

fn with(mut actions: Vec<Action>, report: Option<Action>) -> Vec<Action> {
    // After the request path knows, before anything ends.
    let place = actions.len().min(1);
    actions.splice(place..place, report);
    actions
}

/// What is said of an engine that cannot start and never will here.
fn startup_failure(words: String) -> InferenceError {
    InferenceError::ServerError {
        status: 500,
        body: Some(words),
    }
}

/// Poison outranks whatever else is said of the same end: a context that hung because it was poisoned was poisoned. Memory that ran out
/// says why a canary failed.
fn graver(known: InferenceError, found: Ending) -> Ending {
    let explains = match found.error.kind() {
        ErrorKind::CudaContextPoisoned => true,
        ErrorKind::Backpressure => is_vague(&known),
        _ => false,
    };
    if explains { found } else { known.into() }
}

#[cfg(test)]
mod tests;
