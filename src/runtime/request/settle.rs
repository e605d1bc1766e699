//! The guard of one attempt: circuits are judged and money is settled exactly once, whatever ends it.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::outcome::{Miss, Progress};
use crate::{
    error::{BudgetRule, CircuitRule, ErrorKind},
    policy::pricing::Usage,
    runtime::{
        backends::{Hold, Leave, Part, Remote, Use},
        local::InFlight,
        metrics::Metrics,
        remote::{events::Finish, session::Session},
    },
};

/// The guard of one attempt. Dropped without a word it was cancelled by us: no verdict, and what was reserved is uncertain unless
/// usage was reported.
#[derive(Debug)]
#[must_use = "an attempt that is dropped counts as cancelled"]
pub struct Ticket {
    backend: Arc<str>,
    metrics: Arc<Metrics>,
    stake: Option<Stake>,
    hold: Option<Hold>,
    part: Option<Part>,
    usage: Option<Usage>,
    place: Option<Place>,
    used: Option<Use>,
    open: bool,
}

/// A place at the own engine, and word to its supervisor that it is taken.
pub type Place = (OwnedSemaphorePermit, InFlight);

/// What a remote backend has at stake.
#[derive(Debug)]
pub struct Stake {
    /// The backend.
    pub remote: Arc<Remote>,
    /// The session that the request goes out with.
    pub session: Arc<Session>,
    /// Leave of the endpoint circuit.
    pub endpoint: Leave,
    /// Leave of the credential circuit.
    pub credential: Leave,
}

impl Ticket {
    /// An attempt begins: it is sent at once.
    pub fn new(backend: Arc<str>, metrics: Arc<Metrics>, mut stake: Option<Stake>, hold: Option<Hold>) -> Self {
        if let Some(stake) = &mut stake {
            stake.endpoint.send();
            stake.credential.send();
        }
        Self {
            backend,
            metrics,
            stake,
            hold,
            part: None,
            usage: None,
            place: None,
            used: None,
            open: true,
        }
    }

    /// What the attempt takes of a rate limit: from now on it counts as sent.
    pub fn with_part(mut self, part: Option<Part>) -> Self {
        self.part = part.map(Part::send);
        self
    }

    /// Holds a place at the own engine until the attempt ends.
    pub fn with_place(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// The local backend is wanted until the attempt ends.
    pub fn uses(&mut self, used: Use) {
        self.used = Some(used);
    }

    /// The first content of the answer has come.
    pub fn begun(&mut self) {
        if let Some(stake) = &mut self.stake {
            stake.endpoint.begun();
            stake.credential.begun();
        }
        if let Some((_, in_flight)) = &mut self.place {
            in_flight.speaks();
        }
    }

    /// True when the attempt decides whether a circuit closes.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        let probes = |stake: &Stake| stake.endpoint.is_probe() || stake.credential.is_probe();
        self.stake.as_ref().is_some_and(probes)
    }

    /// The backend reported usage.
    pub const fn report(&mut self, usage: Option<Usage>) {
        if usage.is_some() {
            self.usage = usage;
        }
    }

    /// The answer ended as it should. An answer that the provider cut for its content is its success and the caller's outcome.
    /// Returns the outcome's label.
    #[must_use]
    pub fn succeed(mut self, finish: Option<Finish>) -> &'static str {
        let outcome = match finish {
            Some(Finish::ContentFilter) => ErrorKind::ContentFiltered.as_str(),
            Some(Finish::Failed) => ErrorKind::ServerError.as_str(),
            Some(Finish::Regular) | None => "success",
        };
        if let Some(Stake {
            remote,
            session: _,
            endpoint,
            credential,
        }) = self.stake.take()
        {
            remote.limited().note(false);
            endpoint.succeeded();
            credential.succeeded();
        }
        self.close(outcome);
        outcome
    }

    /// The attempt failed, and that counts.
    pub fn fail(mut self, miss: &Miss) {
        if let Some(Stake {
            remote,
            session,
            endpoint,
            credential,
        }) = self.stake.take()
        {
            let failure = &miss.classified;
            remote.limited().note(failure.error.kind() == ErrorKind::RateLimited);
            match failure.circuit {
                CircuitRule::EndpointFailure => endpoint.failed(failure.error.kind(), failure.wait, &failure.said()),
                CircuitRule::CredentialRefused => remote.refuse_session(&session, failure, Some(credential)),
                CircuitRule::Ignored | CircuitRule::EnginePoisoned => {}
            }
        }
        self.settle(miss);
    }

    /// The attempt failed and another one with a rebuilt session will tell.
    pub fn fail_uncounted(mut self, miss: &Miss) {
        self.settle(miss);
    }

    fn settle(&mut self, miss: &Miss) {
        self.report(miss.usage.as_deref().copied());
        self.give_back(miss.progress);
        let kind = miss.classified.error.kind();
        if releases(kind.contract().budget, miss.progress)
            && self.usage.is_none()
            && let Some(hold) = self.hold.take()
        {
            hold.release();
        }
        self.close(kind.as_str());
    }

    /// Of a rate limit all is used that was sent, but a refusal costs no tokens.
    fn give_back(&mut self, progress: Progress) {
        if self.usage.is_some() || progress == Progress::Sent {
            return;
        }
        match (self.part.take(), progress) {
            (Some(part), Progress::Unsent) => part.unsent(),
            (Some(part), _) => part.refused(),
            (None, _) => {}
        }
    }

    fn close(&mut self, outcome: &'static str) {
        self.open = false;
        self.place = None;
        self.metrics.attempt(&self.backend, outcome);
        if let Some(usage) = &self.usage {
            self.metrics.usage(&self.backend, usage);
            if let Some(hold) = self.hold.take() {
                hold.settle(usage);
            }
            if let Some(part) = self.part.take() {
                part.used(usage.input_tokens, usage.output_tokens);
            }
        }
        // A hold that is left is booked as uncertain by its own drop.
        self.hold = None;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.open {
            self.close("cancelled");
        }
    }
}

