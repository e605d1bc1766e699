//! Events, off the request path: a bounded queue, the limits of [`crate::policy::event_limit`], and one task that writes.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    build::Subject,
    call::call,
    metrics::{EventResult, Metrics},
    status::Transition,
};
use crate::{
    api::{InferenceDeployment, names},
    policy::event_limit::{Admission, COMBINED, EventLimiter},
};

/// Events that may wait; one more is dropped and counted.
const QUEUE: usize = 256;
/// Bytes that the API server takes in a note.
const LONGEST_NOTE: usize = 1024;

/// Takes transitions and never blocks.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<(Subject, Transition)>,
    metrics: Arc<Metrics>,
}

impl Events {
    /// The queue and the task that empties it; the task ends when the last `Events` is dropped and everything is written.
    pub fn start(client: Client, identity: &str, metrics: Arc<Metrics>) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let reporter = Reporter {
            controller: names::CONTROLLER_MANAGER.into(),
            instance: Some(identity.to_owned()),
        };
        let task = tokio::spawn(write_all(Recorder::new(client, reporter), waiting, metrics.clone()));
        (Self { queue, metrics }, task)
    }

    /// Tells of a transition.
    pub fn tell(&self, subject: &Subject, transition: Transition) {
        if self.queue.try_send((subject.clone(), transition)).is_err() {
            self.metrics.event(EventResult::Dropped);
        }
    }
}

async fn write_all(recorder: Recorder, mut waiting: mpsc::Receiver<(Subject, Transition)>, metrics: Arc<Metrics>) {
    let start = Instant::now();
    let mut limiter = EventLimiter::default();
    while let Some((subject, transition)) = waiting.recv().await {
        let admission = limiter.admit(&subject.uid, &transition.reason, &transition.message, start.elapsed());
        let prefix = match admission {
            Admission::Publish => "",
            Admission::Combine => COMBINED,
            Admission::Drop => {
                metrics.event(EventResult::Dropped);
                continue;
            }
        };
        let event = event(transition, prefix);
        match call("write an Event", recorder.publish(&event, &reference(&subject))).await {
            Ok(()) => metrics.event(EventResult::Published),
            Err(error) => {
                tracing::warn!(%error, "an Event was not written");
                metrics.event(EventResult::Failed);
            }
        }
    }
}

fn event(transition: Transition, prefix: &str) -> Event {
    Event {
        type_: if transition.warning {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: transition.reason,
        note: Some(cut(format!("{prefix}{}", transition.message))),
        action: transition.condition,
        secondary: None,
    }
}

fn cut(mut note: String) -> String {
    let end = (0..=LONGEST_NOTE.min(note.len()))
        .rev()
        .find(|i| note.is_char_boundary(*i));
    note.truncate(end.unwrap_or(0));
    note
}

fn reference(subject: &Subject) -> ObjectReference {
    ObjectReference {
        api_version: Some(InferenceDeployment::api_version(&()).into_owned()),
        kind: Some(InferenceDeployment::kind(&()).into_owned()),
        name: Some(subject.name.clone()),
        namespace: Some(subject.namespace.clone()),
        uid: Some(subject.uid.clone()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_at_a_character() {
        let note = cut("ä".repeat(1000));
        assert!(note.len() <= LONGEST_NOTE && note.len() > LONGEST_NOTE - 2);
    }
}
