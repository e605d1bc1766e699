//! The admin port: probes, metrics, status. Never the client's port, never behind its access check.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use http::header;
use serde::Serialize;

use super::Front;
use crate::{
    api::{BackendReport, EngineStatus, InferenceDeploymentStatus},
    runtime::backends::{deployment_status, replica_news},
};

/// What the admin port shows; empty until the process is configured.
#[derive(Clone, Debug, Default)]
pub struct Admin(Arc<tokio::sync::OnceCell<Arc<Front>>>);

impl Admin {
    /// The process is configured.
    pub fn show(&self, front: Arc<Front>) {
        // Set once: a second front would be a defect, and the first one stays.
        let _ = self.0.set(front);
    }

    fn front(&self) -> Option<&Arc<Front>> {
        self.0.get()
    }
}

/// The service of the admin port.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .with_state(admin)
}

/// The service of the admin port of a pod that follows: it is ready as long as it runs, for whether its engine computes only the leader
/// knows. It counts nothing, but who scrapes all pods must not see it as one that is down.
pub fn follower() -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(|| async { "ok" }))
        .route(
            "/metrics",
            get(|| async { ([(header::CONTENT_TYPE, OPEN_METRICS)], "# EOF\n") }),
        )
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    match admin.front() {
        Some(front) if front.lifecycle.ready() => (StatusCode::OK, "ok"),
        Some(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "draining, or the engine has not answered yet",
        ),
        None => (StatusCode::SERVICE_UNAVAILABLE, "not configured yet"),
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

async fn metrics(State(admin): State<Admin>) -> Response {
    let Some(front) = admin.front() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "not configured yet").into_response();
    };
    match front.metrics.text(&front.registry) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The deployment's status as this process sees it, with its backends and engine.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    status: InferenceDeploymentStatus,
    ready: bool,
    backends: Vec<BackendReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<EngineStatus>,
}

async fn status(State(admin): State<Admin>) -> Response {
    let Some(front) = admin.front() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "not configured yet").into_response();
    };
    let replica = replica_news(&front.registry, "", front.lifecycle.ready()).status;
    Json(Shown {
        status: deployment_status(&front.registry),
        ready: replica.ready,
        backends: replica.backends,
        engine: replica.engine,
    })
    .into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use http::Request;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn who_follows_can_be_scraped() {
        let request = Request::get("/metrics").body(Body::empty()).unwrap();
        let (parts, body) = follower().oneshot(request).await.unwrap().into_parts();
        assert_eq!(parts.status, StatusCode::OK);
        assert_eq!(parts.headers[header::CONTENT_TYPE], OPEN_METRICS);
        assert_eq!(to_bytes(body, 100).await.unwrap(), "# EOF\n");
    }
}
