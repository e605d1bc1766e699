//! The worker: the stable tier, a pure state machine from events of the context to actions on it (design section 10).

use std::{sync::Arc, time::Duration};

use super::{
    restart::RestartPolicy,
    termination::Termination,
    view::{EngineTarget, EngineView},
};
use crate::error::{ErrorKind, InferenceError};

/// What happened to the context.
#[derive(Debug)]
pub enum Event {
    /// It answered its first canary.
    Ready(Arc<EngineTarget>),
    /// It is poisoned, hangs, or did not get ready in time: it must go.
    Sick(InferenceError),
    /// Its process group is gone. The failure is what exit status and log say.
    Ended(InferenceError),
    /// It cannot even be started, or does not die: starting it again would not help.
    Hopeless(InferenceError),
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
    /// Let the request path know.
    Publish(EngineView),
    /// Kill the whole process group, at once: nothing of it is wanted any more.
    Kill,
    /// Ask the process group to end, and kill it when it does not.
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
}

impl Worker {
    /// A worker and its first actions.
    #[must_use]
    pub fn start() -> (Self, Vec<Action>) {
        let worker = Self {
            phase: Phase::Loading,
            policy: RestartPolicy::default(),
        };
        (
            worker,
            vec![Action::Publish(EngineView::Loading), Action::Start { pauses: 0 }],
        )
    }

    /// What to do about `event` at `now`, a time since the start.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        match event {
            Event::Ready(target) => self.ready(target),
            Event::Sick(error) => self.sick(error),
            Event::Ended(error) => self.ended(error, now),
            Event::Hopeless(error) => self.hopeless(error),
            Event::Stop => self.stop(),
        }
    }

    fn ready(&mut self, target: Arc<EngineTarget>) -> Vec<Action> {
        if !matches!(self.phase, Phase::Loading) {
            return Vec::new();
        }
        self.phase = Phase::Ready;
        self.policy.ready();
        vec![Action::Publish(EngineView::Ready(target))]
    }

    fn sick(&mut self, error: InferenceError) -> Vec<Action> {
        let was_ready = match self.phase {
            Phase::Loading => false,
            Phase::Ready => true,
            Phase::Killing { .. } | Phase::Stopping | Phase::Finished => return Vec::new(),
        };
        self.phase = Phase::Killing {
            error: error.clone(),
            was_ready,
        };
        vec![Action::Publish(EngineView::Restarting(error)), Action::Kill]
    }

    fn ended(&mut self, found: InferenceError, now: Duration) -> Vec<Action> {
        match std::mem::replace(&mut self.phase, Phase::Finished) {
            Phase::Loading => self.rebuild(found, false, now),
            Phase::Ready => self.rebuild(found, true, now),
            Phase::Killing { error, was_ready } => self.rebuild(graver(error, found), was_ready, now),
            Phase::Stopping => vec![Action::Finish(None)],
            Phase::Finished => Vec::new(),
        }
    }

    fn rebuild(&mut self, error: InferenceError, was_ready: bool, now: Duration) -> Vec<Action> {
        let Some(pauses) = self.policy.rebuild(now) else {
            return self.give_up(error, was_ready);
        };
        self.phase = Phase::Loading;
        vec![Action::Publish(EngineView::Restarting(error)), Action::Start { pauses }]
    }

    fn give_up(&mut self, error: InferenceError, was_ready: bool) -> Vec<Action> {
        self.phase = Phase::Finished;
        let termination = Termination::new(error.clone(), was_ready, self.policy.total());
        vec![
            Action::Publish(EngineView::Failed(error)),
            Action::Finish(Some(termination)),
        ]
    }

    fn hopeless(&mut self, error: InferenceError) -> Vec<Action> {
        match self.phase {
            Phase::Loading | Phase::Ready | Phase::Killing { .. } => self.give_up(error, false),
            Phase::Stopping => vec![Action::Finish(None)],
            Phase::Finished => Vec::new(),
        }
    }

    fn stop(&mut self) -> Vec<Action> {
        if matches!(self.phase, Phase::Finished) {
            return Vec::new();
        }
        self.phase = Phase::Stopping;
        vec![Action::Terminate]
    }
}

/// Poison outranks whatever else is said of the same end: a context that hung because it was poisoned was poisoned.
fn graver(known: InferenceError, found: InferenceError) -> InferenceError {
    if found.kind() == ErrorKind::CudaContextPoisoned {
        found
    } else {
        known
    }
}

#[cfg(test)]
mod tests;
