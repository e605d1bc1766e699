//! One process's money in one window (design section 8): reserved before a request is sent, settled exactly once after it.
//!
//! The invariant, at every instant: `settled + uncertain + reserved ≤ limit`, except for what a provider reports above a reservation:
//! that is booked in full, never clipped, and said.

mod account;
mod window;

pub use account::{Account, Reservation, Settled, Totals};
pub use window::{Window, window};
