//! The pod's own engine beside the front.

use std::{env, future::pending, sync::Arc};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::ServeError;
use crate::{
    api::{Backend, LocalBackend, names},
    runtime::{
        backends::{Engine, Means},
        local::{self, Local, Termination},
    },
};

/// The supervised engine; an empty one where there is none.
#[derive(Debug, Default)]
pub struct Supervised {
    ended: Option<JoinHandle<Option<Termination>>>,
    shutdown: CancellationToken,
}

/// Starts the engine, if there is one. `model` is what clients call it where the environment does not say, `means` where keys are and what
/// addresses an engine elsewhere and a model's source may have, `hub` the address of the Hugging Face hub.
pub fn start(
    backend: Option<(String, LocalBackend)>,
    model: Option<&str>,
    means: &Means,
    hub: &str,
) -> Result<(Option<Engine>, Supervised), ServeError> {
    let Some(backend) = backend else {
        return Ok((None, Supervised::default()));
    };
    let mut options = local::Options::from_env()?;
    options.model = options.model.or_else(|| model.map(str::to_owned));
    options.allowed = means.allowed.clone();
    options.source.keys = means.keys.clone();
    hub.trim_end_matches('/').clone_into(&mut options.source.hub);
    let shutdown = CancellationToken::new();
    let Local {
        name: _,
        view,
        activity,
        gpu,
        hold,
        isolation,
        ended,
    } = local::spawn(options, backend, shutdown.clone());
    let supervised = Supervised {
        ended: Some(ended),
        shutdown,
    };
    Ok((
        Some(Engine {
            view,
            isolation,
            activity,
            gpu,
            hold: Arc::new(hold),
        }),
        supervised,
    ))
}

impl Supervised {
    /// Until the worker gives up; the exit code of the process. Never without an engine.
    pub async fn given_up(&mut self) -> u8 {
        let Some(ended) = &mut self.ended else {
            return pending().await;
        };
        let verdict = ended.await;
        self.ended = None;
        match verdict {
            Ok(Some(termination)) => {
                error!(reason = ?termination.reason, message = termination.message, "the engine was given up");
                termination.reason.exit_code()
            }
            Ok(None) => 0,
            Err(error) => {
                error!(%error, "the engine's supervisor failed");
                1
            }
        }
    }

    /// Ends the engine and waits until no process of it is left.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        if let Some(ended) = self.ended.take() {
            let _ = ended.await;
        }
    }
}

/// The pod's engine, from its own template: never from the watch (design section 4).
pub fn from_template() -> Result<Option<(String, LocalBackend)>, ServeError> {
    let Ok(text) = env::var(names::ENV_LOCAL_BACKEND) else {
        return Ok(None);
    };
    let backend: Backend = serde_json::from_str(&text).map_err(|error| ServeError::LocalBackend(error.to_string()))?;
    let Backend { name, local, remote: _ } = backend;
    let local = local.ok_or_else(|| ServeError::LocalBackend("it has no field local".into()))?;
    Ok(Some((name, local)))
}
