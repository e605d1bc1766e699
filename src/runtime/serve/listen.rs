//! Ports.

use std::net::SocketAddr;

use axum::serve::ListenerExt;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::ServeError;

/// A bound port.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    port: &'static str,
}

/// Binds an address and says which one it became.
pub async fn bind(address: SocketAddr, port: &'static str) -> Result<Bound, ServeError> {
    let failed = |error| ServeError::Listen { address, port, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    info!(port, address = %bound, "listening");
    Ok(Bound { listener, port })
}

/// Serves until `closing`, then finishes what is in flight.
pub fn serve(bound: Bound, router: axum::Router, closing: CancellationToken) -> JoinHandle<()> {
    let Bound { listener, port } = bound;
    // Without it every event of a stream would wait for the one before to be acknowledged.
    let listener = listener.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
    });
    tokio::spawn(async move {
        let served = axum::serve(listener, router)
            .with_graceful_shutdown(closing.cancelled_owned())
            .await;
        if let Err(error) = served {
            error!(port, %error, "the port failed");
        }
    })
}
