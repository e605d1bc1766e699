//! The GPUs of this pod. Everything that touches the driver is a child of its own: a driver that hangs or crashes takes no runtime with it.
//!
//! [`probe`] and [`watch`] are those children, [`cuda`] and [`nvml`] what they ask, [`report`] what they say; [`codes`] says what that
//! means for the ladder of design section 10, purely.

pub mod codes;
mod cuda;
mod nvml;
pub mod probe;
pub mod report;
pub mod watch;
