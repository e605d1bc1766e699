//! The ledger: `status.budget` itself, and pure functions that lead from one state of it to the next (design section 8).
//!
//! What makes it safe, whatever is delayed, stale or dead:
//! - A grant counts against the limit from the moment it is in the ledger, and the ledger is written conditionally: two leaders cannot
//!   both grant the same money.
//! - What a replica is told is read from the ledger, so a replica never spends what the ledger does not know.
//! - Money comes back only by the word of the process that had it: surrendered, or its last report, or its successor's from the
//!   journal. Nobody's death and no time gives any back: what is not accounted for is uncertain.
//! - What cannot be taken back (a write-off, a first grant, the end of a row) is decided on live reads, made after the ledger was read.

mod decide;
mod fold;
mod gpu;
mod grant;
mod lost;
mod project;
mod recall;
mod rows;
mod situation;
#[cfg(test)]
mod tests;
mod windows;

pub use decide::{Decision, Remove, decide};
pub use gpu::{GpuHold, GpuTerms, next_charge};
pub use project::{may_release, projection};
pub use rows::{attainable, outstanding};
pub use situation::{
    Calendar, Clocks, Holder, Mark, Marks, Object, Situation, Terms, UnknownZone, WriteOff, WriteOffError,
};
