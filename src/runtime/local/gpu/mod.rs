//! The GPUs of this pod. Everything that touches the driver is a child of its own: a driver that hangs or crashes takes no runtime with it.
//!
//! [`probe`] and [`watch`] are those children, [`cuda`] and `nvml` what they ask, [`report`] what they say. In the runtime, `ask` starts
//! them, and `codes` and `suspicion` say, purely, what it means for the ladder of design section 10.

pub(super) mod ask;
pub(super) mod codes;
pub mod cuda;
mod nvml;
pub mod probe;
pub mod report;
pub(super) mod suspicion;
pub mod watch;
