//! What numbers of the driver mean for the ladder: pure. Sources: the comments of NVIDIA's `cuda.h` 13.5, and NVIDIA's Xid catalogue.

use super::report::{Device, Outcome, Recovery, Report, Xid};

/// `CUDA_ERROR_OUT_OF_MEMORY`.
pub const OUT_OF_MEMORY: i32 = 2;
/// Codes of `cuModuleLoadData` that speak of the compiler and not of the GPU: no kernel image, invalid PTX, no JIT compiler, a PTX version
/// that it does not know, compilation disabled.
const NO_COMPILER: [i32; 5] = [209, 218, 221, 222, 223];
/// The device is somebody's, or the system is not ready yet: not a fault of the GPU. Out of memory, device unavailable, system not ready,
/// the MPS server's limits and readiness, fabric not ready.
const BUSY: [i32; 8] = [OUT_OF_MEMORY, 46, 802, 805, 806, 807, 808, 919];
/// `CUDA_ERROR_OPERATING_SYSTEM`: the driver was refused a call of its own.
const OPERATING_SYSTEM: i32 = 304;

/// True when a module could not be loaded for want of a compiler.
#[must_use]
pub fn lacks_compiler(code: i32) -> bool {
    NO_COMPILER.contains(&code)
}

/// What a probe says of the GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A new process works.
    Sound,
    /// It may work a little later.
    Busy(String),
    /// Nobody can tell: what failed is no matter of the GPU.
    Unclear(String),
    /// It does not work in a new process either, or the driver asks for a repair.
    Faulty {
        /// Why.
        why: String,
        /// Which device, when known.
        uuid: Option<String>,
    },
}

/// Reads a probe's report on the devices `known` from before.
#[must_use]
pub fn judge(report: &Report, known: &[Device]) -> Finding {
    let faulty = |uuid: Option<&String>, why: String| Finding::Faulty {
        why,
        uuid: uuid.cloned(),
    };
    match &report.outcome {
        Outcome::Works => {
            if let Some((uuid, action)) = repair_wanted(report) {
                return faulty(Some(uuid), format!("the driver asks for {action}"));
            }
            match lost(report, known) {
                Some(uuid) => faulty(Some(uuid), "the driver does not see it any more".to_owned()),
                None => Finding::Sound,
            }
        }
        Outcome::CallFailed { code, .. } if BUSY.contains(code) => Finding::Busy(report.outcome.to_string()),
        Outcome::CallFailed {
            code: OPERATING_SYSTEM, ..
        } => Finding::Unclear(format!(
            "{}: the system refuses the driver a call, most likely for the container's sandbox (Landlock, seccomp) or a driver that does not fit its kernel module",
            report.outcome
        )),
        other => faulty(report.at.as_ref(), format!("in a new process, {other}")),
    }
}

/// The first device that the driver wants repaired. Traffic between GPUs is none of a single one's business.
fn repair_wanted(report: &Report) -> Option<(&String, Recovery)> {
    let alone = report.devices.len() == 1;
    report.devices.iter().find_map(|device| {
        let action = device.recovery.filter(|action| needs_repair(*action, alone))?;
        Some((&device.uuid, action))
    })
}

/// A device that is not there any more: the driver goes on without one that fell off the bus.
fn lost<'a>(report: &Report, known: &'a [Device]) -> Option<&'a String> {
    let listed = |uuid: &String| report.devices.iter().any(|device| &device.uuid == uuid);
    let mut uuids = known.iter().map(|device| &device.uuid);
    uuids.find(|uuid| report.nvml.is_none() && !listed(uuid))
}

fn needs_repair(action: Recovery, alone: bool) -> bool {
    match action {
        Recovery::None => false,
        Recovery::DrainP2P => !alone,
        Recovery::GpuReset | Recovery::NodeReboot | Recovery::DrainAndReset | Recovery::Other(_) => true,
    }
}

/// Whom an Xid speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nobody: it informs.
    Nobody,
    /// A process on the device, which need not be ours.
    Process,
    /// The device: nothing that runs on it can be trusted.
    Device,
}

/// Xids whose action is a reset of the GPU or of the node, for drivers that do not tell the recovery action.
const DEVICE: [u64; 26] = [
    46, 48, 62, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 143, 144, 145, 146, 147, 148, 149, 150, 151, 154, 155,
    156, 158,
];
/// Xids that NVIDIA says to ignore, or that accompany others.
const NOTHING: [u64; 14] = [37, 38, 43, 44, 45, 63, 66, 67, 92, 93, 121, 137, 141, 160];

