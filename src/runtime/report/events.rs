//! Events about what only this replica sees: its engine ended, its credentials are refused. On transitions only, within the limits of
//! [`crate::policy::event_limit`], regarding our `InferenceReplica` with the pod as related (design section 6).

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{News, OwnReplica, ReportError};
use crate::{
    api::{
        CircuitScope, CircuitState, InferenceReplica, InferenceReplicaStatus, ReplicaCircuit, conditions::reason, names,
    },
    error::ErrorKind,
    policy::{
        circuit::Refusal,
        event_limit::{Admission, COMBINED, EventLimiter},
    },
    runtime::local::{Download, EngineView, said, truncate},
};

/// Deadline of a call: kube's client has no read timeout.
const DEADLINE: Duration = Duration::from_secs(5);
/// Bytes that the API server takes in a note.
const LONGEST_NOTE: usize = 1024;

/// What an Event says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Note {
    warning: bool,
    reason: &'static str,
    action: &'static str,
    text: String,
}

/// What was told last, so that only transitions are.
#[derive(Debug, Default)]
struct Told {
    /// The engine is not this pod's to start.
    elsewhere: bool,
    engine: Option<Note>,
    /// Quarters of the model that have been downloaded.
    downloading: Option<u64>,
    refused: Vec<String>,
}

impl Told {
    /// The engine's view: why it does not serve, once; that it serves again, after that.
    fn engine(&mut self, view: &EngineView) -> Option<Note> {
        let (what, error) = match view {
            EngineView::Downloading(download) => return self.download(*download),
            EngineView::Loading => return self.downloading.take().map(|_| downloaded(view)),
            EngineView::Ready(_) => return self.engine.take().map(|_| recovered(view)),
            EngineView::Restarting(error) if self.elsewhere => ("the engine is asked again until it serves", error),
            EngineView::Restarting(error) => ("the engine is started anew", error),
            EngineView::Failed(error) => ("the engine is given up", error),
            EngineView::NoModel(_, error) => ("the engine cannot be started", error),
        };
        let note = Note {
            warning: true,
            reason: view.event_reason(),
            action: "Supervise",
            text: format!("{what}: {}", said(error)),
        };
        let new = self.engine.as_ref() != Some(&note);
        self.engine = Some(note.clone());
        new.then_some(note)
    }

    /// That a download has begun, and its quarters.
    fn download(&mut self, download: Download) -> Option<Note> {
        let Download { bytes, total } = download;
        let quarter = total.map_or(0, |total| bytes.saturating_mul(4) / total.max(1));
        if self.downloading.replace(quarter).is_some_and(|told| told >= quarter) {
            return None;
        }
        let of = total.map_or_else(String::new, |total| format!(" of {total}"));
        Some(Note {
            warning: false,
            reason: reason::DOWNLOADING,
            action: "Download",
            text: format!("the model is being downloaded: {bytes}{of} bytes are there"),
        })
    }

    /// Credentials that are refused now and were not before.
    fn credentials(&mut self, status: &InferenceReplicaStatus) -> Vec<Note> {
        let open = status.circuits.iter().filter(|circuit| {
            circuit.scope == CircuitScope::Credential
                && matches!(circuit.state, CircuitState::Open | CircuitState::HalfOpen)
        });
        let before = std::mem::take(&mut self.refused);
        let mut notes = Vec::new();
        for circuit in open {
            self.refused.push(circuit.backend.clone());
            if !before.contains(&circuit.backend) {
                notes.push(refused(circuit));
            }
        }
        notes
    }
}

fn downloaded(view: &EngineView) -> Note {
    Note {
        warning: false,
        reason: view.event_reason(),
        action: "Download",
        text: "the model is downloaded and verified; the engine loads it".to_owned(),
    }
}

fn recovered(view: &EngineView) -> Note {
    Note {
        warning: false,
        reason: view.event_reason(),
        action: "Supervise",
        text: "the engine serves again".to_owned(),
    }
}

fn refused(circuit: &ReplicaCircuit) -> Note {
    let refusal = Refusal::of(circuit.last_error.as_deref().and_then(ErrorKind::named));
    let said = match circuit.message.as_str() {
        "" => String::new(),
        said => format!(": {said}"),
    };
    Note {
        warning: true,
        reason: refusal.reason(),
        action: "Request",
        text: format!("backend {}: the provider {}{said}", circuit.backend, refusal.words()),
    }
}

