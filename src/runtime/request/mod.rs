//! One request's life: admission, backends in order, attempts, the stream, the settlement (design section 7).

pub mod admission;
pub mod ask;
pub mod attempt;
pub mod body;
pub mod bound;
pub mod head;
pub mod hold;
pub mod local;
pub mod order;
pub mod outcome;
mod provider;
pub mod queue;
pub mod relay;
mod reserve;
pub mod rewrite;
pub mod settle;
pub mod share;
pub mod target;
