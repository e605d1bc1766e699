//! The probes of one half-open round, or of one token.

/// Probes, counted. What is allowed, less what was given, may still be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probes {
    allowed: u32,
    in_flight: u32,
    begun: u32,
    succeeded: u32,
    lost: u32,
}

impl Probes {
    pub(super) const fn new(allowed: u32) -> Self {
        Self {
            allowed,
            in_flight: 0,
            begun: 0,
            succeeded: 0,
            lost: 0,
        }
    }

    /// Takes one; false when there is none left.
    pub(super) const fn take(&mut self) -> bool {
        let left = self.in_flight + self.succeeded + self.lost < self.allowed;
        if left {
            self.in_flight += 1;
        }
        left
    }

    /// The first content of an answer has come.
    pub(super) const fn begin(&mut self) {
        self.begun += 1;
    }

    const fn land(&mut self, begun: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if begun {
            self.begun = self.begun.saturating_sub(1);
        }
    }

    /// One was not sent, or is to be sent again.
    pub(super) const fn give_back(&mut self, begun: bool) {
        self.land(begun);
    }

    /// One was sent and told nothing.
    pub(super) const fn lose(&mut self, begun: bool) {
        self.land(begun);
        self.lost += 1;
    }

    /// One went well.
    pub(super) const fn succeed(&mut self, begun: bool) {
        self.land(begun);
        self.succeeded += 1;
    }

    /// Counts streams that are healthy now as successes; false when one of those in flight has not even begun.
    pub(super) const fn conclude(&mut self) -> bool {
        if self.begun < self.in_flight {
            return false;
        }
        self.succeeded += self.in_flight;
        self.in_flight = 0;
        self.begun = 0;
        true
    }

    pub(super) const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    pub(super) const fn succeeded(&self) -> u32 {
        self.succeeded
    }

    pub(super) const fn any_lost(&self) -> bool {
        self.lost > 0
    }

    /// All are judged.
    pub(super) const fn spent(&self) -> bool {
        self.succeeded + self.lost >= self.allowed
    }
}
