//! Asks the GPU's children: starts them as an engine is started, for they load libraries that may be the image's, and believes nothing
//! that comes too late.

use std::{process::Stdio, sync::Arc, time::Duration};

use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    sync::{mpsc::UnboundedSender, oneshot},
    time::{sleep, timeout},
};

use super::{
    codes::{Finding, judge},
    report::{Device, Report, Sighting, Xid},
};
use crate::runtime::local::children::{Children, pid_of};

/// A probe that has said nothing so long after its own limit never will.
const LATE: Duration = Duration::from_secs(5);

/// A child with its lines; killed when dropped.
struct Asked {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    pid: Option<i32>,
    children: Arc<Children>,
}

impl Asked {
    async fn start(mut command: Command, children: &Arc<Children>) -> std::io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = children.spawn(command).await?;
        let pid = pid_of(&child);
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| std::io::Error::other("it has no output"))?;
        Ok(Self {
            child,
            lines: BufReader::new(stdout).lines(),
            pid,
            children: Arc::clone(children),
        })
    }

    /// The next line; `None` when there will be none that can be read.
    async fn next<T: serde::de::DeserializeOwned>(&mut self) -> Option<T> {
        let line = self.lines.next_line().await.ok().flatten()?;
        serde_json::from_str(&line).ok()
    }

    /// How it ended.
    async fn end(&mut self) -> String {
        let Ok(status) = self.child.wait().await else {
            return "ended".to_owned();
        };
        match status.signal().and_then(|number| Signal::try_from(number).ok()) {
            Some(signal) => format!("ended with {signal}"),
            None => format!("ended with exit code {}", status.code().unwrap_or(-1)),
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            self.children.forget(pid);
        }
    }
}

/// Runs a probe that has `limit`, and says what it means for devices that are `known`.
pub async fn probe(command: Command, children: Arc<Children>, limit: Duration, known: Vec<Device>) -> Finding {
    let mut asked = match Asked::start(command, &children).await {
        Ok(asked) => asked,
        // No fault of the GPU's.
        Err(error) => return Finding::Busy(format!("the probe cannot be started: {error}")),
    };
    let faulty = |why: String| Finding::Faulty { why, uuid: None };
    let said = timeout(limit + LATE, async {
        match asked.next::<Report>().await {
            Some(report) => Ok(report),
            None => Err(asked.end().await),
        }
    });
    match said.await {
        Ok(Ok(report)) => {
            tracing::info!(outcome = %report.outcome, at = report.at, memory_freed = report.memory_freed, "the GPU was probed");
            let finding = judge(&report, &known);
            if let Finding::Unclear(why) = &finding {
                tracing::warn!("whether the GPU works is not known: {why}");
            }
            finding
        }
        Ok(Err(end)) => faulty(format!("a new process that used it {end}")),
        Err(_) => faulty(format!(
            "a new process that used it did not end within {} s",
            (limit + LATE).as_secs()
        )),
    }
}

/// What a watch finds first: the devices, and why CUDA's driver cannot be loaded, when it cannot. `None` when no watch could be started.
pub type Found = Option<(Vec<Device>, Option<String>)>;

/// Watches for ever, with a new child after `pause` whenever one ends that had found devices. `found` is told what there is.
pub async fn watch(
    command: impl Fn() -> Command,
    children: Arc<Children>,
    pause: Duration,
    found: oneshot::Sender<Found>,
    xids: UnboundedSender<Xid>,
) {
    let mut found = Some(found);
    loop {
        let devices = once(command(), &children, &mut found, &xids).await;
        if let Some(found) = found.take() {
            // It ended without a word; nobody may be waiting any more.
            let _ = found.send(None);
        }
        if !devices {
            return;
        }
        tracing::warn!("the watch for Xids ended and is started anew");
        sleep(pause).await;
    }
}

/// One child; true when it had devices to watch.
async fn once(
    command: Command,
    children: &Arc<Children>,
    found: &mut Option<oneshot::Sender<Found>>,
    xids: &UnboundedSender<Xid>,
) -> bool {
    let Ok(mut asked) = Asked::start(command, children).await else {
        return false;
    };
    let mut watched = false;
    while let Some(sighting) = asked.next().await {
        match sighting {
            Sighting::Found { devices, missing } => {
                watched = !devices.is_empty();
                if let Some(found) = found.take() {
                    let _ = found.send(Some((devices, missing)));
                }
            }
            Sighting::Xid(xid) => {
                tracing::warn!(device = xid.uuid, xid = xid.xid, "the driver reports an Xid");
                let _ = xids.send(xid);
            }
        }
    }
    watched
}
