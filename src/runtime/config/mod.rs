//! The `InferenceDeployment` that the process acts on, and the keys it names.

mod cluster;
mod file;
mod identity;
mod keys;
mod snapshot;
mod structure;

pub use cluster::follow;
pub use file::{ConfigError, load};
pub use identity::{Identity, IdentityError};
pub use keys::{KeyError, KeyFault, Keys};
pub use snapshot::Snapshot;
