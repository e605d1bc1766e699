//! A `libcuda.so.1` that computes on the host and fails as its script says: see `script`. After a code that poisons a context, every
//! further call of the process returns it, as CUDA does. The one kernel it knows writes every thread's number to its place.
#![allow(
    unsafe_code,
    missing_docs,
    non_snake_case,
    clippy::not_unsafe_ptr_arg_deref,
    reason = "it has the C functions of NVIDIA's cuda.h, and only C calls them"
)]

#[path = "../fake-gpu/script.rs"]
mod script;

use std::{
    collections::BTreeMap,
    ffi::{c_char, c_int, c_uint, c_void},
    slice,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
};

const INVALID_VALUE: c_int = 1;
const OUT_OF_MEMORY: c_int = 2;
const INVALID_DEVICE: c_int = 101;
const ILLEGAL_ADDRESS: c_int = 700;
/// Codes after which nothing works any more in this process.
const STICKY: [c_int; 12] = [214, 220, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719];
/// Names that `cuGetErrorName` knows.
const NAMES: [(c_int, &[u8]); 5] = [
    (2, b"CUDA_ERROR_OUT_OF_MEMORY\0"),
    (100, b"CUDA_ERROR_NO_DEVICE\0"),
    (214, b"CUDA_ERROR_ECC_UNCORRECTABLE\0"),
    (700, b"CUDA_ERROR_ILLEGAL_ADDRESS\0"),
    (802, b"CUDA_ERROR_SYSTEM_NOT_READY\0"),
];

static STUCK: AtomicI32 = AtomicI32::new(0);
/// What a kernel did wrong comes to light at the next synchronisation.
static PENDING: AtomicI32 = AtomicI32::new(0);
/// Bytes of an allocation, by address.
static MEMORY: Mutex<BTreeMap<u64, Vec<u32>>> = Mutex::new(BTreeMap::new());

fn memory() -> MutexGuard<'static, BTreeMap<u64, Vec<u32>>> {
    MEMORY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The code of a call before it does anything.
fn enter(function: &str) -> c_int {
    let stuck = STUCK.load(Ordering::Relaxed);
    let code = script::answer(function).unwrap_or(0);
    stick(if stuck == 0 { code } else { stuck })
}

fn stick(code: c_int) -> c_int {
    if STICKY.contains(&code) {
        STUCK.store(code, Ordering::Relaxed);
    }
    code
}

/// Enters `function`; does `work` when it may.
fn call(function: &str, work: impl FnOnce() -> c_int) -> c_int {
    match enter(function) {
        0 => work(),
        code => code,
    }
}

/// Writes a result.
fn give<T>(place: *mut T, value: T) -> c_int {
    // SAFETY: the caller's duty, as in cuda.h.
    unsafe { place.write(value) };
    0
}

fn device(ordinal: c_int) -> Option<script::Device> {
    script::devices().into_iter().nth(usize::try_from(ordinal).ok()?)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(_flags: c_uint) -> c_int {
    enter("cuInit")
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDriverGetVersion(version: *mut c_int) -> c_int {
    call("cuDriverGetVersion", || give(version, 13_040))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_int {
    call("cuDeviceGetCount", || {
        give(count, c_int::try_from(script::devices().len()).unwrap_or(0))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGet(place: *mut c_int, ordinal: c_int) -> c_int {
    call("cuDeviceGet", || {
        device(ordinal).map_or(INVALID_DEVICE, |_| give(place, ordinal))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetUuid_v2(place: *mut [u8; 16], ordinal: c_int) -> c_int {
    call("cuDeviceGetUuid_v2", || {
        let uuid = device(ordinal).map(|device| device.uuid.replace('-', ""));
        let bytes = uuid.and_then(|uuid| u128::from_str_radix(&uuid, 16).ok());
        bytes.map_or(INVALID_DEVICE, |bytes| give(place, bytes.to_be_bytes()))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetName(place: *mut c_char, room: c_int, _device: c_int) -> c_int {
    call("cuDeviceGetName", || {
        let name = b"Fake GPU\0";
        if usize::try_from(room).unwrap_or(0) < name.len() {
            return INVALID_VALUE;
        }
        // SAFETY: there is room.
        unsafe { place.cast::<u8>().copy_from(name.as_ptr(), name.len()) };
        0
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRetain(place: *mut *mut c_void, _device: c_int) -> c_int {
    call("cuDevicePrimaryCtxRetain", || give(place, 16 as *mut c_void))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(_device: c_int) -> c_int {
    enter("cuDevicePrimaryCtxRelease_v2")
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(_context: *mut c_void) -> c_int {
    enter("cuCtxSetCurrent")
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAlloc_v2(place: *mut u64, bytes: usize) -> c_int {
    call("cuMemAlloc_v2", || {
        if bytes > 1 << 30 {
            return OUT_OF_MEMORY;
        }
        let words = vec![0_u32; bytes.div_ceil(4)];
        let address = words.as_ptr() as u64;
        memory().insert(address, words);
        give(place, address)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(address: u64) -> c_int {
    call("cuMemFree_v2", || {
        memory().remove(&address).map_or(INVALID_VALUE, |_| 0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD32_v2(address: u64, value: c_uint, count: usize) -> c_int {
    call("cuMemsetD32_v2", || {
        let mut memory = memory();
        let words = memory.get_mut(&address).and_then(|words| words.get_mut(..count));
        words.map_or(INVALID_VALUE, |words| {
            words.fill(value);
            0
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoH_v2(place: *mut u32, address: u64, bytes: usize) -> c_int {
    call("cuMemcpyDtoH_v2", || {
        let memory = memory();
        let Some(words) = memory.get(&address).and_then(|words| words.get(..bytes / 4)) else {
            return INVALID_VALUE;
        };
        // SAFETY: the caller says how many bytes there are.
        unsafe { slice::from_raw_parts_mut(place, words.len()) }.copy_from_slice(words);
        0
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadData(place: *mut *mut c_void, _image: *const c_void) -> c_int {
    call("cuModuleLoadData", || give(place, 32 as *mut c_void))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetFunction(place: *mut *mut c_void, _module: *mut c_void, _name: *const c_char) -> c_int {
    call("cuModuleGetFunction", || give(place, 48 as *mut c_void))
}

/// As the kernel: every thread writes its number; outside of memory it is an illegal address.
#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchKernel(
    _function: *mut c_void,
    blocks: c_uint,
    _blocks_y: c_uint,
    _blocks_z: c_uint,
    threads: c_uint,
    _threads_y: c_uint,
    _threads_z: c_uint,
    _shared: c_uint,
    _stream: *mut c_void,
    parameters: *mut *mut c_void,
    _extra: *mut *mut c_void,
) -> c_int {
    call("cuLaunchKernel", || {
        // SAFETY: the one kernel has one parameter, an address.
        let address = unsafe { **parameters.cast::<*mut u64>() };
        let mut memory = memory();
        let words = memory
            .get_mut(&address)
            .and_then(|words| words.get_mut(..(blocks * threads) as usize));
        match words {
            Some(words) => words.iter_mut().zip(0..).for_each(|(word, number)| *word = number),
            None => PENDING.store(ILLEGAL_ADDRESS, Ordering::Relaxed),
        }
        0
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> c_int {
    call("cuCtxSynchronize", || stick(PENDING.load(Ordering::Relaxed)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetErrorName(code: c_int, place: *mut *const c_char) -> c_int {
    let name = NAMES.iter().find(|(known, _)| *known == code);
    name.map_or(INVALID_VALUE, |(_, name)| give(place, name.as_ptr().cast()))
}
