//! Requests that wait for money.

use std::collections::BTreeMap;

/// Amounts, with how many requests wait for each.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    amounts: BTreeMap<u64, u32>,
    sum: u64,
}

impl Waiting {
    pub(super) fn add(&mut self, amount: u64) {
        *self.amounts.entry(amount).or_default() += 1;
        self.sum = self.sum.saturating_add(amount);
    }

    pub(super) fn remove(&mut self, amount: u64) {
        let Some(count) = self.amounts.get_mut(&amount) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.amounts.remove(&amount);
        }
        self.sum = self.sum.saturating_sub(amount);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.amounts.is_empty()
    }

    pub(super) const fn sum(&self) -> u64 {
        self.sum
    }

    /// The smallest.
    pub(super) fn least(&self) -> Option<u64> {
        self.amounts.keys().next().copied()
    }
}
