//! The real `inference-runtime serve --file` against a provider that plays recorded and scripted answers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking, and helpers of tests are no test functions to clippy"
)]

#[path = "../fake-provider/mod.rs"]
mod fake_provider;
#[path = "../support/port.rs"]
mod port;
mod process;
mod upstream;

mod access;
mod admission;
mod bounds;
mod circuits;
mod corpus;
mod drain;
mod engines;
mod exhausted;
mod failures;
mod follow;
mod formats;
mod fuzz;
mod hangup;
mod keys;
mod limits;
mod local;
mod money;
mod program;
mod rate;
mod reach;
mod requests;
mod secrets;
mod settling;
mod timers;
