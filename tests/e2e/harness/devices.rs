//! GPUs that are not there: tools/local-cluster/devices offers them to the kubelet and the scheduler, which take them for real ones.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use tempfile::NamedTempFile;

use super::kubectl;

/// Devices that are there until this is dropped.
pub struct Devices {
    program: Child,
    faults: NamedTempFile,
}

impl Devices {
    /// As a device plugin offers them.
    pub fn plugin(resource: &str, devices: &[&str]) -> Self {
        Self::start(&["plugin", "--resource", resource], devices)
    }

    /// As a driver for dynamic resource allocation does, each as `DEVICE,PRODUCT,MEMORY`.
    pub fn driver(name: &str, devices: &[&str]) -> Self {
        Self::start(&["driver", "--name", name, "--node", &node()], devices)
    }

    fn start(what: &[&str], devices: &[&str]) -> Self {
        let faults = NamedTempFile::new().expect("a file");
        let program = Command::new("fake-devices")
            .args(what)
            .arg("--faults")
            .arg(faults.path())
            .args(devices)
            // It ends when this is closed, so that a test that dies leaves nothing behind.
            .stdin(Stdio::piped())
            .spawn()
            .expect("scripts/build-cluster made fake-devices");
        Self { program, faults }
    }

    /// From now on this device is broken, and no other one.
    pub fn breaks(&self, device: &str, why: &str) {
        fs::write(self.faults.path(), format!("{device} {why}\n")).expect("written");
    }

    /// From now on no device is broken.
    pub fn heal(&self) {
        fs::write(self.faults.path(), "").expect("written");
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        drop(self.program.stdin.take());
        let _ = self.program.wait();
    }
}

/// Name of the only node.
pub fn node() -> String {
    kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])
}
