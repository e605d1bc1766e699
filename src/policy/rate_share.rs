//! A provider's rate limit, shared out over all replicas (design section 8).
//!
//! The controller shares it out with [`share_out`]; each replica keeps to its share with a [`Meter`]. They meet in `shares` of the
//! `InferenceReplica`. Rates are whole thousandths a minute, so that shares are summed up exactly, and so that one of many replicas may
//! have less than one request a minute.
//!
//! **Who gets what.** Nobody short: what each replica asks for, and what is left over for all, so that a replica which begins, or which
//! the controller cannot reach, goes on for a while. Somebody short: by demand, see [`share_out`]; a replica that asks for nothing keeps
//! only a floor of a thousandth of the limit for all together. Shares that are used stay where they are: who has half of its part waits
//! for what others leave. The floor is not what a replica works with: it keeps the one request in its bucket that lets it begin at once,
//! and that beginning is what it tells the controller of.
//!
//! **The bound of 2 s.** No request is refused while another replica has had room, beyond the floor, for more than 2 s. A shortage is
//! told at once, and whoever is to leave something for it confirms that at once ([`ShareOrder::awaited`]). While all together ask for
//! more than the limit ([`ShareOrder::contended`]) a replica tells within 1.25 s that it leaves most of its share unused. The rest is
//! three writes. In the meantime requests wait ([`Meter::join`]) instead of being refused. The write rates bound how often that can
//! happen: ten moves a minute and replica.
//!
//! [`ShareOrder::awaited`]: crate::api::ShareOrder::awaited
//! [`ShareOrder::contended`]: crate::api::ShareOrder::contended

mod allocate;
mod bucket;
mod decayed;
mod demand;
mod meter;
#[cfg(test)]
mod tests;

pub use allocate::{Holding, Order, Shared, share_out};
pub use bucket::Bucket;
pub use demand::Told;
pub use meter::{Line, Meter, Rates};

/// Thousandths of a request, or of a token, a minute.
pub type Rate = u64;
/// Thousandths of one.
pub const MILLI: u64 = 1_000;
