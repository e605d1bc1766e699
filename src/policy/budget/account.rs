//! Reservations against a limit.

use crate::api::NanoUsd;

/// Money of one window.
#[derive(Debug, Default)]
pub struct Account {
    limit: u64,
    settled: u64,
    uncertain: u64,
    reserved: u64,
}

/// Money set aside for one request. It ends in exactly one of [`Account::settle`], [`Account::release`], [`Account::uncertain`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a reservation that is dropped stays reserved"]
pub struct Reservation(u64);

impl Reservation {
    /// The amount set aside.
    #[must_use]
    pub const fn amount(&self) -> NanoUsd {
        NanoUsd(self.0)
    }
}

/// What a settlement showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The provider reported more than was proved possible: the backend must be stopped (BoundViolated).
    pub bound_violated: bool,
}

/// The account as status shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The limit.
    pub limit: NanoUsd,
    /// What providers reported.
    pub settled: NanoUsd,
    /// Whole reservations that ended without a report.
    pub uncertain: NanoUsd,
    /// Set aside for requests in flight.
    pub reserved: NanoUsd,
    /// What may still be reserved.
    pub remaining: NanoUsd,
}

impl Account {
    /// An account with nothing spent.
    #[must_use]
    pub const fn new(limit: NanoUsd) -> Self {
        Self {
            limit: limit.0,
            settled: 0,
            uncertain: 0,
            reserved: 0,
        }
    }

    /// Takes a new limit. A limit below what is spent lets nothing more through and takes nothing back.
    pub const fn set_limit(&mut self, limit: NanoUsd) {
        self.limit = limit.0;
    }

    /// Sets money aside, or refuses.
    pub fn reserve(&mut self, amount: NanoUsd) -> Option<Reservation> {
        let reserved = self.reserved.checked_add(amount.0)?;
        let bound = self.settled.checked_add(self.uncertain)?.checked_add(reserved)?;
        (bound <= self.limit).then(|| {
            self.reserved = reserved;
            Reservation(amount.0)
        })
    }

    /// The provider reported the cost.
    pub const fn settle(&mut self, reservation: Reservation, reported: NanoUsd) -> Settled {
        let amount = self.take(reservation);
        self.settled = self.settled.saturating_add(reported.0);
        Settled {
            bound_violated: reported.0 > amount,
        }
    }

    /// The request cost nothing for certain.
    pub const fn release(&mut self, reservation: Reservation) {
        self.take(reservation);
    }

    /// Nobody knows what the request cost: the whole reservation stays booked.
    pub const fn uncertain(&mut self, reservation: Reservation) {
        let amount = self.take(reservation);
        self.uncertain = self.uncertain.saturating_add(amount);
    }

    const fn take(&mut self, reservation: Reservation) -> u64 {
        let Reservation(amount) = reservation;
        self.reserved = self.reserved.saturating_sub(amount);
        amount
    }

    /// The account as status shows it.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        let used = self
            .settled
            .saturating_add(self.uncertain)
            .saturating_add(self.reserved);
        Totals {
            limit: NanoUsd(self.limit),
            settled: NanoUsd(self.settled),
            uncertain: NanoUsd(self.uncertain),
            reserved: NanoUsd(self.reserved),
            remaining: NanoUsd(self.limit.saturating_sub(used)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ten_requests_fit_into_a_budget_for_ten() {
        let mut account = Account::new(NanoUsd(1_000));
        let granted: Vec<_> = (0..64).filter_map(|_| account.reserve(NanoUsd(100))).collect();
        assert_eq!(granted.len(), 10);
    }

    #[test]
    fn a_report_above_the_bound_is_booked_in_full_and_said() {
        let mut account = Account::new(NanoUsd(100));
        let reservation = account.reserve(NanoUsd(100)).unwrap();
        assert!(account.settle(reservation, NanoUsd(130)).bound_violated);
        assert_eq!(
            (account.totals().settled, account.totals().remaining),
            (NanoUsd(130), NanoUsd(0))
        );
    }

    #[test]
    fn an_amount_that_overflows_is_refused() {
        let mut account = Account::new(NanoUsd(u64::MAX));
        let _first = account.reserve(NanoUsd(u64::MAX)).unwrap();
        assert_eq!(account.reserve(NanoUsd(1)), None);
    }

    proptest! {
        #[test]
        fn never_over_the_limit_and_nothing_stuck(steps in proptest::collection::vec((0..200_u64, 0..4_u8, any::<usize>()), 0..300)) {
            let mut account = Account::new(NanoUsd(1_000));
            let (mut open, mut settled, mut uncertain) = (Vec::new(), 0, 0);
            for (amount, what, which) in steps {
                if what == 0 || open.is_empty() {
                    open.extend(account.reserve(NanoUsd(amount)));
                } else {
                    let reservation: Reservation = open.swap_remove(which % open.len());
                    let all = reservation.amount().0;
                    match what {
                        1 => { settled += all.min(amount); prop_assert!(!account.settle(reservation, NanoUsd(all.min(amount))).bound_violated); }
                        2 => account.release(reservation),
                        _ => { uncertain += all; account.uncertain(reservation); }
                    }
                }
                let t = account.totals();
                prop_assert!(t.settled.0 + t.uncertain.0 + t.reserved.0 <= 1_000);
            }
            for reservation in open { account.release(reservation); }
            let t = account.totals();
            prop_assert_eq!((t.settled.0, t.uncertain.0, t.reserved.0), (settled, uncertain, 0));
        }
    }
}
