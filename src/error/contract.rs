//! The contract table of design section 5: one exhaustive match.

use super::ErrorKind;
use crate::api::conditions::{self as types, reason};

/// What may be tried after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryRule {
    /// Nothing: the answer would be the same everywhere.
    Never,
    /// The same backend again, within its retry policy; then the next one.
    SameBackend,
    /// The next backend.
    NextBackend,
    /// Another replica of the same backend, or the next backend.
    OtherReplica,
    /// Only a backend with a longer context.
    LongerContext,
    /// The same backend once with a rebuilt session; then the next one.
    RebuiltSession,
    /// Only backends that cost nothing.
    FreeBackend,
}

/// What a failure means for circuits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitRule {
    /// Not counted.
    Ignored,
    /// A failure of the endpoint.
    EndpointFailure,
    /// Opens the credential circuit at once.
    CredentialRefused,
    /// Opens the local engine's circuit at once.
    EnginePoisoned,
}

/// What becomes of the reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetRule {
    /// There was none.
    None,
    /// Given back.
    Release,
    /// Settled as the provider reported.
    Settle,
    /// Denied: there never was one.
    Denies,
    /// Kept whole as uncertain.
    Uncertain,
    /// Given back when no byte of the request had left; uncertain otherwise.
    ReleaseIfUnsent,
    /// Given back when the error answer was complete; uncertain otherwise.
    ReleaseIfComplete,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contract {
    /// HTTP status of our answer.
    pub http_status: u16,
    /// `error.type` of our answer, in OpenAI's words.
    pub error_type: &'static str,
    /// `error.code` of our answer: the kind, except for an exhausted budget, which speaks as OpenAI does.
    pub error_code: &'static str,
    /// True when the answer carries Retry-After.
    pub retry_after: bool,
    /// What may be tried.
    pub retry: RetryRule,
    /// What it means for circuits.
    pub circuit: CircuitRule,
    /// Type and reason of the condition it may change.
    pub condition: Option<(&'static str, &'static str)>,
    /// What becomes of the reservation.
    pub budget: BudgetRule,
}

impl Contract {
    const fn new(
        kind: ErrorKind,
        http_status: u16,
        error_type: &'static str,
        retry: RetryRule,
        budget: BudgetRule,
    ) -> Self {
        Self {
            http_status,
            error_type,
            error_code: kind.as_str(),
            retry_after: false,
            retry,
            circuit: CircuitRule::Ignored,
            condition: None,
            budget,
        }
    }

    const fn with_retry_after(mut self) -> Self {
        self.retry_after = true;
        self
    }

    const fn code(mut self, code: &'static str) -> Self {
        self.error_code = code;
        self
    }

    const fn circuit(mut self, circuit: CircuitRule) -> Self {
        self.circuit = circuit;
        self
    }

    const fn condition(mut self, condition: &'static str, reason: &'static str) -> Self {
        self.condition = Some((condition, reason));
        self
    }
}

const RATE_LIMIT: &str = "rate_limit_error";
const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";

impl ErrorKind {
    /// The row of the contract table.
    #[must_use]
    pub const fn contract(self) -> Contract {
        use BudgetRule as B;
        use CircuitRule as C;
        use RetryRule as R;
        match self {
            Self::RateLimited => Contract::new(self, 429, RATE_LIMIT, R::SameBackend, B::Release)
                .with_retry_after()
                .condition(types::DEGRADED, reason::UPSTREAM_RATE_LIMITED),
            Self::CircuitOpen => Contract::new(self, 503, SERVER, R::NextBackend, B::None)
                .with_retry_after()
                .condition(types::CIRCUIT_CLOSED, reason::OPEN),
            Self::ContentFiltered => Contract::new(self, 400, INVALID, R::Never, B::Settle),
            Self::ContextLengthExceeded => Contract::new(self, 400, INVALID, R::LongerContext, B::Release),
            Self::BadRequest => Contract::new(self, 400, INVALID, R::Never, B::Release),
            Self::Unauthorized => Contract::new(self, 502, SERVER, R::RebuiltSession, B::Release)
                .circuit(C::CredentialRefused)
                .condition(types::CREDENTIALS_ACCEPTED, reason::UNAUTHORIZED),
            Self::Forbidden => Contract::new(self, 502, SERVER, R::NextBackend, B::Release)
                .circuit(C::CredentialRefused)
                .condition(types::CREDENTIALS_ACCEPTED, reason::FORBIDDEN),
            Self::Backpressure => Contract::new(self, 503, SERVER, R::NextBackend, B::Release)
                .with_retry_after()
                .condition(types::DEGRADED, reason::SATURATED),
            Self::BudgetExceeded => Contract::new(self, 429, "insufficient_quota", R::FreeBackend, B::Denies)
                .code("insufficient_quota")
                .condition(types::WITHIN_BUDGET, reason::EXHAUSTED),
            Self::NetworkError => Contract::new(self, 502, SERVER, R::SameBackend, B::ReleaseIfUnsent)
                .circuit(C::EndpointFailure)
                .condition(types::BACKENDS_AVAILABLE, reason::NO_BACKEND_AVAILABLE),
            Self::ServerError => Contract::new(self, 502, SERVER, R::SameBackend, B::ReleaseIfComplete)
                .circuit(C::EndpointFailure)
                .condition(types::BACKENDS_AVAILABLE, reason::NO_BACKEND_AVAILABLE),
            Self::Timeout => Contract::new(self, 504, SERVER, R::SameBackend, B::Uncertain)
                .circuit(C::EndpointFailure)
                .condition(types::BACKENDS_AVAILABLE, reason::NO_BACKEND_AVAILABLE),
            Self::CudaContextPoisoned => Contract::new(self, 503, SERVER, R::OtherReplica, B::Release)
                .circuit(C::EnginePoisoned)
                .condition(types::GPU_HEALTHY, reason::CONTEXT_POISONED),
            Self::Internal => Contract::new(self, 500, SERVER, R::Never, B::Uncertain)
                .condition(types::DEGRADED, reason::INTERNAL_ERROR),
        }
    }
}
