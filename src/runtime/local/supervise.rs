//! The supervisor: carries out what the worker decides and tells it what happens.

use std::{collections::BTreeSet, net::Ipv4Addr, path::PathBuf, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;
use tokio::{
    process::Command,
    sync::{
        mpsc::{UnboundedReceiver, unbounded_channel},
        watch,
    },
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    activity::Activity,
    children::Children,
    context::{Context, ENV_MARKER, Events, Parts},
    engine::{self, Engine, Limits, Placement, SetupError},
    environment, exec,
    options::Options,
    prober::Prober,
    termination::{Termination, said},
    view::EngineView,
    worker::{Action, Event, Worker},
};
use crate::{api::LocalBackend, error::InferenceError};

/// What every context of this worker has in common.
pub struct Setup {
    options: Options,
    engine: Arc<dyn Engine>,
    model: Option<PathBuf>,
    /// What clients call the model.
    name: String,
    named: BTreeSet<String>,
    wanted: Limits,
    activity: Arc<Activity>,
}

impl Setup {
    /// Look at what the pod was told to run with `engine`.
    pub fn new(
        options: Options,
        engine: Box<dyn Engine>,
        (name, backend): &(String, LocalBackend),
        activity: Arc<Activity>,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            engine: engine.into(),
            model: engine::model_path(backend, &options.models)?,
            name: options.model_name(name).to_owned(),
            named: environment::named_by(backend),
            wanted: Limits::wanted(backend),
            options,
            activity,
        })
    }

    /// A new context's parts, with a key and a marker of its own.
    fn parts(&self, number: u64) -> Result<Parts, SetupError> {
        let api_key = SecretString::from(random());
        let marker = random();
        let address = (Ipv4Addr::LOCALHOST, self.options.port).into();
        let place = Placement {
            address,
            api_key: &api_key,
            model: self.model.as_deref(),
            name: &self.name,
            program: self.options.engine.as_deref(),
            // The standard library reads affinity and the quotas of both cgroup versions.
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        };
        let engine = self.engine.command(&place)?;
        let mut command = Command::new(&self.options.launcher);
        command
            .args(exec::arguments(&self.options.domain, &engine.program, &engine.args))
            .env_clear()
            .envs(environment::cleaned(
                self.options.environment.iter().cloned(),
                &self.named,
            ))
            .envs(engine.env)
            .env(ENV_MARKER, &marker)
            .process_group(0)
            .kill_on_drop(true);
        let prober = Prober {
            address,
            api_key: Some(api_key),
            name: self.name.clone(),
            timing: self.options.timing,
            activity: Arc::clone(&self.activity),
        };
        Ok(Parts {
            number,
            command,
            marker: format!("{ENV_MARKER}={marker}"),
            engine: Arc::clone(&self.engine),
            prober,
            wanted: self.wanted,
        })
    }
}

/// 128 random bits as text.
fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>())
}

/// Owns the context and the timers.
pub struct Supervisor {
    setup: Setup,
    children: Arc<Children>,
    view: watch::Sender<EngineView>,
    sender: Events,
    events: UnboundedReceiver<(u64, Event)>,
    number: u64,
    context: Option<Context>,
    began: Instant,
    start_at: Option<Instant>,
    kill_at: Option<Instant>,
    hopeless_at: Option<Instant>,
}

impl Supervisor {
    /// A supervisor that has not begun.
    pub fn new(setup: Setup, children: Arc<Children>, view: watch::Sender<EngineView>) -> Self {
        let (sender, events) = unbounded_channel();
        Self {
            setup,
            children,
            view,
            sender,
            events,
            number: 0,
            context: None,
            began: Instant::now(),
            start_at: None,
            kill_at: None,
            hopeless_at: None,
        }
    }

    /// Supervise until `shutdown`, or until the worker gives up.
    pub async fn run(mut self, shutdown: CancellationToken) -> Option<Termination> {
        let (mut worker, mut actions) = Worker::start();
        let mut stopping = false;
        loop {
            for action in actions {
                if let Action::Finish(termination) = action {
                    return termination;
                }
                self.perform(action);
            }
            let event = self.next(&shutdown, &mut stopping).await;
            actions = worker.on(event, self.began.elapsed());
        }
    }

    fn perform(&mut self, action: Action) {
        let timing = self.setup.options.timing;
        match action {
            Action::Start { pauses } => self.start_at = Some(Instant::now() + timing.pause * pauses),
            Action::Publish(view) => self.publish(view),
            Action::Kill => self.kill_at = Some(Instant::now()),
            Action::Terminate => self.terminate(),
            Action::Finish(_) => {}
        }
    }

    fn publish(&self, view: EngineView) {
        match &view {
            EngineView::Loading => tracing::info!("starting the engine"),
            EngineView::Ready(target) => {
                let seconds = self.began.elapsed().as_secs_f32();
                tracing::info!(seconds, context_length = target.context_length, "the engine is ready");
            }
            EngineView::Restarting(error) => {
                tracing::warn!(
                    kind = error.kind().as_str(),
                    "the engine is started anew: {}",
                    said(error)
                );
            }
            EngineView::Failed(error) => {
                tracing::error!(kind = error.kind().as_str(), "the engine is given up: {}", said(error));
            }
        }
        self.view.send_replace(view);
    }

    fn terminate(&mut self) {
        self.start_at = None;
        match &self.context {
            Some(context) => {
                context.terminate();
                self.kill_at = Some(Instant::now() + self.setup.options.timing.grace);
            }
            // Nothing runs: what would have been waited for has happened.
            None => drop(self.sender.send((self.number, Event::Ended(never_started())))),
        }
    }

    async fn next(&mut self, shutdown: &CancellationToken, stopping: &mut bool) -> Event {
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if !*stopping => {
                    *stopping = true;
                    return Event::Stop;
                }
                Some((number, event)) = self.events.recv() => {
                    if number == self.number {
                        return self.noticed(event);
                    }
                }
                () = until(self.start_at) => {
                    self.start_at = None;
                    if let Err(hopeless) = self.start().await {
                        return Event::Hopeless(hopeless);
                    }
                }
                () = until(self.kill_at) => self.kill(),
                () = until(self.hopeless_at) => {
                    self.hopeless_at = None;
                    return Event::Hopeless(unkillable());
                }
            }
        }
    }

    fn noticed(&mut self, event: Event) -> Event {
        if matches!(event, Event::Ended(_)) {
            self.context = None;
            self.kill_at = None;
            self.hopeless_at = None;
        }
        event
    }

    async fn start(&mut self) -> Result<(), InferenceError> {
        self.number += 1;
        let parts = self.setup.parts(self.number).map_err(|error| refused(&error))?;
        let context = Context::start(parts, &self.children, self.sender.clone()).await;
        self.context = Some(context.map_err(|error| InferenceError::Internal {
            message: format!("cannot start {}: {error}", self.setup.options.launcher.display()),
        })?);
        Ok(())
    }

    fn kill(&mut self) {
        self.kill_at = None;
        self.hopeless_at = Some(Instant::now() + self.setup.options.timing.kill);
        self.context.iter().for_each(Context::kill);
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// What the pod was told to run cannot be run.
pub fn refused(error: &SetupError) -> InferenceError {
    InferenceError::BadRequest {
        message: error.to_string(),
    }
}

fn never_started() -> InferenceError {
    InferenceError::Internal {
        message: "the engine was not started".to_owned(),
    }
}

fn unkillable() -> InferenceError {
    InferenceError::CudaContextPoisoned {
        message: "the engine's processes do not die after SIGKILL: the GPU's driver hangs".to_owned(),
    }
}
