//! A `libnvidia-ml.so.1` that says what its script says: see `script`.
#![allow(
    unsafe_code,
    missing_docs,
    non_snake_case,
    reason = "it has the C functions of NVIDIA's nvml.h"
)]
#![allow(
    clippy::not_unsafe_ptr_arg_deref,
    clippy::struct_field_names,
    reason = "names and parameters are NVIDIA's, and only C calls them"
)]

#[path = "../fake-gpu/script.rs"]
mod script;

use std::{
    ffi::{c_char, c_int, c_uint, c_ulonglong, c_void},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

const INVALID_ARGUMENT: c_uint = 2;
const NOT_SUPPORTED: c_uint = 3;
const INSUFFICIENT_SIZE: c_uint = 7;
const TIMEOUT: c_uint = 10;
/// `nvmlEventTypeXidCriticalError`.
const XID: c_ulonglong = 8;
/// `NVML_FI_DEV_GET_GPU_RECOVERY_ACTION`.
const RECOVERY_ACTION: c_uint = 230;

/// Xids that this process has been given, counted from those that were there when it began to watch.
static SEEN: Mutex<usize> = Mutex::new(0);

fn call(function: &str, work: impl FnOnce() -> c_uint) -> c_uint {
    match script::answer(function) {
        Some(code) => code.unsigned_abs(),
        None => work(),
    }
}

fn give<T>(place: *mut T, value: T) -> c_uint {
    // SAFETY: the caller's duty, as in nvml.h. NVIDIA's structures need no alignment that Rust's do not have.
    unsafe { place.write(value) };
    0
}

fn text(place: *mut c_char, room: c_uint, text: &str) -> c_uint {
    if text.len() >= room as usize {
        return INSUFFICIENT_SIZE;
    }
    // SAFETY: there is room for the text and its end.
    unsafe {
        place.cast::<u8>().copy_from(text.as_ptr(), text.len());
        place.add(text.len()).write(0);
    }
    0
}

/// A handle is the device's number and 1.
fn device(handle: *mut c_void) -> Option<script::Device> {
    script::devices().into_iter().nth((handle as usize).checked_sub(1)?)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> c_uint {
    call("nvmlInit_v2", || 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> c_uint {
    call("nvmlShutdown", || 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetDriverVersion(place: *mut c_char, room: c_uint) -> c_uint {
    call("nvmlSystemGetDriverVersion", || text(place, room, "580.95.05"))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCount_v2(place: *mut c_uint) -> c_uint {
    call("nvmlDeviceGetCount_v2", || {
        give(place, c_uint::try_from(script::devices().len()).unwrap_or(0))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, place: *mut *mut c_void) -> c_uint {
    call("nvmlDeviceGetHandleByIndex_v2", || {
        let handle = (index as usize + 1) as *mut c_void;
        device(handle).map_or(INVALID_ARGUMENT, |_| give(place, handle))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUUID(handle: *mut c_void, place: *mut c_char, room: c_uint) -> c_uint {
    call("nvmlDeviceGetUUID", || {
        device(handle).map_or(INVALID_ARGUMENT, |device| {
            text(place, room, &format!("GPU-{}", device.uuid))
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetName(_handle: *mut c_void, place: *mut c_char, room: c_uint) -> c_uint {
    call("nvmlDeviceGetName", || text(place, room, "Fake GPU"))
}

/// `nvmlMemory_v2_t`.
#[repr(C)]
pub struct Memory {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMemoryInfo_v2(handle: *mut c_void, place: *mut Memory) -> c_uint {
    call("nvmlDeviceGetMemoryInfo_v2", || {
        let Some(script::Device { used, total, .. }) = device(handle) else {
            return INVALID_ARGUMENT;
        };
        // SAFETY: the caller has written the version.
        let version = unsafe { (*place).version };
        give(
            place,
            Memory {
                version,
                total,
                reserved: 0,
                free: total - used,
                used,
            },
        )
    })
}

/// `nvmlFieldValue_t`.
#[repr(C)]
pub struct Field {
    id: c_uint,
    scope: c_uint,
    timestamp: i64,
    latency: i64,
    value_type: c_uint,
    status: c_uint,
    value: c_ulonglong,
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetFieldValues(_handle: *mut c_void, count: c_int, fields: *mut Field) -> c_uint {
    call("nvmlDeviceGetFieldValues", || {
        for index in 0..usize::try_from(count).unwrap_or(0) {
            // SAFETY: the caller says how many there are.
            let field = unsafe { &mut *fields.add(index) };
            let recovery = script::read("recovery").trim().parse();
            match (field.id, recovery) {
                (RECOVERY_ACTION, Ok(action)) => (field.status, field.value_type, field.value) = (0, 1, action),
                _ => field.status = NOT_SUPPORTED,
            }
        }
        0
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetCreate(place: *mut *mut c_void) -> c_uint {
    call("nvmlEventSetCreate", || {
        *SEEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = script::read("xids").lines().count();
        give(place, 16 as *mut c_void)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetFree(_set: *mut c_void) -> c_uint {
    call("nvmlEventSetFree", || 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetSupportedEventTypes(_handle: *mut c_void, place: *mut c_ulonglong) -> c_uint {
    call("nvmlDeviceGetSupportedEventTypes", || give(place, XID))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceRegisterEvents(_handle: *mut c_void, _types: c_ulonglong, _set: *mut c_void) -> c_uint {
    call("nvmlDeviceRegisterEvents", || 0)
}

/// `nvmlEventData_t`.
#[repr(C)]
pub struct Event {
    device: *mut c_void,
    event_type: c_ulonglong,
    event_data: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetWait_v2(_set: *mut c_void, place: *mut Event, milliseconds: c_uint) -> c_uint {
    call("nvmlEventSetWait_v2", || {
        let end = Instant::now() + Duration::from_millis(milliseconds.into());
        loop {
            if let Some(event) = next_xid() {
                return give(place, event);
            }
            if Instant::now() >= end {
                return TIMEOUT;
            }
            thread::sleep(Duration::from_millis(5));
        }
    })
}

fn next_xid() -> Option<Event> {
    let mut seen = SEEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let xids = script::read("xids");
    // A line that is being written is not there yet.
    let whole = xids.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let line = whole.into_iter().nth(*seen)?;
    *seen += 1;
    let (device, xid) = line.trim().split_once(' ')?;
    Some(Event {
        device: (device.parse::<usize>().ok()? + 1) as *mut c_void,
        event_type: XID,
        event_data: xid.parse().ok()?,
        gpu_instance: u32::MAX,
        compute_instance: u32::MAX,
    })
}
