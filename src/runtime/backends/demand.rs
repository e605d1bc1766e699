//! Whether requests want the local backend, which is told for the sake of `scaleToZero`.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::Signals;
use crate::{
    policy::scale_to_zero::Usage,
    runtime::{clock::Clock, sync::lock},
};

/// The demand for the local backend.
#[derive(Debug)]
pub struct Demand {
    state: Mutex<State>,
    clock: Clock,
    signals: Arc<Signals>,
}

#[derive(Debug, Default)]
struct State {
    usage: Usage,
    /// With `scaleToZero`, and it was not told that the backend is wanted: the next request is news.
    quiet: bool,
}

impl Demand {
    /// No request yet, and the backend cannot be asked yet either.
    #[must_use]
    pub fn new(clock: Clock, signals: Arc<Signals>) -> Self {
        Self {
            state: Mutex::default(),
            clock,
            signals,
        }
    }

    /// A request wants the local backend until the guard is dropped. The first one after a while is told at once: it may wait for a pod.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Use {
        let mut state = lock(&self.state);
        state.usage.begin(self.clock.now());
        let news = std::mem::take(&mut state.quiet);
        drop(state);
        if news {
            self.signals.urgent();
        }
        Use(Arc::clone(self))
    }

    /// From now on the backend can be asked.
    pub fn start(&self) {
        lock(&self.state).usage.start(self.clock.now());
    }

    /// What is told, where anybody wants to know; see [`Usage::wanted`].
    #[must_use]
    pub fn wanted(&self, idle_after: Option<Duration>) -> Option<bool> {
        let mut state = lock(&self.state);
        let wanted = state.usage.wanted(self.clock.now(), idle_after.unwrap_or_default());
        state.quiet = idle_after.is_some() && wanted != Some(true);
        wanted.filter(|_| idle_after.is_some())
    }
}

/// A request that wants the local backend.
#[derive(Debug)]
pub struct Use(Arc<Demand>);

impl Drop for Use {
    fn drop(&mut self) {
        let Demand { state, clock, .. } = &*self.0;
        lock(state).usage.end(clock.now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Option<Duration> = Some(Duration::from_secs(60));

    #[tokio::test(start_paused = true)]
    async fn the_first_request_after_a_while_is_urgent_and_the_others_are_none() {
        let signals = Arc::<Signals>::default();
        let demand = Arc::new(Demand::new(Clock::start(), Arc::clone(&signals)));
        demand.start();
        drop(demand.begin());
        assert_eq!(
            (demand.wanted(None), signals.count()),
            (None, 0),
            "nobody wants to know"
        );
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(demand.wanted(IDLE), Some(false));
        let long = demand.begin();
        for _ in 0..100 {
            drop(demand.begin());
        }
        assert_eq!((demand.wanted(IDLE), signals.count()), (Some(true), 1));
        tokio::time::advance(Duration::from_secs(600)).await;
        assert_eq!(demand.wanted(IDLE), Some(true), "one is still answered");
        drop(long);
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(demand.wanted(IDLE), Some(true));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((demand.wanted(IDLE), signals.count()), (Some(false), 1));
        drop(demand.begin());
        assert_eq!(signals.count(), 2);
    }
}
