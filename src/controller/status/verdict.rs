//! What a condition says.

/// A condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its type.
    pub type_: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// A reason constant.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

pub(super) const TRUE: &str = "True";
pub(super) const FALSE: &str = "False";
pub(super) const UNKNOWN: &str = "Unknown";

pub(super) fn verdict(
    type_: &'static str,
    status: &'static str,
    reason: &'static str,
    message: impl Into<String>,
) -> Verdict {
    Verdict {
        type_,
        status,
        reason,
        message: message.into(),
    }
}
