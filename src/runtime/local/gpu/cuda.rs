//! The CUDA driver's functions that a probe needs, bound by hand: a driver is often newer than any binding, and a code that a binding's
//! enum does not know would be undefined behaviour. Here every code is a number.
#![allow(
    unsafe_code,
    reason = "calls into the driver's library; only the GPU's short-lived children come here"
)]

use std::{
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    ptr::null_mut,
    sync::Mutex,
};

use cudarc::driver::sys::{CUcontext, CUdevice, CUdeviceptr, CUfunction, CUmodule, CUuuid, culib, is_culib_present};
use libloading::Library;

use crate::runtime::sync::lock;

/// The name that drivers install their library under, and that the last word on a missing one is about.
const LIBRARY: &str = "libcuda.so.1";
/// Longest name of a device.
const NAME: usize = 256;

/// Why a call did not do what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The driver has no such function.
    #[error("the driver has no {0}")]
    Missing(&'static str),
    /// The driver returned this code.
    #[error("{0} returned {1}")]
    Code(&'static str, i32),
}

/// The call that is being made, for whoever waits for a driver that does not come back.
#[derive(Debug)]
pub struct Current(Mutex<&'static str>);

impl Default for Current {
    fn default() -> Self {
        Self(Mutex::new("the loader"))
    }
}

impl Current {
    /// `name` is called now.
    pub fn set(&self, name: &'static str) {
        *lock(&self.0) = name;
    }

    /// What is being called.
    pub fn get(&self) -> &'static str {
        *lock(&self.0)
    }
}

/// The driver's library.
pub struct Driver<'a> {
    library: &'static Library,
    current: &'a Current,
}

/// Calls a function of the driver by its name; `Missing` when it has none.
macro_rules! call {
    ($driver:expr, $name:literal, $($argument:expr => $type:ty),*) => {{
        $driver.current.set($name);
        // SAFETY: the type is that of the function of this name in NVIDIA's cuda.h, with an integer where that has the enum CUresult.
        let function = unsafe { $driver.library.get::<unsafe extern "C" fn($($type),*) -> c_int>(concat!($name, "\0").as_bytes()) };
        let function = function.map_err(|_| CallError::Missing($name))?;
        // SAFETY: every pointer is to a live value of the type that the driver writes.
        match unsafe { function($($argument),*) } {
            0 => Ok(()),
            code => Err(CallError::Code($name, code)),
        }
    }};
}

impl<'a> Driver<'a> {
    /// Loads the library as cudarc finds it.
    ///
    /// # Errors
    /// The loader's words when there is none: cudarc itself would panic.
    pub fn load(current: &'a Current) -> Result<Self, String> {
        // SAFETY: loading the driver's library runs its initialisers, which is what loading it is for.
        if unsafe { is_culib_present() } {
            // SAFETY: as above.
            let library = unsafe { culib() };
            return Ok(Self { library, current });
        }
        // SAFETY: as above.
        match unsafe { Library::new(LIBRARY) } {
            Ok(_) => Err(format!("{LIBRARY} can be loaded now and could not be a moment ago")),
            Err(error) => Err(loader_words(&error)),
        }
    }

    /// Initialises it, once a process.
    pub fn init(&self) -> Result<(), CallError> {
        call!(self, "cuInit", 0 => c_uint)
    }

    /// CUDA's version, as 1000 × major + 10 × minor.
    pub fn version(&self) -> Result<c_int, CallError> {
        let mut version = 0;
        call!(self, "cuDriverGetVersion", &raw mut version => *mut c_int)?;
        Ok(version)
    }

    /// Devices that this process may use.
    pub fn device_count(&self) -> Result<c_int, CallError> {
        let mut count = 0;
        call!(self, "cuDeviceGetCount", &raw mut count => *mut c_int)?;
        Ok(count)
    }

    /// The device with this number.
    pub fn device(&self, ordinal: c_int) -> Result<CUdevice, CallError> {
        let mut device = 0;
        call!(self, "cuDeviceGet", &raw mut device => *mut CUdevice, ordinal => c_int)?;
        Ok(device)
    }

    /// The 16 bytes of a device's UUID; of the instance where the device is divided.
    pub fn uuid(&self, device: CUdevice) -> Result<[u8; 16], CallError> {
        let mut uuid = CUuuid { bytes: [0; 16] };
        call!(self, "cuDeviceGetUuid_v2", &raw mut uuid => *mut CUuuid, device => CUdevice)?;
        Ok(uuid.bytes.map(|byte| u8::from_ne_bytes(byte.to_ne_bytes())))
    }