/// Whom `xid` speaks of: the driver's own word first.
#[must_use]
pub fn blame(xid: &Xid) -> Blame {
    match xid.recovery {
        Some(action) if needs_repair(action, false) => Blame::Device,
        None if DEVICE.contains(&xid.xid) => Blame::Device,
        _ if NOTHING.contains(&xid.xid) => Blame::Nobody,
        _ => Blame::Process,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcome: Outcome, recoveries: &[Option<Recovery>]) -> Report {
        let devices = recoveries.iter().enumerate().map(|(n, recovery)| Device {
            uuid: format!("GPU-{n}"),
            name: "H100".to_owned(),
            used: None,
            total: None,
            recovery: *recovery,
        });
        Report {
            outcome,
            at: Some("GPU-0".to_owned()),
            cuda_version: None,
            kernel_skipped: None,
            devices: devices.collect(),
            nvml: None,
            memory_freed: None,
        }
    }

    fn failed(code: i32) -> Outcome {
        Outcome::CallFailed {
            call: "cuInit".to_owned(),
            code,
            name: None,
        }
    }

    #[test]
    fn a_code_that_nobody_knows_is_a_fault_and_one_that_passes_is_not() {
        for code in [999_999, -1, 700, 214, 100, 803, 999] {
            let Finding::Faulty { why, uuid } = judge(&report(failed(code), &[None]), &[]) else {
                panic!("{code}")
            };
            assert!(why.contains(&format!("cuInit failed with {code}")), "{why}");
            assert_eq!(uuid.as_deref(), Some("GPU-0"));
        }
        for code in [2, 46, 802, 919] {
            assert!(
                matches!(judge(&report(failed(code), &[]), &[]), Finding::Busy(_)),
                "{code}"
            );
        }
    }

    #[test]
    fn a_driver_that_the_system_refuses_a_call_is_no_fault_of_the_gpu() {
        let Finding::Unclear(why) = judge(&report(failed(304), &[None]), &[]) else {
            panic!("it convicts")
        };
        assert!(why.contains("304") && why.contains("sandbox"), "{why}");
    }

    #[test]
    fn the_driver_is_believed_though_the_probe_works() {
        let judged = |recoveries: &[Option<Recovery>]| judge(&report(Outcome::Works, recoveries), &[]);
        assert_eq!(judged(&[None, Some(Recovery::None)]), Finding::Sound);
        assert_eq!(judged(&[Some(Recovery::DrainP2P)]), Finding::Sound, "there is no other");
        for action in [Recovery::GpuReset, Recovery::Other(9), Recovery::DrainP2P] {
            let Finding::Faulty { uuid, .. } = judged(&[Some(Recovery::None), Some(action)]) else {
                panic!("{action}")
            };
            assert_eq!(uuid.as_deref(), Some("GPU-1"));
        }
    }

    #[test]
    fn a_device_that_is_gone_is_faulty_though_the_others_work() {
        let before = report(Outcome::Works, &[None, None]);
        let mut now = report(Outcome::Works, &[None]);
        let Finding::Faulty { uuid, .. } = judge(&now, &before.devices) else {
            panic!("it is missed")
        };
        assert_eq!(uuid.as_deref(), Some("GPU-1"));
        now.nvml = Some("libnvidia-ml.so.1: cannot open shared object file".to_owned());
        assert_eq!(judge(&now, &before.devices), Finding::Sound, "nobody can tell");
    }

    #[test]
    fn an_xid_blames_as_the_driver_says_and_as_the_catalogue_says_where_it_does_not() {
        let blamed = |xid, recovery| {
            blame(&Xid {
                uuid: "GPU-0".to_owned(),
                xid,
                recovery,
            })
        };
        assert_eq!(blamed(31, None), Blame::Process);
        assert_eq!(blamed(79, None), Blame::Device);
        assert_eq!(blamed(43, None), Blame::Nobody);
        assert_eq!(blamed(74, Some(Recovery::None)), Blame::Process);
        assert_eq!(blamed(43, Some(Recovery::GpuReset)), Blame::Device);
        assert_eq!(blamed(123_456, None), Blame::Process);
    }
}
