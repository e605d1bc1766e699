//! The context: one engine process with its group, and everything that watches it. Replaceable (design section 10).

use std::{
    io,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::AsyncRead,
    process::{Child, Command},
    sync::{Notify, mpsc::UnboundedSender},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    cgroup,
    children::{self, Children},
    classify::{Evidence, Symptom},
    engine::{Engine, Limits},
    lines::each_line,
    prober::{Known, Prober, Sign},
    ring::Ring,
    worker::Event,
};
use crate::{error::InferenceError, runtime::sync::lock};

/// Name of the variable that marks every process of a context, whatever group it moves to.
pub const ENV_MARKER: &str = "ENGINE_CONTEXT";

/// How long output may trickle in after the engine ended: a descendant may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long descendants may take to vanish after SIGKILL before the next context is started all the same.
const CLEARING: Duration = Duration::from_secs(5);
const TAIL: usize = 20;

/// Events of a context, tagged with its number so that those of a former one are told apart.
pub type Events = UnboundedSender<(u64, Event)>;

/// What a context is made of.
pub struct Parts {
    pub number: u64,
    pub command: Command,
    pub marker: String,
    pub engine: Arc<dyn Engine>,
    /// What asks it; none where it has no API.
    pub prober: Option<Prober>,
    pub wanted: Limits,
}

/// A running context. Dropping it kills its processes.
pub struct Context {
    group: Pid,
    marker: String,
    gone: CancellationToken,
    /// Ended with the context.
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Log {
    ring: Ring,
    evidence: Evidence,
}

impl Log {
    fn poison(&self) -> Option<InferenceError> {
        let message = self.evidence.poison()?.to_owned();
        Some(InferenceError::CudaContextPoisoned { message })
    }
}

/// What the tasks of a context share.
struct Watch {
    number: u64,
    engine: Arc<dyn Engine>,
    log: Mutex<Log>,
    gone: CancellationToken,
    events: Events,
    /// The log says that the context is poisoned, or a client does.
    suspected: Notify,
}

impl Context {
    /// Start the engine and all that watches it.
    pub async fn start(parts: Parts, children: &Arc<Children>, events: Events) -> io::Result<Self> {
        let Parts {
            number,
            mut command,
            marker,
            engine,
            prober,
            wanted,
        } = parts;
        let oom_before = cgroup::oom_kills();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = children.spawn(command).await?;
        let pid = children::pid_of(&child).ok_or_else(|| io::Error::other("the engine has no process number"))?;
        let watch = Arc::new(Watch {
            number,
            engine,
            log: Mutex::default(),
            gone: CancellationToken::new(),
            events,
            suspected: Notify::new(),
        });
        let mut readers = JoinSet::new();
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            readers.spawn(Arc::clone(&watch).read(stdout));
            readers.spawn(Arc::clone(&watch).read(stderr));
        }
        let context = Self {
            group: Pid::from_raw(pid),
            marker: marker.clone(),
            gone: watch.gone.clone(),
            tasks: JoinSet::new(),
        };
        Ok(context.attend(
            &watch,
            prober,
            wanted,
            Waiter {
                child,
                children: Arc::clone(children),
                readers,
                marker,
                oom_before,
            },
        ))
    }

    fn attend(mut self, watch: &Arc<Watch>, prober: Option<Prober>, wanted: Limits, waiter: Waiter) -> Self {
        let group = self.group;
        self.tasks.spawn(Arc::clone(watch).wait(group, waiter));
        if let Some(prober) = prober {
            self.tasks.spawn(Arc::clone(watch).probe(prober, wanted));
        }
        self
    }

    /// Ask the group to end.
    pub fn terminate(&self) {
        self.gone.cancel();
        // The group may have ended already.
        let _ = killpg(self.group, Signal::SIGTERM);
    }

    /// Kill the group.
    pub fn kill(&self) {
        self.gone.cancel();
        let _ = killpg(self.group, Signal::SIGKILL);
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.kill();
        children::kill_strays(&self.marker);
    }
}

/// What the waiting task owns.
struct Waiter {
    child: Child,
    children: Arc<Children>,
    readers: JoinSet<()>,
    marker: String,
    oom_before: Option<u64>,
}

