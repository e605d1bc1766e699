//! Which device a fault may be of: pure.

use std::collections::BTreeMap;

use super::{
    codes::{Blame, blame},
    report::{Device, Xid},
};
use crate::{
    api::{GpuDevice, GpuFault, GpuFaultReason, GpuReport, GpuSuspect},
    error::{ErrorKind, InferenceError},
    runtime::local::termination::{said, truncate},
};

/// Devices that a report names.
const MOST: usize = 16;
/// Bytes of a message.
const MESSAGE: usize = 512;

/// What is known of this pod's GPUs.
#[derive(Clone, Debug, Default)]
pub struct Gpus {
    /// There is a driver: what an engine's end means is asked of it.
    pub present: bool,
    /// The devices, with what they used when no engine ran.
    pub devices: Vec<Device>,
    /// Why there is no driver, where the pod asked for GPUs of NVIDIA.
    pub unavailable: Option<String>,
    /// The last Xid of each device since an engine last answered a canary.
    xids: BTreeMap<String, Xid>,
}

impl Gpus {
    /// What a watch found; `missing` says why CUDA's driver cannot be loaded. `asked`: the pod was to get GPUs of NVIDIA.
    pub fn found(devices: Vec<Device>, missing: Option<String>, asked: bool) -> Self {
        let present = missing.is_none() || !devices.is_empty();
        Self {
            present,
            devices,
            unavailable: missing.filter(|_| asked && !present),
            xids: BTreeMap::new(),
        }
    }

    /// There must be some, but their driver does not answer.
    pub fn silent() -> Self {
        Self::found(Vec::new(), None, true)
    }

    /// Takes note of an Xid. Another container's devices are nobody's business here.
    pub fn note(&mut self, xid: &Xid) -> Blame {
        let ours = self.devices.is_empty() || self.devices.iter().any(|device| device.uuid == xid.uuid);
        let blame = if ours { blame(xid) } else { Blame::Nobody };
        if blame != Blame::Nobody {
            self.xids.insert(xid.uuid.clone(), xid.clone());
        }
        blame
    }

    /// An engine computes: what was seen before is over.
    pub fn forget(&mut self) {
        self.xids.clear();
    }

    /// An end that an Xid explains is poison: the engine's own words are about its consequences.
    pub fn explain(&self, error: InferenceError) -> InferenceError {
        match self.xids.values().next() {
            Some(xid) if is_vague(&error) => poison(xid, &said(&error)),
            _ => error,
        }
    }

    /// Which devices a fault may be of: the one that is known to fail, else those with an Xid, else all.
    pub fn suspects(&self, failing: Option<&str>) -> Vec<GpuSuspect> {
        let all = self.devices.iter().map(|device| device.uuid.as_str());
        let uuids: Vec<&str> = match failing {
            Some(uuid) => vec![uuid],
            None if self.xids.is_empty() => all.collect(),
            None => self.xids.keys().map(String::as_str).collect(),
        };
        let suspects = uuids.into_iter().take(MOST).map(|uuid| GpuSuspect {
            uuid: uuid.to_owned(),
            xid: self.xids.get(uuid).and_then(|xid| i64::try_from(xid.xid).ok()),
        });
        suspects.collect()
    }

    /// The report with a fault, or without.
    pub fn report(&self, fault: Option<&Fault>) -> GpuReport {
        let devices = self.devices.iter().take(MOST).map(|device| GpuDevice {
            uuid: device.uuid.clone(),
            product: truncate(&device.name, 96),
        });
        GpuReport {
            devices: devices.collect(),
            unavailable: self.unavailable.as_deref().map(|reason| truncate(reason, MESSAGE)),
            fault: fault.map(|fault| GpuFault {
                reason: fault.reason,
                message: truncate(&fault.message, MESSAGE),
                suspects: self.suspects(fault.failing.as_deref()),
            }),
        }
    }
}

/// It says that an engine failed, and not of what.
pub fn is_vague(error: &InferenceError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ServerError | ErrorKind::NetworkError | ErrorKind::Timeout
    )
}

/// What is wrong with a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// How far it goes.
    pub reason: GpuFaultReason,
    /// What was seen.
    pub message: String,
    /// The device that is known to fail.
    pub failing: Option<String>,
}

/// Poison by an Xid.
pub fn poison(xid: &Xid, detail: &str) -> InferenceError {
    let Xid { uuid, xid, .. } = xid;
    let detail = if detail.is_empty() {
        String::new()
    } else {
        format!(": {detail}")
    };
    InferenceError::CudaContextPoisoned {
        message: format!("Xid {xid} on {uuid}{detail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::local::gpu::report::Recovery;

    fn gpus() -> Gpus {
        let devices = ["GPU-a", "GPU-b"].map(|uuid| Device {
            uuid: uuid.to_owned(),
            name: "H100".to_owned(),
            used: None,
            total: None,
            recovery: None,
        });
        Gpus::found(devices.into(), None, true)
    }

    fn xid(uuid: &str, xid: u64, recovery: Option<Recovery>) -> Xid {
        Xid {
            uuid: uuid.to_owned(),
            xid,
            recovery,
        }
    }

    fn named(suspects: Vec<GpuSuspect>) -> Vec<(String, Option<i64>)> {
        suspects
            .into_iter()
            .map(|suspect| (suspect.uuid, suspect.xid))
            .collect()
    }

    #[test]
    fn the_narrowest_suspicion_counts() {
        let mut gpus = gpus();
        let all = vec![("GPU-a".to_owned(), None), ("GPU-b".to_owned(), None)];
        assert_eq!(named(gpus.suspects(None)), all);
        assert_eq!(gpus.note(&xid("GPU-b", 31, None)), Blame::Process);
        assert_eq!(named(gpus.suspects(None)), [("GPU-b".to_owned(), Some(31))]);
        assert_eq!(named(gpus.suspects(Some("GPU-a"))), [("GPU-a".to_owned(), None)]);
        gpus.forget();
        assert_eq!(named(gpus.suspects(None)), all);
    }

    #[test]
    fn another_containers_device_is_nobodys_business() {
        let mut gpus = gpus();
        assert_eq!(gpus.note(&xid("GPU-z", 79, Some(Recovery::NodeReboot))), Blame::Nobody);
        assert_eq!(gpus.suspects(None).len(), 2);
    }

    #[test]
    fn an_xid_explains_what_the_engine_cannot() {
        let mut gpus = gpus();
        let crash = InferenceError::ServerError {
            status: 500,
            body: Some("signal 6".to_owned()),
        };
        assert_eq!(gpus.explain(crash.clone()), crash);
        gpus.note(&xid("GPU-a", 31, None));
        let InferenceError::CudaContextPoisoned { message } = gpus.explain(crash) else {
            panic!("it is no poison")
        };
        assert_eq!(message, "Xid 31 on GPU-a: signal 6");
        let memory = InferenceError::Backpressure {
            message: "out of memory".to_owned(),
        };
        assert_eq!(gpus.explain(memory.clone()), memory);
    }
}
