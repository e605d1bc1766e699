//! One backend's share as one process keeps to it: requests and tokens, who waits, and what is told of the demand.

use std::time::Duration;

use super::{
    Bucket, Rate,
    demand::{Circumstances, Demand, Told},
};

/// In a shortage so young more of the limit may be on its way: who comes waits, however long the line is.
const YOUNG: Duration = Duration::from_secs(2);
/// A shortage is over when nobody has had to wait for so long.
const OVER: Duration = Duration::from_secs(1);
/// Who would wait for more than this part of the patience is short.
const SHORT: f64 = 0.4;
/// No longer wait is told: after a minute a limit a minute is another one.
const LONGEST: Duration = Duration::from_secs(60);

/// Requests and tokens a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Requests; `None` when they are not limited.
    pub requests: Option<Rate>,
    /// Tokens; `None` when they are not limited.
    pub tokens: Option<Rate>,
}

/// A place in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// There is a place at the end. Otherwise only somebody who goes before others may wait.
    pub open: bool,
    /// How long it would take at this share; a minute at most.
    pub wait: Duration,
}

/// What limits requests, or tokens.
#[derive(Clone, Debug)]
struct Part {
    limit: Rate,
    bucket: Bucket,
    demand: Demand,
    waiting: u64,
    short_at: Option<Duration>,
}

impl Part {
    fn new(limit: Rate, now: Duration) -> Self {
        Self {
            limit,
            bucket: Bucket::new(now),
            demand: Demand::new(now),
            waiting: 0,
            short_at: None,
        }
    }

    fn wait(&mut self, units: u64, ahead: u64, now: Duration) -> Duration {
        let wait = self.bucket.wait(units, ahead, now);
        wait.unwrap_or(LONGEST).min(LONGEST)
    }

    fn judge(&mut self, contended: bool, now: Duration) -> Told {
        let short = self.short_at.is_some_and(|at| now.saturating_sub(at) < OVER);
        let circumstances = Circumstances {
            short,
            contended,
            waiting: self.waiting,
        };
        self.demand.judge(&mut self.bucket, circumstances, now)
    }
}

/// The share of one backend. `tokens` is always what one request takes of them.
#[derive(Clone, Debug)]
pub struct Meter {
    requests: Option<Part>,
    tokens: Option<Part>,
    share: Rates,
    contended: bool,
    waiting: u64,
    shortage: Option<(Duration, Duration)>,
}

impl Meter {
    /// Nothing may be sent before there is an order.
    #[must_use]
    pub fn new(limits: Rates, now: Duration) -> Self {
        Self {
            requests: limits.requests.map(|limit| Part::new(limit, now)),
            tokens: limits.tokens.map(|limit| Part::new(limit, now)),
            share: Rates::default(),
            contended: false,
            waiting: 0,
            shortage: None,
        }
    }

    /// Takes changed limits. What was not limited before begins with an empty bucket.
    pub fn limit(&mut self, limits: Rates, now: Duration) {
        let changed = |part: &mut Option<Part>, limit: Option<Rate>| match (part.as_mut(), limit) {
            (Some(part), Some(limit)) => part.limit = limit,
            (_, limit) => *part = limit.map(|limit| Part::new(limit, now)),
        };
        changed(&mut self.requests, limits.requests);
        changed(&mut self.tokens, limits.tokens);
        self.obey(self.share, self.contended, now);
    }

    /// Takes an order. It holds at once and is never more than the limit; without one nothing is sent. `contended`: another replica is
    /// short.
    pub fn obey(&mut self, share: Rates, contended: bool, now: Duration) {
        (self.share, self.contended) = (share, contended);
        let ordered = [share.requests, share.tokens];
        for (part, rate) in [&mut self.requests, &mut self.tokens].into_iter().zip(ordered) {
            if let Some(part) = part {
                part.bucket.set_rate(rate.unwrap_or(0).min(part.limit), now);
            }
        }
    }

    /// A request wants to be sent, whatever becomes of it.
    pub fn want(&mut self, tokens: u64, now: Duration) {
        self.each(tokens, |part, units| part.demand.add(float(units), now));
    }

    /// Takes what a request needs when there is room and nobody waits.
    #[must_use]
    pub fn take(&mut self, tokens: u64, now: Duration) -> bool {
        self.waiting == 0 && self.take_first(tokens, now).is_ok()
    }

    /// The same for who is first in line.
    ///
    /// # Errors
    /// How long until there is room at this share.
    pub fn take_first(&mut self, tokens: u64, now: Duration) -> Result<(), Duration> {
        let mut wait = Duration::ZERO;
        self.each(tokens, |part, units| wait = wait.max(part.wait(units, 0, now)));
        if !wait.is_zero() {
            return Err(wait);
        }
        self.each(tokens, |part, units| part.bucket.take(units));
        Ok(())
    }

    /// A request joins the line until [`Self::leave`]. It waits `patience` at most.
    pub fn join(&mut self, tokens: u64, patience: Duration, now: Duration) -> Line {
        let long = patience.mul_f64(SHORT);
        let mut wait = Duration::ZERO;
        self.each(tokens, |part, units| {
            let own = part.wait(units, part.waiting, now);
            part.waiting += units;
            if own > long {
                part.short_at = Some(now);
            }
            wait = wait.max(own);
        });
        self.waiting += 1;
        if wait > long {
            let since = self.shortage.filter(|(_, last)| now.saturating_sub(*last) < YOUNG);
            self.shortage = Some((since.map_or(now, |(since, _)| since), now));
        }
        let young = self
            .shortage
            .is_some_and(|(since, _)| now.saturating_sub(since) < YOUNG);
        Line {
            open: young || wait <= patience,
            wait,
        }
    }

    /// A request is no longer in line.
    pub fn leave(&mut self, tokens: u64) {
        self.each(tokens, |part, units| part.waiting = part.waiting.saturating_sub(units));
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Requests in line.
    #[must_use]
    pub const fn waiting(&self) -> u64 {
        self.waiting
    }

    /// A request that took its part was not sent.
    pub fn give_back(&mut self, tokens: u64, now: Duration) {
        self.each(tokens, |part, units| part.bucket.give_back(units, now));
    }

    /// A request that took `tokens` used `used` of them.
    pub fn correct(&mut self, tokens: u64, used: u64, now: Duration) {
        let Some(part) = &mut self.tokens else { return };
        if used > tokens {
            part.bucket.take(used - tokens);
        } else {
            part.bucket.give_back(tokens - used, now);
        }
        part.demand.add(float(used) - float(tokens), now);
    }

    /// Looks whether what is told of the demand still holds.
    pub fn judge(&mut self, now: Duration) -> Told {
        let contended = self.contended;
        let mut told = Told::Same;
        self.each(0, |part, _| told = told.max(part.judge(contended, now)));
        told
    }

    /// The demand as it is told.
    #[must_use]
    pub fn demand(&self) -> Rates {
        self.rates(|part| part.demand.told())
    }

    /// The share that is kept to.
    #[must_use]
    pub fn kept(&self) -> Rates {
        self.rates(|part| part.bucket.rate())
    }

    fn rates(&self, of: impl Fn(&Part) -> Rate) -> Rates {
        Rates {
            requests: self.requests.as_ref().map(&of),
            tokens: self.tokens.as_ref().map(&of),
        }
    }

    fn each(&mut self, tokens: u64, mut act: impl FnMut(&mut Part, u64)) {
        for (part, units) in [(&mut self.requests, 1), (&mut self.tokens, tokens)] {
            if let Some(part) = part {
                act(part, units);
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
const fn float(units: u64) -> f64 {
    units as f64
}
