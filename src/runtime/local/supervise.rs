//! The supervisor: carries out what the worker decides and tells it what happens.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;
use tokio::{
    process::Command,
    sync::{
        mpsc::{UnboundedReceiver, unbounded_channel},
        oneshot, watch,
    },
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{
    activity::Activity,
    cgroup,
    children::Children,
    context::{Context, ENV_MARKER, Events, Parts},
    engine::{self, Engine, Group, Limits, Placement, SetupError},
    environment, exec,
    gpu::{
        ask,
        codes::Finding,
        probe,
        report::{Device, Xid},
        suspicion::Gpus,
        watch as gpu_watch,
    },
    options::Options,
    prober::Prober,
    restart::RestartPolicy,
    termination::{Termination, said},
    view::EngineView,
    worker::{Action, Event, Worker},
};
use crate::{
    api::{self, GpuReport, LocalBackend},
    error::InferenceError,
    policy::support::NVIDIAS,
};

/// What every context of this worker has in common.
pub struct Setup {
    options: Options,
    engine: Arc<dyn Engine>,
    model: Option<PathBuf>,
    /// What clients call the model.
    name: String,
    named: BTreeSet<String>,
    wanted: Limits,
    /// The pod was to get GPUs of NVIDIA, by number.
    asks_nvidia: bool,
    /// Where this pod is among those that the engine runs in.
    group: Option<Group>,
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
            model: engine::model_path(backend, &options.models, options.fetched.as_deref())?,
            name: options.model_name(name).to_owned(),
            named: environment::named_by(backend),
            wanted: Limits::wanted(backend),
            asks_nvidia: backend.gpus.as_ref().is_some_and(counts_nvidias),
            group: Group::of(backend, &options.environment)?,
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
            group: self.group.as_ref(),
            // The standard library reads affinity and the quotas of both cgroup versions.
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory: cgroup::memory_limit(),
        };
        let engine = self.engine.command(&place)?;
        let mut command = self.confined(&engine.program, &engine.args);
        command
            .envs(engine.env)
            .env(ENV_MARKER, &marker)
            .process_group(0)
            .kill_on_drop(true);
        let follows = self.group.as_ref().is_some_and(Group::follows);
        let prober = (!follows).then(|| Prober {
            address,
            api_key: Some(api_key),
            name: self.name.clone(),
            timing: self.options.timing,
            activity: Arc::clone(&self.activity),
        });
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

impl Setup {
    /// A program that comes from the engine's image, or loads libraries that may: kept from the keys.
    fn confined(&self, program: &Path, arguments: &[OsString]) -> Command {
        let Options {
            launcher,
            domain,
            environment,
            ..
        } = &self.options;
        let mut command = Command::new(launcher);
        command
            .args(exec::arguments(domain, program, arguments))
            .env_clear()
            .envs(environment::cleaned(environment.iter().cloned(), &self.named));
        command
    }

    /// What watches the GPUs.
    fn watch(&self) -> Command {
        self.confined(&self.options.launcher, &[gpu_watch::SUBCOMMAND.into()])
    }

    /// What tries whether they work, once they use no more memory than they did without an engine.
    fn probe(&self, idle: &[Device]) -> Command {
        let seconds = |flag: &str, time: Duration| format!("--{flag}={}", time.as_secs().max(1)).into();
        let timing = &self.options.timing;
        let mut arguments: Vec<OsString> = vec![
            probe::SUBCOMMAND.into(),
            seconds("free-within", timing.memory),
            seconds("limit", timing.probe),
        ];
        let used = idle.iter().filter_map(|device| Some((&device.uuid, device.used?)));
        arguments.extend(used.map(|(uuid, bytes)| format!("--idle={uuid}={bytes}").into()));
        self.confined(&self.options.launcher, &arguments)
    }
}

/// GPUs that NVIDIA's device plugin counts: its driver belongs to the container then.
fn counts_nvidias(gpus: &api::Gpus) -> bool {
    gpus.count.is_some() && !gpus.are_claimed() && gpus.resource_name().starts_with(NVIDIAS)
}

/// 128 random bits as text.
fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>())
}

/// How the supervisor and the rest of the process hear of each other.
pub struct Doors {
    /// Whether the engine may be sent requests.
    pub view: watch::Sender<EngineView>,
    /// The GPUs; `None` where there are none.
    pub gpu: watch::Sender<Option<GpuReport>>,
    /// Why no engine may run in this pod, once the controller says so.
    pub hold: watch::Receiver<Option<String>>,
}

/// Owns the context, the timers and what asks the GPU.
pub struct Supervisor {
    setup: Arc<Setup>,
    children: Arc<Children>,
    doors: Doors,
    sender: Events,
    events: UnboundedReceiver<(u64, Event)>,
    xids: Option<UnboundedReceiver<Xid>>,
    watching: Option<AbortOnDropHandle<()>>,
    idle: Vec<Device>,
    probing: Option<AbortOnDropHandle<Finding>>,
    number: u64,
    context: Option<Context>,
    began: Instant,
    start_at: Option<Instant>,
    probe_at: Option<Instant>,
    kill_at: Option<Instant>,
    hopeless_at: Option<Instant>,
}

