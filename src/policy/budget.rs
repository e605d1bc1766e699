//! Money (design section 8): reserved before a request is sent, settled exactly once after it.
//!
//! - [`account`](Account): one process alone, one window.
//! - [`ledger`]: the controller's account of all replicas: what is granted to whom, and what became of it.
//! - [`purse`]: the leases of one process: what it may reserve now.
//! - [`journal`]: what the purse leaves to the next process of its pod.
//!
//! The invariant, at every instant, whatever crashes: `settled + uncertain + Σ outstanding ≤ limit`, except for what a provider reports
//! above a reservation: that is booked in full, never clipped, and said.

mod account;
pub mod journal;
pub mod ledger;
#[cfg(test)]
mod model;
pub mod purse;
mod window;

pub use account::{Account, Reservation, Settled, Totals};
pub use window::{Window, window};
