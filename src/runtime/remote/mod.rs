//! Speaking to backends over HTTP: sessions, classification of failures, server-sent events.

pub mod auth;
pub mod classify;
pub mod events;
pub mod session;
pub mod sse;
pub mod usage;
pub mod wire;
