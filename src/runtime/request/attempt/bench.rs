//! Everything an attempt is judged by.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Asker;
use crate::{
    error::{CircuitRule, InferenceError},
    runtime::{
        remote::classify::{
            Source,
            scrub::{shown, shown_without},
        },
        request::{
            outcome::Miss,
            target::{OwnEngine, Target},
        },
    },
};

/// How long a broken connection to the own engine waits for the worker to say why.
const POST_MORTEM: Duration = Duration::from_millis(500);

/// The target, who asks, and since when.
#[derive(Debug)]
pub struct Bench {
    pub target: Target,
    pub asker: Asker,
    pub started: Instant,
}

impl Bench {
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub fn source(&self) -> Source<'_> {
        Source {
            provider: &self.target.provider,
            secret: self.target.secret(),
            deployment: &self.asker.deployment,
            now_unix_ms: jiff::Timestamp::now().as_millisecond(),
            elapsed_ms: self.elapsed_ms(),
        }
    }

    /// A text of the backend for people, without the key that it was shown.
    pub fn shown(&self, text: &str) -> String {
        shown_without(text, self.target.secret())
    }

    pub fn timed_out(&self) -> Miss {
        self.doubt();
        Miss::sent(InferenceError::Timeout {
            elapsed_ms: self.elapsed_ms(),
        })
    }

    /// The time is over, and there is more to read: who reads it was slow as likely as who sends it, and nobody is blamed.
    pub fn overlong(&self) -> Miss {
        let mut miss = Miss::sent(InferenceError::Timeout {
            elapsed_ms: self.elapsed_ms(),
        });
        miss.classified.circuit = CircuitRule::Ignored;
        miss
    }

    /// A connection that broke after the request left. The own engine's worker knows more than the connection.
    pub async fn broken(&self, error: &(dyn std::error::Error + Sync)) -> Miss {
        if let Some(engine) = &self.target.engine
            && timeout(POST_MORTEM, engine.target.gone.cancelled()).await.is_ok()
        {
            return Miss::sent(engine.why_gone().await);
        }
        Miss::sent(InferenceError::NetworkError { message: chain(error) })
    }

    /// The own engine behaved as if it were broken: its supervisor asks it.
    pub fn doubt(&self) {
        if let Some(engine) = &self.target.engine {
            engine.activity.doubt();
        }
    }

    /// The own engine gave a sign of life.
    pub fn beat(&self) {
        if let Some(engine) = &self.target.engine {
            engine.activity.beat();
        }
    }

    pub fn gone(&self) -> Option<&OwnEngine> {
        self.target
            .engine
            .as_ref()
            .filter(|engine| engine.target.gone.is_cancelled())
    }

    pub fn total(&self) -> Instant {
        self.started + self.target.timers.total
    }

    /// Completes when the context is gone; never for others.
    pub async fn until_gone(&self) -> Miss {
        match &self.target.engine {
            Some(engine) => {
                engine.target.gone.cancelled().await;
                Miss::sent(engine.why_gone().await)
            }
            None => std::future::pending().await,
        }
    }
}

/// The causes of an error, outermost first, for people.
pub fn chain(error: &(dyn std::error::Error + Sync)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    shown(&text)
}
