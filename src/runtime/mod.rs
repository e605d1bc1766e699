//! The process in the pod: it takes requests in, sends each to the first backend that may take it, and tells the cluster how it is.

pub mod access;
pub mod backends;
pub mod clock;
pub mod config;
pub mod front;
pub mod install;
pub mod json_text;
pub mod local;
pub mod logs;
pub mod metrics;
pub mod peer;
pub mod remote;
pub mod report;
pub mod request;
pub mod serve;
mod sync;
