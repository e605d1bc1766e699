//! An engine that runs elsewhere: looked up, asked, and asked again for ever. There is no process to start or to kill, and ending this
//! one would not help.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::lookup_host,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    activity::Activity,
    engine::{External, Limits},
    options::Options,
    prober::Prober,
    termination::said,
    view::EngineView,
};
use crate::{api::LocalBackend, error::InferenceError, runtime::remote::connect::NotAllowed};

/// Deadline of a name lookup.
const LOOKUP: Duration = Duration::from_secs(5);

/// Attend `engine` until `shutdown`.
pub async fn attend(
    engine: External,
    options: Options,
    (name, backend): &(String, LocalBackend),
    activity: Arc<Activity>,
    view: &watch::Sender<EngineView>,
    shutdown: CancellationToken,
) {
    let attendant = Attendant {
        name: options.model_name(name).to_owned(),
        wanted: Limits::wanted(backend),
        engine,
        options,
        activity,
        view,
    };
    // The target's token goes with this future: nothing is read of the engine after the shutdown.
    shutdown.run_until_cancelled(attendant.run()).await;
}

struct Attendant<'a> {
    engine: External,
    options: Options,
    name: String,
    wanted: Limits,
    activity: Arc<Activity>,
    view: &'a watch::Sender<EngineView>,
}

impl Attendant<'_> {
    async fn run(&self) {
        loop {
            let error = self.serve().await;
            self.lost(error);
            sleep(self.options.timing.pause).await;
        }
    }

    /// Until it does not serve any more, or is found not to.
    async fn serve(&self) -> InferenceError {
        let gone = CancellationToken::new();
        let _cancelled = gone.clone().drop_guard();
        let prober = match self.prober().await {
            Ok(prober) => prober,
            Err(error) => return error,
        };
        if let Err(instead) = prober.look(&self.engine).await {
            return self.unreachable(&instead);
        }
        // One that is loading, or went away since, is looked up anew before it is asked again.
        let known = match prober.ready_now(&self.engine).await {
            Ok(known) => known,
            Err(error) => return error,
        };
        let target = Arc::new(prober.target(&known, self.wanted, gone));
        let places = target.parallel;
        tracing::info!(address = %target.address, context_length = target.context_length, "the engine is ready");
        self.view.send_replace(EngineView::Ready(target));
        prober.sick(&known, places, |_| ()).await
    }

    async fn prober(&self) -> Result<Prober, InferenceError> {
        Ok(Prober {
            address: self.look_up().await?,
            api_key: None,
            name: self.name.clone(),
            timing: self.options.timing,
            activity: Arc::clone(&self.activity),
        })
    }

    /// The address is looked up here and dialled as it is: no name can move to a refused one in between.
    async fn look_up(&self) -> Result<SocketAddr, InferenceError> {
        let (allowed, host) = (&self.options.allowed, &self.engine.host);
        let refused = |address, special| InferenceError::Forbidden {
            message: NotAllowed {
                host: host.clone(),
                address,
                special,
            }
            .to_string(),
        };
        if let Some(special) = allowed.refuses_name(host) {
            return Err(refused(None, special));
        }
        let found = match timeout(LOOKUP, lookup_host((host.as_str(), self.engine.port))).await {
            Ok(found) => found.map_err(|error| self.unreachable(&error.to_string()))?,
            Err(_) => return Err(self.unreachable("the name lookup takes too long")),
        };
        let mut special = None;
        for address in found {
            match allowed.refuses(address.ip()) {
                None => return Ok(address),
                Some(found) => special = Some((address.ip(), found)),
            }
        }
        Err(match special {
            Some((address, special)) => refused(Some(address), special),
            None => self.unreachable("the name has no address"),
        })
    }

    fn unreachable(&self, cause: &str) -> InferenceError {
        let External { host, port } = &self.engine;
        InferenceError::NetworkError {
            message: format!("the engine at {host}:{port} does not answer: {cause}"),
        }
    }

    /// Told once for as long as it stays the same.
    fn lost(&self, error: InferenceError) {
        let news = self.view.send_if_modified(|view| {
            let known = matches!(view, EngineView::Restarting(last) if last.kind() == error.kind());
            if !known {
                *view = EngineView::Restarting(error.clone());
            }
            !known
        });
        if news {
            tracing::warn!(
                kind = error.kind().as_str(),
                "the engine does not serve: {}",
                said(&error)
            );
        }
    }
}
