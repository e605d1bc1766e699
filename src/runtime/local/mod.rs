//! The local engine: a stable worker that supervises a replaceable context (design section 10).
//!
//! [`worker`] decides, purely; [`supervise`] carries out; [`context`] is one engine process with what watches it; [`engine`] knows the
//! servers; [`source`] brings a model that is not mounted; [`external`] attends an engine that is no process of this pod; [`gpu`] asks the driver, in children of their own; [`exec`] and
//! [`sandbox`] are what the process goes through on its way to become the engine.

mod activity;
mod cgroup;
mod children;
mod classify;
mod context;
mod engine;
mod environment;
pub mod exec;
mod external;
pub mod gpu;
mod http;
mod lines;
mod options;
mod prober;
mod restart;
mod ring;
mod sandbox;
mod shortage;
pub mod source;
mod supervise;
mod termination;
mod view;
mod worker;

use std::{io, sync::Arc};

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use activity::{Activity, InFlight};
pub use engine::ENV_GROUP_LEADER;
pub use options::{
    ENV_ENGINE_PATH, ENV_ENGINE_PORT, ENV_MODEL_DIR, ENV_TERMINATION_LOG, Options, OptionsError, Timing,
};
pub use sandbox::Domain;
pub use termination::{MESSAGE_LIMIT, Termination, Verdict, said, truncate};
pub use view::{Download, EngineTarget, EngineView};

use self::{
    children::Children,
    engine::{Adapter, Engine},
    source::SourceError,
    supervise::{Doors, Supervisor},
};
use crate::{
    api::{EngineIsolation, GpuReport, LocalBackend},
    error::InferenceError,
};

/// The supervised engine of this pod.
#[derive(Debug)]
pub struct Local {
    /// Name of the backend.
    pub name: String,
    /// Whether the engine may be sent requests.
    pub view: watch::Receiver<EngineView>,
    /// What the request path tells the supervisor.
    pub activity: Arc<Activity>,
    /// The GPUs; `None` where there are none.
    pub gpu: watch::Receiver<Option<GpuReport>>,
    /// Whoever says why no engine may run in this pod any more ends it for good; the process goes on.
    pub hold: watch::Sender<Option<String>>,
    /// How the engine is kept apart from the runtime's secrets; `None` for one that runs elsewhere.
    pub isolation: Option<EngineIsolation>,
    /// Ends when no process of the engine is left: after `shutdown` with `None`, or when the worker gave up, with the verdict whose
    /// [`Verdict::exit_code`] the process should end with. The termination message is written by then.
    pub ended: JoinHandle<Option<Termination>>,
}

/// Supervise the engine of `backend`, a name and its spec, until `shutdown`.
#[must_use]
pub fn spawn(options: Options, backend: (String, LocalBackend), shutdown: CancellationToken) -> Local {
    let name = backend.0.clone();
    let isolation = backend.1.url.is_none().then(sandbox::supported);
    let (view_sender, view) = watch::channel(EngineView::Loading);
    let (gpu_sender, gpu) = watch::channel(None);
    let (hold, told) = watch::channel(None);
    let activity = Arc::new(Activity::default());
    let doors = Doors {
        view: view_sender,
        gpu: gpu_sender,
        hold: told,
    };
    if isolation == Some(EngineIsolation::None) {
        tracing::warn!("this kernel has no Landlock of 5.19 or newer: the engine image is trusted with the keys");
    }
    if let Err(error) = exec::harden() {
        tracing::warn!("the runtime stays readable for other processes of its user: {error}");
    }
    let ended = tokio::spawn(supervise(options, backend, Arc::clone(&activity), doors, shutdown));
    Local {
        name,
        view,
        activity,
        gpu,
        hold,
        isolation,
        ended,
    }
}

async fn supervise(
    mut options: Options,
    backend: (String, LocalBackend),
    activity: Arc<Activity>,
    doors: Doors,
    shutdown: CancellationToken,
) -> Option<Termination> {
    let log = options.termination_log.clone();
    let view = doors.view.clone();
    let termination = match engine::adapter(&backend.1) {
        Ok(Adapter::Own(engine)) => {
            match shutdown
                .run_until_cancelled(source::fetch(&options, &backend.1, &view))
                .await?
            {
                Ok(fetched) => {
                    options.fetched = fetched;
                    match begin(options, engine, &backend, activity, doors) {
                        Ok(supervisor) => supervisor.run(shutdown).await,
                        Err(error) => Some(never_begun(error, &view)),
                    }
                }
                Err(error) => Some(not_fetched(&error, &view)),
            }
        }
        Ok(Adapter::Elsewhere(engine)) => {
            external::attend(engine, options, &backend, activity, &view, shutdown).await;
            None
        }
        Err(error) => Some(never_begun(supervise::refused(&error), &view)),
    };
    if let (Some(termination), Some(log)) = (&termination, &log)
        && let Err(error) = termination.write(log)
    {
        tracing::warn!("cannot write the termination message to {}: {error}", log.display());
    }
    termination
}

fn never_begun(error: InferenceError, view: &watch::Sender<EngineView>) -> Termination {
    tracing::error!("the engine cannot be started: {}", termination::said(&error));
    view.send_replace(EngineView::Failed(error.clone()));
    Termination::new(Verdict::of(&error, false), error, 0)
}

fn not_fetched(error: &SourceError, view: &watch::Sender<EngineView>) -> Termination {
    tracing::error!("the model cannot be downloaded: {error}");
    let (verdict, error) = (error.verdict(), error.contract());
    view.send_replace(EngineView::NoModel(verdict, error.clone()));
    Termination::new(verdict, error, 0)
}

fn begin(
    options: Options,
    engine: Box<dyn Engine>,
    backend: &(String, LocalBackend),
    activity: Arc<Activity>,
    doors: Doors,
) -> Result<Supervisor, InferenceError> {
    let setup =
        supervise::Setup::new(options, engine, backend, activity).map_err(|error| supervise::refused(&error))?;
    let children = start_children().map_err(|error| InferenceError::Internal {
        message: format!("cannot look after child processes: {error}"),
    })?;
    Ok(Supervisor::new(setup, children, doors))
}

/// As process 1 of a container, this process also inherits orphans.
fn start_children() -> io::Result<Arc<Children>> {
    let children = Children::start()?;
    if std::process::id() == 1 {
        tokio::spawn(Arc::clone(&children).reap_orphans());
    }
    Ok(children)
}
