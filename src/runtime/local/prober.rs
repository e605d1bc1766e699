//! Whether a context serves: health while it loads, then canaries, for an engine's `/health` may lie (design section 10).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::StatusCode;
use secrecy::SecretString;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    activity::Activity,
    engine::{Limits, Readiness},
    http::{CallError, Client},
    options::Timing,
    termination::truncate,
    view::EngineTarget,
};
use crate::error::InferenceError;

const SETTLE: Duration = Duration::from_secs(1);
const BODY_LIMIT: usize = 400;

/// Asks one context.
pub struct Prober {
    pub address: SocketAddr,
    pub api_key: SecretString,
    pub readiness: Readiness,
    pub timing: Timing,
    pub activity: Arc<Activity>,
}

impl Prober {
    fn client(&self) -> Client<'_> {
        Client {
            address: self.address,
            api_key: &self.api_key,
        }
    }

    /// Until the first canary is answered.
    pub async fn ready(&self) -> Result<(), InferenceError> {
        let began = Instant::now();
        match timeout(self.timing.load, self.loaded(began)).await {
            Ok(()) => self.canary().await,
            Err(_) => Err(timed_out(began)),
        }
    }

    async fn loaded(&self, began: Instant) {
        let mut report = began + self.timing.progress;
        loop {
            if let Ok((StatusCode::OK, _)) = self.client().get(self.readiness.health, self.timing.health).await {
                return;
            }
            if Instant::now() >= report {
                tracing::info!(
                    seconds = began.elapsed().as_secs(),
                    "the engine is still loading the model"
                );
                report += self.timing.progress;
            }
            sleep(self.timing.poll).await;
        }
    }

    /// One token.
    async fn canary(&self) -> Result<(), InferenceError> {
        let began = Instant::now();
        let answer = self
            .client()
            .post(self.readiness.canary, self.readiness.canary_body, self.timing.canary)
            .await;
        match answer {
            Ok((StatusCode::OK, _)) => Ok(()),
            Ok((status, body)) => Err(InferenceError::ServerError {
                status: status.as_u16(),
                body: Some(format!(
                    "the engine answered its canary with {status}: {}",
                    truncate(&String::from_utf8_lossy(&body), BODY_LIMIT)
                )),
            }),
            Err(CallError::Timeout(_)) => Err(timed_out(began)),
            Err(error) => {
                // A process that dies takes its connections along, and its exit status says more than they do: this wait ends with it.
                sleep(SETTLE).await;
                Err(InferenceError::NetworkError {
                    message: format!("the engine does not answer its canary: {error}"),
                })
            }
        }
    }

    /// What the engine says of its limits; an engine that does not say has none that we know of.
    pub async fn limits(&self, read: impl Fn(&[u8]) -> Limits) -> Limits {
        match self.client().get(self.readiness.limits, self.timing.canary).await {
            Ok((StatusCode::OK, body)) => read(&body),
            Ok(_) | Err(_) => Limits::default(),
        }
    }

    /// Until a canary fails: one is sent after every idle interval, and at once when the request path doubts the engine.
    pub async fn sick(&self) -> InferenceError {
        let mut seen = self.activity.beats();
        loop {
            let doubted = tokio::select! {
                () = self.activity.doubted() => true,
                () = sleep(self.timing.idle) => false,
            };
            let now = self.activity.beats();
            let busy = self.activity.in_flight() > 0 || now != seen;
            seen = now;
            if busy && !doubted {
                continue;
            }
            if let Err(error) = self.canary().await {
                // Tokens that flowed meanwhile prove more than a canary that had to queue behind them.
                if self.activity.beats() == now {
                    return error;
                }
            }
        }
    }

    /// What the request path needs to know of this context.
    pub fn target(&self, limits: Limits, wanted: Limits, gone: CancellationToken) -> EngineTarget {
        let context_length = match (limits.context_length, wanted.context_length) {
            (Some(has), Some(wanted)) => Some(has.min(wanted)),
            (has, wanted) => has.or(wanted),
        };
        EngineTarget {
            address: self.address,
            api_key: self.api_key.clone(),
            context_length,
            parallel: limits.parallel.or(wanted.parallel).unwrap_or(1),
            gone,
        }
    }
}

fn timed_out(began: Instant) -> InferenceError {
    InferenceError::Timeout {
        elapsed_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}
