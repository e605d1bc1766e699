//! HTTP: one choke point for every route of clients and peers, and the admin port.

pub mod admin;
pub mod answer;
mod handle;
mod lifecycle;
mod outgoing;
mod route;
#[cfg(test)]
mod tests;

pub use handle::{Front, Port};
pub use lifecycle::Lifecycle;
pub use outgoing::Outgoing;
