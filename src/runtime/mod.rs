//! The process in the pod.

pub mod local;
pub mod report;