impl Watch {
    fn send(&self, event: Event) {
        // Nobody listens any more when the supervisor is gone: nothing is left to do then.
        let _ = self.events.send((self.number, event));
    }

    async fn read(self: Arc<Self>, from: impl AsyncRead + Unpin) {
        each_line(from, |line| self.line(line)).await;
    }

    fn line(&self, line: &str) {
        tracing::debug!(target: "engine", "{line}");
        let symptom = self.engine.classify(line);
        let mut log = self.log();
        log.ring.push(line);
        log.evidence.note(symptom, line);
        if symptom != Some(Symptom::Poisoned) {
            return;
        }
        if self.engine.logs_requests() {
            self.suspected.notify_one();
        } else if let Some(poison) = log.poison() {
            // Not one more byte: the request path learns it before anything else happens.
            self.gone.cancel();
            self.send(Event::Sick(poison));
        }
    }

    async fn wait(self: Arc<Self>, group: Pid, waiter: Waiter) {
        let Waiter {
            mut child,
            children,
            mut readers,
            marker,
            oom_before,
        } = waiter;
        let status = child.wait().await;
        self.gone.cancel();
        children.forget(group.as_raw());
        clear(group, &marker).await;
        let _ = timeout(LAST_WORDS, async { while readers.join_next().await.is_some() {} }).await;
        let killed = oom_before
            .zip(cgroup::oom_kills())
            .is_some_and(|(before, after)| after > before);
        let log = self.log();
        let ending = match status {
            Ok(status) => log.evidence.ending(status, killed),
            Err(error) => InferenceError::Internal {
                message: format!("cannot wait for the engine: {error}"),
            }
            .into(),
        };
        let tail: Vec<&str> = log.ring.tail(TAIL).collect();
        tracing::info!(last_lines = tail.join("\n"), "the engine's process ended");
        self.send(Event::Ended(ending));
    }

    async fn probe(self: Arc<Self>, prober: Prober, wanted: Limits) {
        if let Some(error) = self
            .gone
            .run_until_cancelled(self.probe_until_sick(prober, wanted))
            .await
        {
            self.gone.cancel();
            self.send(Event::Sick(error));
        }
    }

    async fn probe_until_sick(&self, prober: Prober, wanted: Limits) -> InferenceError {
        let known = match prober.ready(&*self.engine).await {
            Ok(known) => known,
            Err(error) => return error,
        };
        let target = prober.target(&known, wanted, self.gone.clone());
        let places = target.parallel;
        if let Some(told) = self.log().evidence.outlived() {
            tracing::warn!("the engine serves, though perhaps on the CPU: {told}");
        }
        self.send(Event::Ready(Arc::new(target)));
        tokio::select! {
            error = prober.sick(&known, places, |sign| self.alive(sign)) => self.explained(error),
            poison = self.confirmed(&prober, &known) => poison,
        }
    }

    /// A canary that failed confirms what the log says; one that only waited does not.
    fn explained(&self, error: InferenceError) -> InferenceError {
        match error {
            InferenceError::Timeout { .. } => error,
            _ => self.log().poison().unwrap_or(error),
        }
    }

    /// Until the log says that the context is poisoned, and a canary fails. One that only waits is left to the prober.
    async fn confirmed(&self, prober: &Prober, known: &Known) -> InferenceError {
        loop {
            self.suspected.notified().await;
            let accused = self.log().evidence.accusations();
            let answer = prober.canary_now(known).await;
            let mut log = self.log();
            match (answer, log.poison()) {
                (Ok(()), _) => log.evidence.acquit(accused),
                (Err(InferenceError::Timeout { .. }), _) => prober.activity.doubt(),
                (Err(_), Some(poison)) => return poison,
                (Err(_), None) => {}
            }
        }
    }

    fn alive(&self, sign: Sign) {
        self.log().evidence.survived();
        if sign == Sign::Canary {
            self.send(Event::Answered);
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }
}

/// Kill what is left of the group and of processes that left it, until none is seen.
async fn clear(group: Pid, marker: &str) {
    let end = Instant::now() + CLEARING;
    while Instant::now() < end {
        let _ = killpg(group, Signal::SIGKILL);
        if !children::kill_strays(marker) {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    tracing::warn!("processes of the engine do not die");
}