    /// The product.
    pub fn name(&self, device: CUdevice) -> Result<String, CallError> {
        let mut buffer = [0_u8; NAME];
        let room = c_int::try_from(NAME - 1).unwrap_or(0);
        let start = buffer.as_mut_ptr().cast::<c_char>();
        call!(self, "cuDeviceGetName", start => *mut c_char, room => c_int, device => CUdevice)?;
        let name = CStr::from_bytes_until_nul(&buffer).map(CStr::to_string_lossy);
        Ok(name.unwrap_or_default().into_owned())
    }

    /// The context that engines use too, made current.
    pub fn context(&self, device: CUdevice) -> Result<(), CallError> {
        let mut context: CUcontext = null_mut();
        call!(self, "cuDevicePrimaryCtxRetain", &raw mut context => *mut CUcontext, device => CUdevice)?;
        call!(self, "cuCtxSetCurrent", context => CUcontext)
    }

    /// Gives the context back.
    pub fn release(&self, device: CUdevice) -> Result<(), CallError> {
        call!(self, "cuDevicePrimaryCtxRelease_v2", device => CUdevice)
    }

    /// Memory of the current device.
    pub fn allocate(&self, bytes: usize) -> Result<CUdeviceptr, CallError> {
        let mut memory = 0;
        call!(self, "cuMemAlloc_v2", &raw mut memory => *mut CUdeviceptr, bytes => usize)?;
        Ok(memory)
    }

    /// Gives memory back.
    pub fn free(&self, memory: CUdeviceptr) -> Result<(), CallError> {
        call!(self, "cuMemFree_v2", memory => CUdeviceptr)
    }

    /// Writes `value` into `count` words.
    pub fn fill(&self, memory: CUdeviceptr, value: u32, count: usize) -> Result<(), CallError> {
        call!(self, "cuMemsetD32_v2", memory => CUdeviceptr, value => c_uint, count => usize)
    }

    /// Copies from the device; waits for what was launched before.
    pub fn read(&self, memory: CUdeviceptr, into: &mut [u32]) -> Result<(), CallError> {
        let start = into.as_mut_ptr().cast::<c_void>();
        call!(self, "cuMemcpyDtoH_v2", start => *mut c_void, memory => CUdeviceptr, size_of_val(into) => usize)
    }

    /// Compiles a module for the device and looks up its function.
    pub fn function(&self, ptx: &CStr, name: &CStr) -> Result<CUfunction, CallError> {
        let (mut module, mut function): (CUmodule, CUfunction) = (null_mut(), null_mut());
        call!(self, "cuModuleLoadData", &raw mut module => *mut CUmodule, ptx.as_ptr().cast() => *const c_void)?;
        call!(self, "cuModuleGetFunction", &raw mut function => *mut CUfunction, module => CUmodule, name.as_ptr() => *const c_char)?;
        Ok(function)
    }

    /// Runs a function whose only parameter is an address, with `blocks` × `threads` threads.
    pub fn launch(
        &self,
        function: CUfunction,
        blocks: u32,
        threads: u32,
        mut address: CUdeviceptr,
    ) -> Result<(), CallError> {
        let mut parameters = [(&raw mut address).cast::<c_void>()];
        let (default_stream, no_extra) = (null_mut::<c_void>(), null_mut::<*mut c_void>());
        call!(self, "cuLaunchKernel",
            function => CUfunction, blocks => c_uint, 1 => c_uint, 1 => c_uint, threads => c_uint, 1 => c_uint, 1 => c_uint,
            0 => c_uint, default_stream => *mut c_void, parameters.as_mut_ptr() => *mut *mut c_void, no_extra => *mut *mut c_void)
    }

    /// Waits for what was launched; what went wrong there comes to light here.
    pub fn synchronize(&self) -> Result<(), CallError> {
        call!(self, "cuCtxSynchronize",)
    }

    /// The driver's own name for a code, if it has one.
    #[must_use]
    pub fn error_name(&self, code: c_int) -> Option<String> {
        let mut name: *const c_char = null_mut();
        let named = (|| call!(self, "cuGetErrorName", code => c_int, &raw mut name => *mut *const c_char))();
        if named.is_err() || name.is_null() {
            return None;
        }
        // SAFETY: the driver gives the address of a constant string that ends with 0.
        Some(unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
    }
}

/// What the loader says, without what libloading puts around it.
fn loader_words(error: &libloading::Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), ToString::to_string)
}
