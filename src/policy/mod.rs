//! Decisions as pure functions and state machines: no async, no clock, no client, no randomness. Time and randomness are arguments.
//!
//! Where a [`std::time::Duration`] names an instant it is the time since the process started, on the monotonic clock.

pub mod budget;
pub mod circuit;
pub mod engines;
pub mod event_limit;
pub mod gpu_trouble;
#[cfg(test)]
pub mod model;
pub mod pricing;
pub mod quantity;
pub mod rate_share;
pub mod reach;
pub mod retry;
pub mod scale_to_zero;
pub mod support;
pub mod sustained;
pub mod write_rate;
