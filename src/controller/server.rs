//! `/livez`, `/readyz` and `/metrics`.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use crate::ports::{Bound, serve_probes};

/// Whether the process can do its work: a standby can, a leader when its caches are filled.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<AtomicBool>);

impl Health {
    /// Says so.
    pub fn set_ready(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }
}

#[derive(Clone)]
struct Shared {
    health: Health,
    metrics: Arc<Metrics>,
}

/// Serves on `address` until `stop`.
///
/// # Errors
/// When the address cannot be had.
pub async fn serve(
    address: SocketAddr,
    health: Health,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let bound = Bound::at(address, "probes and metrics").await?;
    let routes = Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(text))
        .with_state(Shared { health, metrics });
    Ok(serve_probes(bound, routes, stop))
}

async fn ready(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    if shared.health.0.load(Ordering::Acquire) {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the caches are being filled")
    }
}

async fn text(State(shared): State<Shared>) -> Result<([(&'static str, &'static str); 1], String), StatusCode> {
    let text = shared.metrics.text().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([("content-type", kind)], text))
}
