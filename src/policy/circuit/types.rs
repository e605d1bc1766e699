//! What goes into a circuit and what comes out of it.

use std::time::Duration;

use crate::{
    api::{CircuitState, ProbeReport, ProbeToken},
    error::ErrorKind,
};

/// Leave to send one request. It must come back through [`super::Circuit::record`], as [`Verdict::Unsent`] when it was not used.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is never recorded holds a probe for ever"]
pub struct Permit {
    pub(super) round: u64,
    pub(super) kind: PermitKind,
    pub(super) begun: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PermitKind {
    /// The circuit is closed.
    Regular,
    /// Decides whether the circuit closes.
    Probe,
    /// Only the override lets it through.
    Forced,
}

impl Permit {
    /// True for a request that decides whether the circuit closes.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.kind == PermitKind::Probe
    }
}

/// No leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// When the circuit opened.
    pub opened_at: Duration,
    /// When it may be asked again.
    pub retry_at: Duration,
}

/// What a finished request says of its backend, judged at the end of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The backend works.
    Success,
    /// The backend is sick.
    Failure {
        /// How.
        kind: ErrorKind,
        /// The wait that the backend asked for.
        retry_after: Option<Duration>,
    },
    /// It was sent and nothing was learnt: a rate limit, the caller's fault, an own cancellation.
    NotCounted,
    /// It was not sent: a local refusal. Its leave goes to another request.
    Unsent,
}

/// A change that people and peers must hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Closed or HalfOpen → Open.
    Opened,
    /// Open or HalfOpen → Closed.
    Closed,
    /// A probe token is to be accepted, or its outcome is there.
    Probe,
}

/// What the merged circuit says to this replica, in times of its own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its epoch.
    pub epoch: u64,
    /// Number of the decision.
    pub sequence: u64,
    /// Set while it is open for all.
    pub open: Option<OpenForAll>,
    /// False when it speaks of a key that is not ours.
    pub binds: bool,
}

/// A circuit that is open for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenForAll {
    /// When it opened; the process's start when that was before.
    pub opened_at: Duration,
    /// When the next probe may be sent: for people.
    pub retry_at: Duration,
    /// Times it opened since it was last healthy.
    pub trips: u32,
    /// What opened it.
    pub last_error: Option<ErrorKind>,
    /// Leave to probe, once accepted.
    pub token: Option<ProbeToken>,
}

/// The circuit for status and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitView {
    /// State, the override included.
    pub state: CircuitState,
    /// When it opened, whatever is forced.
    pub opened_at: Option<Duration>,
    /// When the next probe may be sent.
    pub retry_at: Option<Duration>,
    /// Times it opened since it was last healthy.
    pub trips: u32,
    /// What opened it.
    pub last_error: Option<ErrorKind>,
    /// Epoch of the merged circuit.
    pub epoch: u64,
    /// Number of the merged circuit's decision; 0 when there is none.
    pub sequence: u64,
    /// A call was judged within the window.
    pub judged: bool,
    /// Requests are refused while it is open for all.
    pub demand: bool,
    /// The probe token taken last.
    pub probe: Option<ProbeReport>,
    /// Its acceptance is not known to stand in our object yet.
    pub accepting: bool,
}
