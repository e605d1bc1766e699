//! The local engine: a stable worker that supervises a replaceable context (design section 10).

mod view;

pub use view::{EngineTarget, EngineView};
