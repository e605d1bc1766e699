//! The backends of the configuration in force: circuits, sessions, money, and what went wrong of late.

mod breaker;
mod demand;
mod errors;
mod lasting;
mod money;
mod registry;
mod remote;
mod share;
mod signals;
mod status;

pub use breaker::{Breaker, Leave};
pub use demand::{Demand, Use};
pub use errors::ErrorBook;
pub use lasting::Lasting;
pub use money::{Hold, Journal, Leased, Money, NoMoney, UnknownZone, kernel};
pub use registry::{Backend, Engine, Kind, Local, Registry, Routing};
pub use remote::{Means, Remote, Unusable};
pub use share::{InLine, Part, Share};
pub use signals::Signals;
pub use status::{deployment_status, replica_news};