impl Supervisor {
    /// A supervisor that has not begun.
    pub fn new(setup: Setup, children: Arc<Children>, doors: Doors) -> Self {
        let (sender, events) = unbounded_channel();
        Self {
            setup: Arc::new(setup),
            children,
            doors,
            sender,
            events,
            xids: None,
            watching: None,
            idle: Vec::new(),
            probing: None,
            number: 0,
            context: None,
            began: Instant::now(),
            start_at: None,
            probe_at: None,
            kill_at: None,
            hopeless_at: None,
        }
    }

    /// Supervise until `shutdown`, or until the worker gives up.
    pub async fn run(mut self, shutdown: CancellationToken) -> Option<Termination> {
        let gpus = shutdown.run_until_cancelled(self.look_for_gpus()).await?;
        self.idle.clone_from(&gpus.devices);
        let policy = match self.setup.group {
            Some(_) => RestartPolicy::never(),
            None => RestartPolicy::default(),
        };
        let (mut worker, mut actions) = Worker::start(gpus, policy);
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

    /// Before any engine uses them: what they use then is what they use when none runs.
    async fn look_for_gpus(&mut self) -> Gpus {
        let ((found, finding), (sender, xids)) = (oneshot::channel(), unbounded_channel());
        let setup = Arc::clone(&self.setup);
        let timing = setup.options.timing;
        let watch = ask::watch(
            move || setup.watch(),
            Arc::clone(&self.children),
            timing.rewatch,
            found,
            sender,
        );
        self.watching = Some(AbortOnDropHandle::new(tokio::spawn(watch)));
        self.xids = Some(xids);
        match timeout(timing.survey, finding).await {
            Ok(Ok(Some((devices, missing)))) => {
                let named: Vec<_> = devices.iter().map(|device| &device.uuid).collect();
                tracing::info!(devices = ?named, missing, "looked for GPUs");
                Gpus::found(devices, missing, self.setup.asks_nvidia)
            }
            Ok(_) => Gpus::default(),
            Err(_) => {
                tracing::warn!("the GPU's driver does not answer");
                Gpus::silent()
            }
        }
    }

    fn perform(&mut self, action: Action) {
        let timing = self.setup.options.timing;
        match action {
            Action::Start { pauses } => self.start_at = Some(Instant::now() + timing.pause * pauses),
            Action::Probe { pauses } => self.probe_at = Some(Instant::now() + timing.pause * pauses),
            Action::Publish(view) => self.publish(view),
            Action::Report(report) => drop(self.doors.gpu.send_replace(Some(report))),
            Action::Doubt => self.setup.activity.doubt(),
            Action::Kill => self.condemn(),
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
            // Said by who brings the model.
            EngineView::Downloading(_) | EngineView::NoModel(..) => {}
            EngineView::Failed(error) => {
                tracing::error!(kind = error.kind().as_str(), "the engine is given up: {}", said(error));
            }
        }
        self.doors.view.send_replace(view);
    }

    /// At once, though not in the midst of a batch of actions: the request path is told before.
    fn condemn(&mut self) {
        // An engine that is still to be started would use what is accused.
        self.start_at = None;
        match &self.context {
            Some(_) => self.kill_at = Some(Instant::now()),
            None => self.nothing_runs(),
        }
    }

    /// What would have been waited for has happened.
    fn nothing_runs(&self) {
        // Nobody listens any more only when this supervisor is gone.
        let _ = self.sender.send((self.number, Event::Ended(never_started().into())));
    }

    fn terminate(&mut self) {
        (self.start_at, self.probe_at, self.probing) = (None, None, None);
        match &self.context {
            Some(context) => {
                context.terminate();
                self.kill_at = Some(Instant::now() + self.setup.options.timing.grace);
            }
            None => self.nothing_runs(),
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
                () = until(self.probe_at) => self.probe(),
                finding = found(&mut self.probing) => return Event::Probed(finding),
                xid = seen(&mut self.xids) => return Event::Xid(xid),
                why = told(&mut self.doors.hold) => return Event::Hold(why),
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

    fn probe(&mut self) {
        self.probe_at = None;
        let (command, limit) = (self.setup.probe(&self.idle), self.setup.options.timing.probe);
        let probe = ask::probe(command, Arc::clone(&self.children), limit, self.idle.clone());
        self.probing = Some(AbortOnDropHandle::new(tokio::spawn(probe)));
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

/// What a probe found; never when none runs.
async fn found(probing: &mut Option<AbortOnDropHandle<Finding>>) -> Finding {
    let Some(running) = probing else {
        return std::future::pending().await;
    };
    let finding = running.await;
    *probing = None;
    finding.unwrap_or_else(|error| Finding::Busy(format!("the probe was not carried out: {error}")))
}

/// The next Xid; never when nothing is watched.
async fn seen(xids: &mut Option<UnboundedReceiver<Xid>>) -> Xid {
    if let Some(watched) = xids
        && let Some(xid) = watched.recv().await
    {
        return xid;
    }
    *xids = None;
    std::future::pending().await
}

/// The next word that no engine may run; never when nobody is left to say so.
async fn told(hold: &mut watch::Receiver<Option<String>>) -> String {
    while hold.changed().await.is_ok() {
        if let Some(why) = hold.borrow_and_update().clone() {
            return why;
        }
    }
    std::future::pending().await
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
