//! What a decision about the ledger is made of.

use std::str::FromStr;

use jiff::{Timestamp, tz::TimeZone};

use super::{GpuHold, GpuTerms};
use crate::{
    api::{Budget, BudgetPeriod, BudgetReport, BudgetStatus, MoneyError, NanoUsd, ReplicaBudget},
    policy::budget::{Window, window},
};

/// Clocks that differ by more than this do not agree, and no window begins.
const AGREE_SECONDS: i64 = 30;

/// Everything that is known at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// UID of the `InferenceDeployment`.
    pub uid: &'a str,
    /// The ledger.
    pub ledger: Option<&'a BudgetStatus>,
    /// What the spec says; `None` when it has no budget (any more).
    pub terms: Option<&'a Terms>,
    /// What the annotations say.
    pub marks: &'a Marks,
    /// Every pod and every `InferenceReplica` of the deployment.
    pub holders: &'a [Holder<'a>],
    /// What time it is.
    pub clocks: Clocks,
    /// Everything was read from the API server itself: first the deployment, then the pods, then the replicas.
    pub live: bool,
}

impl Situation<'_> {
    /// The GPUs that a pod holds.
    pub(super) fn gpu_hold(&self, pod_uid: &str) -> Option<GpuHold> {
        self.holders.iter().find(|holder| holder.pod_uid == pod_uid)?.gpus
    }
}

/// What the spec says.
#[derive(Clone, Debug)]
pub struct Terms {
    /// USD a window.
    pub limit: NanoUsd,
    /// When windows begin.
    pub calendar: Calendar,
    /// Percentages to warn at.
    pub warn_at: Vec<u32>,
    /// GPU time that is to be charged.
    pub gpu: Option<GpuTerms>,
}

/// Why windows cannot be told.
#[derive(Debug, thiserror::Error)]
#[error("spec.budget.timeZone: {zone:?} is not known here ({error}); write an IANA name such as Europe/Berlin")]
pub struct UnknownZone {
    zone: String,
    error: jiff::Error,
}

impl Terms {
    /// Reads them, without GPU time.
    pub fn new(budget: &Budget) -> Result<Self, UnknownZone> {
        Ok(Self {
            limit: budget.limit.usd(),
            calendar: Calendar::new(budget)?,
            warn_at: budget.warn_at_percent.clone(),
            gpu: None,
        })
    }
}

/// Period and time zone.
#[derive(Clone, Debug)]
pub struct Calendar {
    /// As the ledger keeps it, to see when it is changed.
    pub name: String,
    period: BudgetPeriod,
    zone: TimeZone,
}

impl Calendar {
    /// Reads it.
    pub fn new(budget: &Budget) -> Result<Self, UnknownZone> {
        let zone = TimeZone::get(budget.time_zone()).map_err(|error| UnknownZone {
            zone: budget.time_zone().to_owned(),
            error,
        })?;
        Ok(Self {
            name: format!("{:?} {}", budget.period(), budget.time_zone()),
            period: budget.period(),
            zone,
        })
    }

    /// The window that holds `now`.
    #[must_use]
    pub fn window(&self, now: Timestamp) -> Window {
        window(self.period, &self.zone, now)
    }
}

/// Annotations of the `InferenceDeployment`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The last window in which something was granted.
    pub window: Option<Mark>,
    /// After a loss: the amount to go on from.
    pub adopt: Option<NanoUsd>,
    /// Uncertain money to write off.
    pub write_off: Option<WriteOff>,
}

/// A window in which something was granted. The UID is there because annotations are copied with manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// UID of the `InferenceDeployment`.
    pub uid: String,
    /// Number of the window.
    pub number: u64,
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.uid, self.number)
    }
}

impl Mark {
    /// Reads the annotation.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (uid, number) = text.rsplit_once('/')?;
        Some(Self {
            uid: uid.to_owned(),
            number: number.parse().ok()?,
        })
    }
}

/// Uncertain money that somebody has looked into, `AMOUNT@WINDOW`: what was not spent in a window, in all, so that the same word is good
/// once, however often it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOff {
    /// USD.
    pub amount: NanoUsd,
    /// Number of the window.
    pub window: u64,
}

/// Why uncertain money is not written off.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteOffError {
    /// It cannot be read.
    #[error(
        "{0:?} is not AMOUNT@WINDOW: write it like \"1.25@7\", with USD and the number in status.budget.window.number"
    )]
    Form(String),
    /// Its first part cannot be read.
    #[error(transparent)]
    Amount(#[from] MoneyError),
    /// Another window is open, perhaps since it was written.
    #[error("it is for window {0}, and this is window {1}: remove it, or state what was not spent in window {1}")]
    Window(u64, u64),
    /// A part of what is written off already, or meant to come on top of it.
    #[error("it states {0} USD, and {1} USD are written off in this window already: remove it, or state the sum")]
    Less(NanoUsd, NanoUsd),
}

impl FromStr for WriteOff {
    type Err = WriteOffError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || WriteOffError::Form(text.to_owned());
        let (amount, window) = text.split_once('@').ok_or_else(form)?;
        Ok(Self {
            amount: amount.parse()?,
            window: window.parse().map_err(|_| form())?,
        })
    }
}

impl WriteOff {
    /// What `ledger` still has to take off for it; nothing when it is done.
    ///
    /// # Errors
    /// When it is not of this window, or not of all of it.
    pub fn due(&self, ledger: &BudgetStatus) -> Result<u64, WriteOffError> {
        if self.window != ledger.window.number {
            return Err(WriteOffError::Window(self.window, ledger.window.number));
        }
        let before = ledger.written_off.unwrap_or_default();
        let less = WriteOffError::Less(self.amount, before);
        self.amount.0.checked_sub(before.0).ok_or(less)
    }
}

/// What is known of one pod and its `InferenceReplica`.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    /// Name of both.
    pub pod: &'a str,
    /// UID of the pod.
    pub pod_uid: &'a str,
    /// The pod exists and has not ended.
    pub pod_lives: bool,
    /// The priced GPUs that it holds.
    pub gpus: Option<GpuHold>,
    /// The `InferenceReplica` for this UID, when there is one.
    pub object: Option<Object<'a>>,
}

/// An `InferenceReplica`.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// It is being deleted.
    pub deleting: bool,
    /// What it was told.
    pub spec: Option<&'a ReplicaBudget>,
    /// The process that wrote its status.
    pub boot_id: Option<&'a str>,
    /// What that process says of its money.
    pub report: Option<&'a BudgetReport>,
}

impl Object<'_> {
    /// The highest sequence of a ledger that the replica was told of or has seen.
    pub(super) fn seen(&self) -> u64 {
        let told = self.spec.map_or(0, |spec| spec.sequence);
        told.max(self.report.map_or(0, |report| report.sequence))
    }
}

/// The local clock, and the API server's by its last answer.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// Ours.
    pub local: Timestamp,
    /// The API server's.
    pub server: Timestamp,
}

impl Clocks {
    /// The earlier of the two; `None` while they do not agree.
    #[must_use]
    pub fn agreed(&self) -> Option<Timestamp> {
        let apart = self.local.as_second().abs_diff(self.server.as_second());
        (apart <= AGREE_SECONDS.unsigned_abs()).then(|| self.local.min(self.server))
    }
}
