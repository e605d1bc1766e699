//! The process's log: text for people, JSON for collectors.

mod batch;
mod line;

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

pub use batch::parks;

/// Starts it. `RUST_LOG` filters. Whatever it says, HTTP/2 frames stay out: what a peer says on closing a connection is among them, and a
/// peer may say a key.
///
/// A runtime whose workers call [`parks`] when they park writes the lines of JSON in batches.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = match "h2=info".parse() {
        Ok(quiet) => filter.add_directive(quiet),
        Err(_) => filter,
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter);
    if stderr().is_terminal() {
        logs.with_writer(stderr).init();
    } else {
        logs.json()
            .event_format(line::Line::default())
            .with_writer(batch::Batched)
            .init();
    }
}
