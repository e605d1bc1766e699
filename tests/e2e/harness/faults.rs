//! Faults from outside: processes of the cluster are killed or frozen. The tests share the cluster's PID namespace.

use std::{fs, net::IpAddr, process::Command};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Processes of that name (cut to 15 characters, as the kernel does), with what they were started with.
fn processes(name: &str) -> Vec<(Pid, String)> {
    let short: String = name.chars().take(15).collect();
    let folders = fs::read_dir("/proc").expect("/proc").flatten();
    folders
        .filter_map(|folder| {
            let pid = folder.file_name().to_str()?.parse().ok()?;
            let comm = fs::read_to_string(folder.path().join("comm")).ok()?;
            let environment = fs::read(folder.path().join("environ")).ok()?;
            (comm.trim() == short).then(|| (Pid::from_raw(pid), String::from_utf8_lossy(&environment).into_owned()))
        })
        .collect()
}

/// The runtime in a pod.
pub fn runtimes(pod: &str) -> Vec<Pid> {
    let wanted = format!("INFERENCE_POD_NAME={pod}\0");
    let found = processes("inference-runtime").into_iter();
    found
        .filter(|(_, environment)| environment.contains(&wanted))
        .map(|(pid, _)| pid)
        .collect()
}

/// kill -9 of the runtime in a pod; the kubelet starts it again. Returns false when none runs there.
pub fn kill_runtime(pod: &str) -> bool {
    let found = runtimes(pod);
    for pid in &found {
        let _ = kill(*pid, Signal::SIGKILL);
    }
    !found.is_empty()
}

/// kill -9 of every controller; the kubelet starts it again.
pub fn kill_controllers() {
    for (pid, _) in processes("inference-controller") {
        let _ = kill(pid, Signal::SIGKILL);
    }
}

/// A process that answers nobody until this is dropped.
pub struct Frozen(Vec<Pid>);

impl Frozen {
    /// `kube-apiserver` or `inference-controller`.
    pub fn new(name: &str) -> Self {
        let pids: Vec<_> = processes(name).into_iter().map(|(pid, _)| pid).collect();
        assert!(!pids.is_empty(), "{name} runs in this PID namespace");
        for pid in &pids {
            kill(*pid, Signal::SIGSTOP).expect("it can be stopped");
        }
        Self(pids)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill(*pid, Signal::SIGCONT);
        }
    }
}

/// A pod and an address that hear nothing of each other until this is dropped.
pub struct Cut {
    pod: Pid,
    address: String,
}

impl Cut {
    /// In the network namespace of the pod.
    pub fn between(pod: &str, address: IpAddr) -> Self {
        let pod = *runtimes(pod).first().expect("a runtime in the pod");
        let address = address.to_string();
        let cut = Self { pod, address };
        assert!(cut.rules("--insert"), "nsenter and iptables work here");
        cut
    }

    fn rules(&self, verb: &str) -> bool {
        [["INPUT", "--source"], ["OUTPUT", "--destination"]]
            .iter()
            .all(|[chain, end]| {
                let status = Command::new("nsenter")
                    .args([
                        "--net",
                        "--target",
                        &self.pod.to_string(),
                        "iptables",
                        "--wait",
                        verb,
                        chain,
                    ])
                    .args([end, self.address.as_str(), "--jump", "DROP"])
                    .status();
                status.is_ok_and(|status| status.success())
            })
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.rules("--delete");
    }
}
