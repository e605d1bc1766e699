//! Engines under supervision: `fake-engine`, which plays every fault, and the real llama.cpp server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking, and helpers of tests are no test functions to clippy"
)]

mod bench;
#[path = "../support/gpu.rs"]
mod drivers;
#[path = "../support/hub.rs"]
mod hub;
#[path = "../support/port.rs"]
mod port;

mod engines;
mod external;
mod faults;
mod gpu;
mod isolation;
mod llama;
mod sources;
mod table;
