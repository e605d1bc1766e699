//! End to end, on a real cluster: etcd, API server, scheduler, kubelet and containerd; the shipped images, chart and RBAC; a real engine
//! with a real model. Run by `make test-e2e`, which starts the cluster and installs the operator; see CONTRIBUTING.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking, and helpers of tests are no test functions to clippy"
)]

mod access;
mod admission;
mod budget;
mod circuits;
mod conflict;
mod devices;
mod faults;
mod gpu;
mod groups;
mod harness;
mod hop;
#[allow(dead_code, reason = "faults that only the tests without a cluster need")]
#[path = "../support/hub.rs"]
mod hub;
mod idle;
mod isolation;
mod lifecycle;
mod local;
mod placement;
#[path = "../support/port.rs"]
mod port;
mod quota;
mod rate;
mod remote;
mod rollout;
mod scale;
mod schema;
mod sources;
#[path = "../support/mod.rs"]
mod support;
mod throughput;
