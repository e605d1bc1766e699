//! Whether a context serves: health while it loads, then canaries, for an engine's `/health` may lie (design section 10).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::StatusCode;
use secrecy::SecretString;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    activity::Activity,
    engine::{About, Canary, Limits, Server},
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
    pub api_key: Option<SecretString>,
    /// What clients call the model.
    pub name: String,
    pub timing: Timing,
    pub activity: Arc<Activity>,
}

/// What an engine shows that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It answered a canary.
    Canary,
    /// Content of answers came from it.
    Content,
}

/// What was learned of a context that serves.
#[derive(Debug)]
pub struct Known {
    /// What it says of itself.
    about: About,
    canary: Canary,
}

impl Prober {
    fn client(&self) -> Client<'_> {
        Client {
            address: self.address,
            api_key: self.api_key.as_ref(),
        }
    }

    /// Until the first canary is answered.
    pub async fn ready(&self, server: &(impl Server + ?Sized)) -> Result<Known, InferenceError> {
        let began = Instant::now();
        tokio::select! {
            known = self.first(server, began) => known,
            () = self.load_ends(began) => {
                tracing::warn!(
                    seconds = began.elapsed().as_secs(),
                    "the engine did not load the model in time: raise loadTimeout"
                );
                Err(timed_out(began))
            }
        }
    }

    /// Until the model should be loaded, which the configuration may change meanwhile.
    async fn load_ends(&self, began: Instant) {
        let mut told = self.activity.load();
        loop {
            let limit = told.borrow_and_update().unwrap_or(self.timing.load);
            tokio::select! {
                () = sleep_until(began + limit) => return,
                Ok(()) = told.changed() => {}
            }
        }
    }

    /// Engines that take requests before they can answer them say so with 503.
    async fn first(&self, server: &(impl Server + ?Sized), began: Instant) -> Result<Known, InferenceError> {
        loop {
            self.loaded(server, began).await;
            match self.ready_now(server).await {
                Err(InferenceError::ServerError { status: 503, .. }) => sleep(self.timing.poll).await,
                known => return known,
            }
        }
    }

    /// One canary, answered or not.
    pub async fn ready_now(&self, server: &(impl Server + ?Sized)) -> Result<Known, InferenceError> {
        let about = self.about(server).await;
        let canary = self.find_canary(server, about.model.as_deref()).await?;
        Ok(Known { about, canary })
    }

    async fn loaded(&self, server: &(impl Server + ?Sized), began: Instant) {
        let mut report = began + self.timing.progress;
        while self.look(server).await.is_err() {
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

    /// Whether it is loaded, and what came instead.
    pub async fn look(&self, server: &(impl Server + ?Sized)) -> Result<(), String> {
        let readiness = server.readiness();
        match self.client().get(readiness.health, self.timing.health).await {
            Ok((status, _)) if (readiness.loaded)(status) => Ok(()),
            Ok((status, _)) => Err(format!("{} answers {status}", readiness.health)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What the engine says of itself; of one that does not say nothing is known.
    async fn about(&self, server: &(impl Server + ?Sized)) -> About {
        match self.client().get(server.readiness().about, self.timing.canary).await {
            Ok((StatusCode::OK, body)) => server.about(&body, &self.name),
            Ok(_) | Err(_) => About::default(),
        }
    }

    /// The first canary that is answered. One that the engine does not know is passed over; when it knows none, the first one's failure
    /// tells most.
    async fn find_canary(
        &self,
        server: &(impl Server + ?Sized),
        model: Option<&str>,
    ) -> Result<Canary, InferenceError> {
        let mut first = None;
        for canary in server.readiness().canaries {
            match self.canary(canary, model).await {
                Ok(()) => return Ok(*canary),
                Err(error) if is_unknown(&error) => {
                    first.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(first.unwrap_or(InferenceError::Internal {
            message: "the engine has no canary".to_owned(),
        }))
    }

    /// The canary that this context answers.
    pub async fn canary_now(&self, known: &Known) -> Result<(), InferenceError> {
        self.canary(&known.canary, known.about.model.as_deref()).await
    }

    /// One token.
    async fn canary(&self, canary: &Canary, model: Option<&str>) -> Result<(), InferenceError> {
        let began = Instant::now();
        let answer = self
            .client()
            .post(canary.path, canary.body(model), self.timing.canary)
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

    /// Until a canary fails: one is sent after every idle interval, and at once when the request path doubts the engine, which has so many
    /// `places`. Whoever wants to know hears of every `sign` of life.
    pub async fn sick(&self, known: &Known, places: u32, sign: impl Fn(Sign)) -> InferenceError {
        let mut seen = self.activity.beats();
        loop {
            let doubted = tokio::select! {
                () = self.activity.doubted() => true,
                () = sleep(self.timing.idle) => false,
            };
            let now = self.activity.beats();
            // Word of a doubt comes at any time, also just after the last of what came before it.
            if now != seen && !doubted {
                sign(Sign::Content);
            }
            let busy = self.activity.in_flight() > 0 || now != seen;
            seen = now;
            if busy && !doubted {
                continue;
            }
            match self.trial(known, places).await {
                Ok(true) => sign(Sign::Canary),
                Ok(false) => {}
                Err(error) => return error,
            }
        }
    }

    /// Whether a canary was answered; fails when the engine is convicted. A canary gets no answer where whole answers, which are silent
    /// while they are computed, have every place: then it is asked again for as long as such an answer may take.
    async fn trial(&self, known: &Known, places: u32) -> Result<bool, InferenceError> {
        let (began, beats) = (Instant::now(), self.activity.beats());
        let is_full = || self.activity.silent() >= places.into();
        loop {
            let was_full = is_full();
            let Err(error) = self.canary_now(known).await else {
                return Ok(true);
            };
            // Tokens that flowed meanwhile prove more than a canary that had to queue behind them.
            if self.activity.beats() != beats {
                return Ok(false);
            }
            let queued = matches!(error, InferenceError::Timeout { .. }) && (was_full || is_full());
            if !queued || began.elapsed() >= self.timing.silence.max(self.activity.answer()) {
                return Err(error);
            }
        }
    }

    /// What the request path needs to know of this context.
    pub fn target(&self, known: &Known, wanted: Limits, gone: CancellationToken) -> EngineTarget {
        let limits = known.about.limits;
        let context_length = match (limits.context_length, wanted.context_length) {
            (Some(has), Some(wanted)) => Some(has.min(wanted)),
            (has, wanted) => has.or(wanted),
        };
        EngineTarget {
            address: self.address,
            api_key: self.api_key.clone(),
            model: known.about.model.clone(),
            context_length,
            parallel: limits.parallel.or(wanted.parallel).unwrap_or(1),
            gone,
        }
    }
}

/// The status of a path, a method or a request that this model is not for.
const fn is_unknown(error: &InferenceError) -> bool {
    matches!(
        error,
        InferenceError::ServerError {
            status: 400 | 404 | 405 | 422 | 501,
            ..
        }
    )
}

fn timed_out(began: Instant) -> InferenceError {
    InferenceError::Timeout {
        elapsed_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use tokio::{net::TcpListener, spawn, sync::Notify, time::timeout};

    use super::*;
    use crate::runtime::local::InFlight;
    use crate::runtime::local::engine::{Adapter, adapter, fixtures::backend};

    const PLACES: u32 = 4;

    fn prober(address: SocketAddr) -> Prober {
        Prober {
            address,
            api_key: None,
            name: "m".to_owned(),
            timing: Timing::default(),
            activity: Arc::default(),
        }
    }

    fn known() -> Known {
        Known {
            about: About::default(),
            canary: Canary { path: "/", body: "{}" },
        }
    }

    /// How long a model that never loads was waited for, when the limit was changed on the way.
    async fn waited(changed: Option<(Duration, Duration)>) -> Duration {
        let mut prober = prober(([127, 0, 0, 1], 9).into());
        prober.timing.poll = Duration::from_secs(300);
        let activity = Arc::clone(&prober.activity);
        let change = spawn(async move {
            if let Some((after, limit)) = changed {
                sleep(after).await;
                activity.may_load(limit);
            }
        });
        let engine = adapter(&backend("External", serde_json::json!({"url": "http://e"})));
        let Ok(Adapter::Elsewhere(engine)) = engine else {
            panic!("no adapter")
        };
        let began = Instant::now();
        let error = prober.ready(&engine).await.unwrap_err();
        assert!(matches!(error, InferenceError::Timeout { .. }), "{error}");
        change.await.unwrap();
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_model_may_load_for_as_long_as_the_configuration_says_now() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        for (changed, expected) in [
            (None, minutes(30)),
            (Some((minutes(20), minutes(120))), minutes(120)),
            (Some((minutes(20), minutes(10))), minutes(20)),
        ] {
            let took = waited(changed).await;
            assert!((expected..expected + minutes(1)).contains(&took), "{took:?}");
        }
    }

    #[tokio::test]
    async fn a_canary_that_is_answered_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let prober = prober(listener.local_addr().unwrap());
        let server = spawn(async move { axum::serve(listener, Router::new().fallback(|| async {})).await });
        prober.activity.doubt();
        let (known, heard) = (known(), Notify::new());
        tokio::select! {
            error = prober.sick(&known, PLACES, |sign| {
                assert_eq!(sign, Sign::Canary);
                heard.notify_one();
            }) => panic!("{error}"),
            () = heard.notified() => {}
        }
        server.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_flow_are_told_and_need_no_canary() {
        let prober = prober(([127, 0, 0, 1], 9).into());
        let (known, heard) = (known(), Notify::new());
        tokio::select! {
            error = prober.sick(&known, PLACES, |sign| {
                assert_eq!(sign, Sign::Content);
                heard.notify_one();
            }) => panic!("{error}"),
            () = async {
                sleep(Duration::from_secs(1)).await;
                prober.activity.beat();
                heard.notified().await;
            } => {}
        }
    }

    /// How long an engine that answers nothing is put up with, when these are in flight and it is doubted.
    async fn convicted_after(silent: u32, streams: u32) -> Duration {
        // Connections are let in by the kernel.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let prober = prober(listener.local_addr().unwrap());
        let mut in_flight: Vec<_> = (0..silent + streams).map(|_| prober.activity.begin()).collect();
        in_flight.iter_mut().take(streams as usize).for_each(InFlight::speaks);
        prober.activity.doubt();
        let began = Instant::now();
        let error = prober.sick(&known(), PLACES, |_| ()).await;
        assert!(matches!(error, InferenceError::Timeout { .. }), "{error}");
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_canary_that_queues_behind_whole_answers_convicts_only_after_a_long_silence() {
        let Timing { canary, silence, .. } = Timing::default();
        let soon = canary..canary * 2;
        assert!(soon.contains(&convicted_after(0, 0).await));
        assert!(
            soon.contains(&convicted_after(PLACES - 1, 1).await),
            "a stream would flow"
        );
        let late = silence..silence + canary * 2;
        assert!(late.contains(&convicted_after(PLACES, 0).await));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_come_and_go_do_not_acquit_an_engine_that_hangs() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let prober = prober(listener.local_addr().unwrap());
        let activity = Arc::clone(&prober.activity);
        let clients = spawn(async move {
            loop {
                activity.begin().speaks();
                sleep(Duration::from_secs(1)).await;
                activity.doubt();
            }
        });
        let convicted = timeout(Timing::default().canary * 3, prober.sick(&known(), PLACES, |_| ())).await;
        assert!(matches!(convicted, Ok(InferenceError::Timeout { .. })), "{convicted:?}");
        clients.abort();
    }
}
