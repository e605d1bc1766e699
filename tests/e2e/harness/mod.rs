//! What the end-to-end tests stand on.

mod cluster;
mod devices;
mod faults;
mod http;
mod load;
mod manifests;
mod provider;
mod wait;

pub use cluster::{Namespace, is_ready, kubectl};
pub use devices::{Devices, node};
pub use faults::{Cut, Frozen, kill_controllers, kill_runtime, runtimes};
pub use http::{get, post, post_as};
pub use load::{Tally, load};
pub use manifests::{local, remote, secret, with};
pub use provider::{Mode, Provider};
pub use wait::until;

/// How long anything may take that starts a pod.
pub const PODS: std::time::Duration = std::time::Duration::from_secs(240);
/// How long anything may take that starts no pod.
pub const SOON: std::time::Duration = std::time::Duration::from_secs(30);

/// Prints a figure so that `make test` shows it.
pub fn figure(name: &str, value: impl std::fmt::Display) {
    println!("FIGURE {name}: {value}");
}
