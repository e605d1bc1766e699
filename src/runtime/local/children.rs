//! Duties of a parent: children are spawned by a thread that outlives them, orphans are reaped, strays are found (design section 10).

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use std::sync::{Mutex, PoisonError};
use tokio::{
    process::{Child, Command},
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

type Order = (Command, Handle, oneshot::Sender<io::Result<Child>>);

/// The children of this process.
///
/// The kernel sends the parent-death signal when the *thread* that forked ends, and threads of an async runtime come and go: so one thread
/// does nothing but spawn, and lives as long as this value.
#[derive(Debug)]
pub struct Children {
    orders: Sender<Order>,
    spawned: Arc<Mutex<BTreeSet<i32>>>,
}

impl Children {
    /// Start the thread.
    pub fn start() -> io::Result<Arc<Self>> {
        let (orders, inbox) = channel();
        let spawned = Arc::new(Mutex::default());
        let known = Arc::clone(&spawned);
        std::thread::Builder::new()
            .name("engine-parent".to_owned())
            .spawn(move || serve(&inbox, &known))?;
        Ok(Arc::new(Self { orders, spawned }))
    }

    /// Spawn a child. Whoever waits for it calls [`Self::forget`] afterwards.
    pub async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (answer, result) = oneshot::channel();
        self.orders
            .send((command, Handle::current(), answer))
            .map_err(|_| io::Error::other("the spawning thread has ended"))?;
        result.await.map_err(io::Error::other)?
    }

    /// A child was waited for: its number may be given to another process.
    pub fn forget(&self, pid: i32) {
        lock(&self.spawned).remove(&pid);
    }

    /// As process 1, reap what orphaned processes leave behind, until this is dropped by its task's abort.
    pub async fn reap_orphans(self: Arc<Self>) -> io::Result<()> {
        let mut ended = signal(SignalKind::child())?;
        while ended.recv().await.is_some() {
            self.reap_once();
        }
        Ok(())
    }

    /// Held while spawning, so that a child that ends at once is never taken for an orphan: its status belongs to its waiter.
    fn reap_once(&self) {
        let spawned = lock(&self.spawned);
        for process in processes().filter(Process::is_our_zombie) {
            if !spawned.contains(&process.pid) {
                // It may be gone already: nothing to do then.
                let _ = waitpid(Pid::from_raw(process.pid), Some(WaitPidFlag::WNOHANG));
            }
        }
    }
}

fn lock(spawned: &Mutex<BTreeSet<i32>>) -> std::sync::MutexGuard<'_, BTreeSet<i32>> {
    spawned.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(inbox: &Receiver<Order>, spawned: &Mutex<BTreeSet<i32>>) {
    while let Ok((mut command, runtime, answer)) = inbox.recv() {
        let _inside = runtime.enter();
        let mut known = lock(spawned);
        let child = command.spawn();
        known.extend(child.iter().filter_map(pid_of));
        drop(known);
        // Nobody may be waiting any more: dropping the child then kills it (kill_on_drop).
        let _ = answer.send(child);
    }
}

/// The number of a child that was not waited for yet.
pub fn pid_of(child: &Child) -> Option<i32> {
    child.id().and_then(|id| i32::try_from(id).ok())
}

struct Process {
    pid: i32,
    state: char,
    parent: i32,
}

impl Process {
    fn is_our_zombie(&self) -> bool {
        self.state == 'Z' && u32::try_from(self.parent) == Ok(std::process::id())
    }
}

fn processes() -> impl Iterator<Item = Process> {
    pids().filter_map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        parse_stat(pid, &stat)
    })
}

/// `PID (NAME) STATE PARENT …`, where the name may hold anything.
fn parse_stat(pid: i32, stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some(Process {
        pid,
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
    })
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Kill every process whose environment holds `marker` (`NAME=VALUE`): descendants of a context that left its process group.
/// True when there was one that still runs.
pub fn kill_strays(marker: &str) -> bool {
    let mut found = false;
    for pid in pids().filter(|pid| u32::try_from(*pid) != Ok(std::process::id())) {
        let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else {
            continue;
        };
        if environment
            .split(|&byte| byte == 0)
            .any(|entry| entry == marker.as_bytes())
        {
            found |= kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let process = parse_stat(7, "7 (a) Z 1 (b)) S 42 7 7 0").unwrap();
        assert_eq!((process.state, process.parent), ('S', 42));
        assert!(parse_stat(7, "garbage").is_none());
    }
}
