//! What the driver's management library says, which needs no CUDA context: devices, memory in use, recovery actions, Xids.

use std::{
    mem::ManuallyDrop,
    thread::sleep,
    time::{Duration, Instant},
};

use nvml_wrapper::{
    EventSet, Nvml,
    bitmasks::event::EventTypes,
    enums::{device::SampleValue, event::XidError},
    error::NvmlError,
    struct_wrappers::event::EventData,
    structs::device::FieldId,
    sys_exports::field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION,
};

use super::report::{Device, Recovery, Xid};

/// Between two looks at memory that is being freed.
const LOOK: Duration = Duration::from_millis(50);
/// Memory that a device may use beyond what it used when no engine ran, and count as free: drivers keep some for themselves.
const SLACK: u64 = 64 << 20;
/// How long one wait for events may last, in milliseconds.
const WAIT: u32 = 1000;

/// The library, initialised. It is never shut down: the process that uses it is about to end, and in a driver that lacks the function the
/// wrapper would panic.
pub struct Management(ManuallyDrop<Nvml>);

impl Management {
    /// Loads and initialises it.
    pub fn load() -> Result<Self, NvmlError> {
        Ok(Self(ManuallyDrop::new(Nvml::init()?)))
    }

    /// Every device that this container was given.
    pub fn devices(&self) -> Result<Vec<Device>, NvmlError> {
        let count = self.0.device_count()?;
        // One that cannot be opened has fallen off the bus, perhaps: it has no UUID any more, and the others count.
        let open = (0..count).filter_map(|index| self.0.device_by_index(index).ok());
        Ok(open.map(|device| describe(&device)).collect())
    }

    /// Waits until no device uses more memory than `idle` says, for at most `limit`. True when that was seen; devices that `idle` does
    /// not name are not looked at.
    pub fn await_free(&self, idle: &[(String, u64)], limit: Duration) -> Result<bool, NvmlError> {
        let end = Instant::now() + limit;
        loop {
            let devices = self.devices()?;
            if idle.iter().all(|(uuid, most)| is_free(&devices, uuid, *most)) {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            sleep(LOOK);
        }
    }

    /// Hands every critical Xid to `take`, until that fails or events cannot be had.
    pub fn watch<E>(&self, mut take: impl FnMut(Xid) -> Result<(), E>) -> Result<(), WatchError<E>> {
        let set = ManuallyDrop::new(self.subscribed()?);
        loop {
            match set.wait(WAIT) {
                Ok(event) => {
                    if let Some(xid) = xid(&event) {
                        take(xid).map_err(WatchError::Taker)?;
                    }
                }
                Err(NvmlError::Timeout) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// All devices' Xids; those of devices that have no such event are done without.
    fn subscribed(&self) -> Result<EventSet<'_>, NvmlError> {
        let wanted = EventTypes::CRITICAL_XID_ERROR;
        let mut set = self.0.create_event_set()?;
        let devices = (0..self.0.device_count()?).filter_map(|index| self.0.device_by_index(index).ok());
        for device in devices.filter(|device| device.supported_event_types().is_ok_and(|types| types.contains(wanted)))
        {
            set = device.register_events(wanted, set).map_err(|error| error.error)?;
        }
        Ok(set)
    }
}

/// Why there are no more Xids.
#[derive(Debug, thiserror::Error)]
pub enum WatchError<E> {
    /// The library's word.
    #[error(transparent)]
    Nvml(#[from] NvmlError),
    /// Nobody listens.
    #[error("nobody listens: {0}")]
    Taker(E),
}

fn xid(event: &EventData<'_>) -> Option<Xid> {
    let number = match event.event_data.as_ref()? {
        XidError::Value(number) => *number,
        XidError::Unknown => 999,
    };
    Some(Xid {
        uuid: event.device.uuid().unwrap_or_default(),
        xid: number,
        recovery: recovery(&event.device),
    })
}

fn describe(device: &nvml_wrapper::Device<'_>) -> Device {
    let memory = device.memory_info().ok();
    Device {
        uuid: device.uuid().unwrap_or_default(),
        name: device.name().unwrap_or_default(),
        used: memory.as_ref().map(|memory| memory.used),
        total: memory.as_ref().map(|memory| memory.total),
        recovery: recovery(device),
    }
}

/// `None` where the driver does not tell.
fn recovery(device: &nvml_wrapper::Device<'_>) -> Option<Recovery> {
    let fields = device
        .field_values_for(&[FieldId(NVML_FI_DEV_GET_GPU_RECOVERY_ACTION)])
        .ok()?;
    match fields.into_iter().next()?.ok()?.value.ok()? {
        SampleValue::U32(action) => Some(u64::from(action).into()),
        SampleValue::U64(action) => Some(action.into()),
        SampleValue::I64(action) => u64::try_from(action).ok().map(Recovery::from),
        SampleValue::F64(_) => None,
    }
}

/// A device that does not tell its memory is not waited for.
fn is_free(devices: &[Device], uuid: &str, most: u64) -> bool {
    let used = devices
        .iter()
        .find(|device| device.uuid == uuid)
        .and_then(|device| device.used);
    used.is_none_or(|used| used <= most.saturating_add(SLACK))
}
