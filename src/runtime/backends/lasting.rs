//! Trouble that lasts, as requests and the status share it.

use std::sync::Mutex;

use crate::{
    policy::sustained::Sustained,
    runtime::{clock::Clock, sync::lock},
};

/// [`Sustained`] with its clock. A change is told by the status that is computed next, which is soon enough.
#[derive(Debug)]
pub struct Lasting {
    state: Mutex<Sustained>,
    clock: Clock,
}

impl Lasting {
    /// No trouble yet; see [`Sustained::new`].
    #[must_use]
    pub const fn new(one_in: u32, clock: Clock) -> Self {
        Self {
            state: Mutex::new(Sustained::new(one_in)),
            clock,
        }
    }

    /// One more case.
    pub fn note(&self, is_trouble: bool) {
        lock(&self.state).note(is_trouble, self.clock.now());
    }

    /// Whether it lasts.
    #[must_use]
    pub fn lasts(&self) -> bool {
        lock(&self.state).lasts(self.clock.now())
    }
}
