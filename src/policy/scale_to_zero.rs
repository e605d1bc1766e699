//! Scale to zero (design section 4, Scaling): when the pods of the local backend are let go, and what brings them back.
//!
//! Each replica judges by its own clock what it has seen of requests for the local backend ([`Usage`]) and tells only when that changes:
//! two writes for however many requests. The controller has no clock of its own in this and remembers nothing: pods are let go when every
//! replica that could be asked says that it was not, brought back when one says that it was, and stay as they are otherwise. So a replica
//! or a controller that starts anew lets nobody go too early and wakes nobody for nothing.

use std::time::Duration;

/// What one replica has seen of requests for the local backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    in_hand: u64,
    used: bool,
    started: bool,
    last: Duration,
}

impl Usage {
    /// A request comes.
    pub fn begin(&mut self, now: Duration) {
        self.in_hand = self.in_hand.saturating_add(1);
        (self.used, self.last) = (true, now);
    }

    /// A request is answered, goes elsewhere, or is gone.
    pub fn end(&mut self, now: Duration) {
        self.in_hand = self.in_hand.saturating_sub(1);
        self.last = self.last.max(now);
    }

    /// No request could come before: the time without one begins now.
    pub fn start(&mut self, now: Duration) {
        self.started = true;
        self.last = self.last.max(now);
    }

    /// True while a request is in hand or the last one is younger than `idle_after`, false when there was none for so long since the
    /// start; `None` while that cannot be known.
    #[must_use]
    pub fn wanted(&self, now: Duration, idle_after: Duration) -> Option<bool> {
        if self.in_hand > 0 {
            return Some(true);
        }
        if now.saturating_sub(self.last) < idle_after {
            return self.used.then_some(true);
        }
        self.started.then_some(false)
    }
}

/// How a pod does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Ready: it may be asked.
    Serving,
    /// On its way.
    Starting,
    /// It does not get Ready by itself, and what it said last may be long ago.
    Failing,
    /// It is being deleted, and holds what it took before.
    Leaving,
}

/// A pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// It holds an engine.
    pub local: bool,
    /// How it does.
    pub state: State,
    /// What its replica says, see [`Usage::wanted`]; of an earlier spec only that it is wanted.
    pub wanted: Option<bool>,
}

/// Whether local pods are to be away, when they are `away` now.
///
/// They go when every pod that may be asked was not for so long: one of them a GPU-less one, since somebody has to notice the next request,
/// and one a local one, since a model that was never up is not idle but in trouble, or new. A local pod that starts is waited for; one
/// that fails is not, or a second pod without a GPU would keep the first for ever. A GPU-less pod that leaves may hold a request: that one
/// must come to be asked.
#[must_use]
pub fn away(away: bool, members: &[Member]) -> bool {
    let asked = |member: &Member| member.wanted == Some(true) && member.state != State::Failing;
    if members.iter().any(asked) {
        return false;
    }
    let serves = |local: bool| {
        let mut of_tier = members.iter().filter(|member| member.local == local);
        of_tier.any(|member| member.state == State::Serving)
    };
    let idle = |member: &Member| match member.state {
        State::Serving => member.wanted == Some(false),
        State::Starting => !member.local,
        State::Failing | State::Leaving => true,
    };
    away || (serves(true) && serves(false) && members.iter().all(idle))
}

#[cfg(test)]
mod tests;