/// The engine whose turns are told.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Whether it may be sent requests.
    pub view: watch::Receiver<EngineView>,
    /// It is not this pod's to start.
    pub elsewhere: bool,
}

/// Tells until `shutdown`; what happened before it is still told.
pub async fn run(
    client: Client,
    own: OwnReplica,
    mut news: watch::Receiver<News>,
    engine: Option<Watched>,
    shutdown: CancellationToken,
) {
    let mut teller = Teller::new(client, own);
    let mut told = Told {
        elsewhere: engine.as_ref().is_some_and(|engine| engine.elsewhere),
        ..Told::default()
    };
    let mut engine = engine.map(|engine| engine.view);
    loop {
        let notes = tokio::select! {
            biased;
            view = changed(&mut engine) => told.engine(&view).into_iter().collect(),
            Ok(()) = news.changed() => told.credentials(&news.borrow_and_update().status),
            () = shutdown.cancelled() => return,
        };
        for note in notes {
            teller.tell(&note).await;
        }
    }
}

/// The next view; never without an engine or when its supervisor has ended.
async fn changed(engine: &mut Option<watch::Receiver<EngineView>>) -> EngineView {
    if let Some(views) = engine
        && views.changed().await.is_ok()
    {
        return views.borrow_and_update().clone();
    }
    *engine = None;
    std::future::pending().await
}

struct Teller {
    api: Api<InferenceReplica>,
    own: OwnReplica,
    recorder: Recorder,
    limiter: EventLimiter,
    started: Instant,
    regarding: Option<ObjectReference>,
}

impl Teller {
    fn new(client: Client, own: OwnReplica) -> Self {
        let reporter = Reporter {
            controller: names::RUNTIME_MANAGER.into(),
            instance: Some(own.pod.clone()),
        };
        Self {
            api: Api::namespaced(client.clone(), &own.namespace),
            own,
            recorder: Recorder::new(client, reporter),
            limiter: EventLimiter::default(),
            started: Instant::now(),
            regarding: None,
        }
    }

    async fn tell(&mut self, note: &Note) {
        let now = self.started.elapsed();
        let prefix = match self.limiter.admit(&self.own.pod_uid, note.reason, &note.text, now) {
            Admission::Publish => "",
            Admission::Combine => COMBINED,
            Admission::Drop => {
                tracing::info!(reason = note.reason, "an Event was dropped: too many of late");
                return;
            }
        };
        if let Err(error) = timeout(DEADLINE, self.publish(note, prefix))
            .await
            .unwrap_or(Err(ReportError::Deadline))
        {
            tracing::warn!(%error, reason = note.reason, "an Event was not written");
        }
    }

    async fn publish(&mut self, note: &Note, prefix: &str) -> Result<(), ReportError> {
        let event = Event {
            type_: if note.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: note.reason.to_owned(),
            note: Some(truncate(&format!("{prefix}{}", note.text), LONGEST_NOTE)),
            action: note.action.to_owned(),
            secondary: Some(self.pod()),
        };
        let regarding = self.regarding().await?;
        Ok(self.recorder.publish(&event, &regarding).await?)
    }

    /// Our object, with the UID by which `kubectl describe` finds its Events; read at the first Event and not before.
    async fn regarding(&mut self) -> Result<ObjectReference, ReportError> {
        if let Some(known) = &self.regarding {
            return Ok(known.clone());
        }
        let replica = self.api.get(&self.own.pod).await?;
        let reference = ObjectReference {
            api_version: Some(InferenceReplica::api_version(&()).into_owned()),
            kind: Some(InferenceReplica::kind(&()).into_owned()),
            name: Some(self.own.pod.clone()),
            namespace: Some(self.own.namespace.clone()),
            uid: replica.uid(),
            ..ObjectReference::default()
        };
        self.regarding = Some(reference.clone());
        Ok(reference)
    }

    fn pod(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(self.own.pod.clone()),
            namespace: Some(self.own.namespace.clone()),
            uid: Some(self.own.pod_uid.clone()),
            ..ObjectReference::default()
        }
    }
}

#[cfg(test)]
mod tests;
