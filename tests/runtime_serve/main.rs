//! The real `inference-runtime serve --file` against a provider that plays recorded and scripted answers.

mod process;
mod upstream;

mod access;
mod drain;
mod failures;
mod keys;
mod local;
mod money;
mod requests;
