//! inference-operator: serving language models from own GPUs and paid providers as one thing.
//!
//! The map of the house. Dependencies point one way, from the bottom of this list to its top.
//!
//! - [`error`]: the fourteen kinds of failure, their wire form, and the contract table that says for each of them the HTTP status, the
//!   retry, what it means for circuits, conditions and the budget.
//! - [`api`]: the two custom resources, conditions and reasons, money, and the names that controller, runtime and chart agree on. Types
//!   only, no I/O. `crds/` is generated from it.
//! - [`policy`]: decisions as pure functions and state machines. Time and randomness are arguments. Circuit, retry, prices, budget, the
//!   limit on events, what an engine gets from the runtime alone, and what of the schema this version refuses.
//! - `ports`: how many connections a port takes, and how long a silent one stays.
//! - [`controller`]: desired state to cluster state, in five steps, a file each: dereference, validate, build, apply, status. Only the
//!   first, fourth and fifth hold a client. Binary: `inference-controller`.
//! - [`runtime`]: the process in the pod. `front` takes HTTP, `request` is one request's life, `remote` speaks to providers, `local`
//!   supervises the engine, `report` tells the cluster. Binary: `inference-runtime`.
//!
//! Controller and runtime never know each other: they meet in `InferenceReplica`, and what both need is in `policy`, `api` or `ports`.

pub mod api;
pub mod controller;
#[cfg(test)]
mod documented;
pub mod error;
pub mod policy;
mod ports;
pub mod runtime;