/// Whether the reservation goes back, by the contract table (design section 5).
pub(in crate::runtime) const fn releases(rule: BudgetRule, progress: Progress) -> bool {
    match rule {
        // Before any content a complete refusal costs nothing. After it what was generated is billed, whatever ends it: the provider's
        // own exhausted quota, too.
        BudgetRule::Release
        | BudgetRule::ReleaseIfComplete
        | BudgetRule::Settle
        | BudgetRule::None
        | BudgetRule::Denies => matches!(progress, Progress::Unsent | Progress::Answered),
        BudgetRule::ReleaseIfUnsent | BudgetRule::Uncertain => matches!(progress, Progress::Unsent),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{
        api::{NanoUsd, PicoUsd},
        error::ErrorKind as K,
        policy::pricing::Prices,
        runtime::backends::Money,
    };

    fn money() -> Arc<Money> {
        let budget = serde_json::from_str(r#"{"limit":"1.00","period":"Total"}"#).unwrap();
        Arc::new(Money::alone(&budget, Timestamp::UNIX_EPOCH).unwrap())
    }

    fn ticket(money: &Money) -> Ticket {
        let prices = Prices::flat(PicoUsd(1_000), PicoUsd(1_000));
        let hold = money
            .reserve(NanoUsd(100), prices, &Arc::default(), Timestamp::UNIX_EPOCH)
            .ok();
        Ticket::new("up".into(), Arc::default(), None, hold)
    }

    /// Settled, uncertain, and what is left.
    fn booked(money: &Money) -> String {
        let status = money.status(Timestamp::UNIX_EPOCH).unwrap();
        format!("{} {} {}", status.settled, status.uncertain, status.remaining)
    }

    #[tokio::test]
    async fn a_panic_settles_what_the_task_held() {
        let money = money();
        let (first, mut second) = (ticket(&money), ticket(&money));
        let one = tokio::spawn(async move {
            let _held = first;
            panic!("a fault of the request's task");
        });
        let two = tokio::spawn(async move {
            second.report(Some(Usage {
                input_tokens: 7,
                ..Usage::default()
            }));
            panic!("another one, after the report");
        });
        assert!(one.await.unwrap_err().is_panic() && two.await.unwrap_err().is_panic());
        assert_eq!(booked(&money), "0.000000007 0.0000001 0.999999893");
    }

    #[test]
    fn an_attempt_that_is_dropped_is_uncertain_as_a_whole() {
        let money = money();
        drop(ticket(&money));
        assert_eq!(booked(&money), "0.00 0.0000001 0.9999999");
    }

    #[test]
    fn reservations_go_back_as_the_table_says() {
        for (kind, progress, expected) in [
            (K::RateLimited, Progress::Answered, true),
            (K::BadRequest, Progress::Answered, true),
            (K::Unauthorized, Progress::Answered, true),
            (K::ServerError, Progress::Answered, true),
            (K::ServerError, Progress::Sent, false),
            (K::NetworkError, Progress::Unsent, true),
            (K::NetworkError, Progress::Sent, false),
            (K::Timeout, Progress::Sent, false),
            (K::Timeout, Progress::Answered, false),
            (K::Internal, Progress::Sent, false),
            (K::BudgetExceeded, Progress::Unsent, true),
            (K::BudgetExceeded, Progress::Answered, true),
            (K::BudgetExceeded, Progress::Sent, false),
            (K::CircuitOpen, Progress::Unsent, true),
            (K::CircuitOpen, Progress::Answered, true),
            (K::CircuitOpen, Progress::Sent, false),
        ] {
            assert_eq!(
                releases(kind.contract().budget, progress),
                expected,
                "{} {progress:?}",
                kind.as_str()
            );
        }
    }
}
