//! A provider on loopback: a working one in six wire formats, and every fault on demand.
//!
//! Without a script it answers as the real provider would: it checks path, key header and fields, and generates words. A script says for
//! each request in turn what happens instead: the program `fake-provider` takes it at `POST /_script`, tests in their own process. HTTP/1.1
//! is written by hand, because the faults are what no HTTP library lets one do.

#![allow(
    dead_code,
    unused_imports,
    missing_docs,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the program and each test use their own part of it; a poisoned lock ends a test server; only JSON is indexed, which gives null"
)]

mod act;
mod client;
pub mod corpus;
mod format;
mod generate;
mod play;
mod seen;
mod server;

pub use act::{Act, Ending, Flood, Framing, Gate};
pub use format::Format;
pub use generate::{IMAGE, Manner, words};
pub use seen::Seen;
pub use server::Provider;
