//! Why the circuit of a credential is open: not every refusal is the key's fault.

use crate::{api::conditions::reason, error::ErrorKind};

/// What a provider refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The key.
    Unauthorized,
    /// What the key is used for.
    Forbidden,
    /// The account's quota is used up, or its bill is not paid.
    Unpaid,
    /// The quota of the day is used up.
    DayQuota,
}

impl Refusal {
    /// By the kind of the error that opened the circuit.
    #[must_use]
    pub const fn of(last_error: Option<ErrorKind>) -> Self {
        match last_error {
            Some(ErrorKind::Forbidden) => Self::Forbidden,
            Some(ErrorKind::BudgetExceeded) => Self::Unpaid,
            Some(ErrorKind::RateLimited) => Self::DayQuota,
            _ => Self::Unauthorized,
        }
    }

    /// The reason of conditions, reports and Events.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Unauthorized => reason::UNAUTHORIZED,
            Self::Forbidden => reason::FORBIDDEN,
            Self::Unpaid => reason::EXHAUSTED,
            Self::DayQuota => reason::UPSTREAM_RATE_LIMITED,
        }
    }

    /// What the provider does, for a sentence that begins with the provider and goes on with whose account or key it is.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Unauthorized | Self::Forbidden => "refuses the credentials",
            Self::Unpaid => "has no quota left for the account",
            Self::DayQuota => "has nothing left of the day's quota for the account",
        }
    }

    /// What helps where no key is at fault.
    #[must_use]
    pub const fn advice(self) -> Option<&'static str> {
        match self {
            Self::Unauthorized | Self::Forbidden => None,
            Self::Unpaid => Some("pay or raise it there; it is probed by itself"),
            Self::DayQuota => Some("wait for the next day or raise it there; it is probed by itself"),
        }
    }
}
