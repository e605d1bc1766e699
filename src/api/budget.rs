//! The money budget as users write it (design section 8).

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Decimal;

/// The calendar of a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BudgetPeriod {
    /// From full hour to full hour.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday.
    Week,
    /// From the first to the first.
    #[default]
    Month,
    /// One window that never ends.
    Total,
}

/// What happens when the budget is spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnExhausted {
    /// Paid requests are refused; backends that cost nothing go on.
    #[default]
    Reject,
    /// As `Reject`, and priced GPUs are released until the next window.
    ScaleToZero,
}

/// A hard limit in USD for all paid backends of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!self.limit.matches('^0([.]0+)?$')", "limit is above 0; to send nothing to a provider leave its backend out"),
    validation = (
        "!has(self.period) || self.period != 'Total' || !has(self.timeZone)",
        "with period Total a timeZone would do nothing"
    ),
    validation = (
        "!has(self.warnAtPercent) || self.warnAtPercent.all(p, self.warnAtPercent.exists_one(q, q == p))",
        "warnAtPercent names each percentage once"
    )
)]
pub struct Budget {
    /// USD in one window.
    pub limit: Decimal,
    /// The window; `Month` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<BudgetPeriod>,
    /// IANA time zone of the window's boundaries; `UTC` when absent.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What happens when it is spent; `Reject` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_exhausted: Option<OnExhausted>,
    /// Percentages at which a Warning event is sent, once a window each.
    #[schemars(length(max = 10), inner(range(min = 1, max = 100)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warn_at_percent: Vec<u32>,
}

impl Budget {
    /// The window.
    #[must_use]
    pub fn period(&self) -> BudgetPeriod {
        self.period.unwrap_or_default()
    }

    /// IANA name of the time zone.
    #[must_use]
    pub fn time_zone(&self) -> &str {
        self.time_zone.as_deref().unwrap_or("UTC")
    }
}
