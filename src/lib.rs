//! inference-operator: serving language models from own GPUs and paid providers as one thing.

pub mod api;
pub mod error;
pub mod policy;
pub mod runtime;
